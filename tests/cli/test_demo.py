"""The demo: what a newcomer sees first."""

from pathlib import Path

import pytest

from mlvpt import results
from mlvpt.cli.demo import METHODS, _fresh_folder, demo
from mlvpt.cli.main import main
from mlvpt.studies.ablations import best_runs, change, scenes_base

FIGURES = ("samples", "affinity_co", "affinity_dc", "gates_co", "gates_dc", "attention")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Rows and folder of a demo on few scenes."""
    out = tmp_path_factory.mktemp("demo")
    base = change(scenes_base(), {"optim.epochs": 1, "data.n_images": 128})
    return demo(out, base, progress=False), out


def test_both_methods_are_trained_and_scored_on_both_test_splits(shown):
    rows, _ = shown
    assert [row["method"] for row in rows] == ["ML-VPT", "VPT-deep"]
    assert all(0 < row[split] < 1 for row in rows for split in ("test", "test_shifted"))
    assert all(row["parameters"] > 0 and row["seconds"] > 0 for row in rows)


@pytest.mark.parametrize("changes", METHODS.values(), ids=METHODS)
def test_each_method_runs_at_its_best_recorded_learning_rate(changes):
    job, _ = best_runs(scenes_base(), Path(results.__file__).parent)[changes["model.method"]]
    assert changes["optim.lr"] == job.config.optim.lr


def test_every_figure_is_written(shown):
    _, out = shown
    assert sorted(path.stem for path in out.glob("*.png")) == sorted(FIGURES)


def test_a_folder_of_runs_that_no_demo_made_is_left_alone(tmp_path, capsys):
    own = tmp_path / "runs" / "mlvpt" / "config.json"
    own.parent.mkdir(parents=True)
    own.write_text("{}")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "holds no mark of a demo" in capsys.readouterr().err
    assert own.exists()


def test_the_runs_of_an_earlier_demo_are_made_anew(tmp_path):
    folder = _fresh_folder(tmp_path / "runs")
    (folder / "old").touch()
    assert [path.name for path in _fresh_folder(folder).iterdir()] == [".made_by_mlvpt_demo"]


def test_no_epochs_is_refused_in_one_line(capsys):
    assert main(["demo", "--epochs", "0"]) == 2
    assert "train for at least one" in capsys.readouterr().err
