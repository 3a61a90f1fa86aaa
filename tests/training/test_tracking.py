"""A tracker of Accelerate's own kind gets every epoch, and changes no number of a run."""

import json

import pytest
from accelerate import tracking as accelerate_tracking
from accelerate.tracking import GeneralTracker
from accelerate.utils import LoggerType
from tiny_runs import tiny_config

from mlvpt.errors import InputError
from mlvpt.training.loop import train
from mlvpt.training.tracking import LOGGED


class Recorder(GeneralTracker):
    """In the place of wandb's; keeps what it is told."""

    name, requires_logging_directory, tracker = "wandb", False, None

    def __init__(self, project, **options):
        super().__init__()
        self.told = [("project", project, options["name"])]
        Recorder.last = self

    def store_init_configuration(self, values):
        self.told.append(("settings", values))

    def log(self, values, step=None):
        self.told.append((step, values))

    def finish(self):
        self.told.append("finished")


class Unreachable(Recorder):
    def start(self):
        raise RuntimeError("no account")


def put_in_place_of_wandb(monkeypatch, kind):
    monkeypatch.setitem(accelerate_tracking.LOGGER_TYPE_TO_CLASS, "wandb", kind)
    monkeypatch.setattr(accelerate_tracking, "_available_trackers", [LoggerType.WANDB])


def history(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def tracked_run(tiny_csv, tmp_path, monkeypatch):
    put_in_place_of_wandb(monkeypatch, Recorder)
    train(tiny_config(tiny_csv, optim_track="wandb"), tmp_path / "run", progress=False)
    return tmp_path / "run"


def test_a_tracker_is_told_the_settings_every_epoch_and_the_end(tracked_run):
    project, (_, settings), *epochs, end = Recorder.last.told
    assert project == ("project", "mlvpt", "run")
    assert settings["optim.lr"] == 5e-3
    assert settings["model.image_size"] == "None"  # trackers take numbers and text
    lines = history(tracked_run)
    assert epochs == [(line["step"], {name: line[name] for name in LOGGED}) for line in lines]
    assert end == "finished"


def test_a_run_with_a_tracker_has_the_numbers_of_one_without(tracked_run, tiny_run):
    for line, other in zip(history(tracked_run), history(tiny_run), strict=True):
        assert line.pop("images_per_second") > 0
        assert other.pop("images_per_second") > 0
        assert line == other


def test_a_tracker_that_is_not_installed_is_refused_before_the_run(tiny_csv, tmp_path, monkeypatch):
    monkeypatch.setattr(accelerate_tracking, "_available_trackers", [])
    config = tiny_config(tiny_csv, optim_track="wandb")
    with pytest.raises(InputError, match=r"wandb is not installed.*pip install -U wandb"):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_cannot_start_is_one_sentence(tiny_csv, tmp_path, monkeypatch):
    put_in_place_of_wandb(monkeypatch, Unreachable)
    config = tiny_config(tiny_csv, optim_track="wandb")
    with pytest.raises(InputError, match=r"wandb could not be started \(no account\)"):
        train(config, tmp_path / "run", progress=False)
