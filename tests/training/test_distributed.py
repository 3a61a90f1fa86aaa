"""Two processes on this machine's CPU (gloo), started as a user would: with torchrun."""

import json
import time

import pytest
from tiny_runs import options_of, start_python, tiny_config, tiny_settings

from mlvpt.training.loop import train

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(tiny_csv, tmp_path_factory):
    """One run in one process and in two, with early stop after the first worse epoch."""
    folder = tmp_path_factory.mktemp("distributed")
    changes = {"optim_epochs": 8, "optim_patience": 1, "optim_lr": 0.05, "data_skip_corrupt": True}
    # an unreadable image: the processes know different numbers of labels
    unknown = tiny_csv.with_name("unknown.csv")
    unknown.write_text(tiny_csv.read_text() + "train_gone.png,1,train\n")
    tiny_csv.with_name("train_gone.png").write_bytes(b"")
    settings = tiny_settings(unknown, **changes)
    words = ["-m", "mlvpt", "train", "--out", str(folder / "two"), *options_of(settings)]
    process = start_python(*TORCHRUN, *words)
    train(tiny_config(unknown, **changes), folder / "one", progress=False)
    output, errors = process.communicate(timeout=180)
    assert process.returncode == 0, output + errors
    return folder / "one", folder / "two", output + errors


def test_two_processes_follow_the_loss_of_one(runs):
    one, two = (lines(folder) for folder in runs[:2])
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], abs=1e-4)


def test_two_processes_stop_early_together(runs):
    one, two = (lines(folder) for folder in runs[:2])
    assert len(two) == len(one) < 8


def test_two_processes_measure_what_one_measures(runs):
    one, two = (
        json.loads((folder / "summary.json").read_text())["results"]["metrics"]["test"]
        for folder in runs[:2]
    )
    assert two["n_images"] == one["n_images"] == 10  # no duplicates of the sampler's padding
    assert two["mAP"] == pytest.approx(one["mAP"], abs=1e-3)


def test_only_one_process_writes_and_speaks(runs):
    _, two, text = runs
    assert text.count("model, metrics and summary are in") == 1
    assert text.count("epoch 1/") == 1
    assert not list(two.rglob(".*.tmp"))


DIES = """
import os, signal, sys
from mlvpt.cli import main as cli
from mlvpt.training import ema
update, calls = ema.EMA.update, []
def update_or_die(self):
    calls.append(1)
    if len(calls) == 3 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    update(self)
ema.EMA.update = update_or_die
sys.exit(cli.main(sys.argv[1:]))
"""


def test_run_ends_with_a_message_when_a_process_dies(tiny_csv, tmp_path):
    (tmp_path / "dies.py").write_text(DIES)
    options = options_of(tiny_settings(tiny_csv, optim_checkpoint_steps=1))
    words = [str(tmp_path / "dies.py"), "train", "--out", str(tmp_path / "run"), *options]
    began = time.monotonic()
    process = start_python(*TORCHRUN, *words)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert time.monotonic() - began < 110
    assert "another process of the run ended" in errors or "Signal 9 (SIGKILL)" in errors
    assert (tmp_path / "run" / "checkpoints" / "last.safetensors").is_file()
