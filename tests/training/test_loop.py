import errno
import json
import os
import signal
import warnings

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tiny_runs import options_of, start_python, tiny_config, tiny_settings

from mlvpt.errors import InputError, Stopped
from mlvpt.files import write_bytes
from mlvpt.training import checkpoint
from mlvpt.training import loop as training
from mlvpt.training.build import load_model
from mlvpt.training.config import OptimConfig
from mlvpt.training.console import StopSignals
from mlvpt.training.data import AugmentedImages, EpochBatches
from mlvpt.training.ema import EMA
from mlvpt.training.folder import RunFolder
from mlvpt.training.loop import train
from mlvpt.training.run import make_optimizer, make_schedule, process_state_kept


def last(folder):
    return checkpoint.load(RunFolder(folder).last)


def lines(folder):
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in history]


def assert_same_run(one, other):
    """Weights, averages, optimiser and random states equal bit for bit, and so do the metrics."""
    (tensors, state), (others, other_state) = last(one), last(other)
    assert tensors.keys() == others.keys()
    unequal = [name for name in tensors if not torch.equal(tensors[name], others[name])]
    assert unequal == []
    assert state["schedule"] == other_state["schedule"]
    assert lines(one) == lines(other)


@pytest.fixture(scope="module")
def straight(tiny_csv, tmp_path_factory):
    """Three epochs of five steps, never interrupted."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    train(tiny_config(tiny_csv, optim_epochs=3), folder, progress=False)
    return folder


def test_run_folder_holds_what_it_promises(tiny_run):
    names = {path.name for path in tiny_run.iterdir()} - {".lock"}
    assert names == {
        "config.json",
        "split.json",
        "metrics.jsonl",
        "checkpoints",
        "model",
        "probabilities.safetensors",
        "summary.json",
    }
    summary = json.loads((tiny_run / "summary.json").read_text())
    assert {"command", "commit", "seed", "device", "versions", "seconds", "peak_memory_mb"} < set(
        summary
    )
    assert set(summary["results"]["metrics"]) == {"val", "test"}
    assert [line["epoch"] for line in lines(tiny_run)] == [1, 2]


def test_best_epoch_is_chosen_on_val(straight):
    scores = [line["val_mAP"] for line in lines(straight)]
    summary = json.loads((straight / "summary.json").read_text())["results"]
    assert summary["best_epoch"] == 1 + int(np.argmax(scores))
    assert summary["metrics"]["val"]["mAP"] == pytest.approx(max(scores), abs=1e-12)


def test_saved_model_is_the_average_and_not_the_last_weights(tiny_csv, tmp_path):
    train(tiny_config(tiny_csv, optim_epochs=1), tmp_path / "run", progress=False)
    best, _ = checkpoint.load(RunFolder(tmp_path / "run").best)
    tensors, _ = last(tmp_path / "run")
    assert all(torch.equal(best[name], tensors[f"ema/{name}"]) for name in best)
    assert not all(torch.equal(best[name], tensors[f"model/{name}"]) for name in best)
    saved = load_model(tmp_path / "run").trained_state()
    assert all(torch.equal(best[name], saved[name]) for name in best)


def test_same_seed_gives_the_same_run(straight, tiny_csv, tmp_path):
    train(tiny_config(tiny_csv, optim_epochs=3), tmp_path / "again", progress=False)
    assert_same_run(straight, tmp_path / "again")


def test_workers_do_not_change_the_run(straight, tiny_csv, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about more workers than cores
        config = tiny_config(tiny_csv, optim_epochs=3, optim_workers=2)
        train(config, tmp_path / "run", progress=False)
    assert_same_run(straight, tmp_path / "run")


def test_cache_does_not_change_the_run(straight, tiny_csv, tmp_path):
    config = tiny_config(tiny_csv, optim_epochs=3, data_cache_gb=0.01)
    train(config, tmp_path / "run", progress=False)
    assert_same_run(straight, tmp_path / "run")


# A process kills itself with SIGKILL: {where} is a step within an epoch, or the moment between
# writing a checkpoint's temporary file and renaming it.
KILLED = """
import os, signal, sys
from mlvpt import files
from mlvpt.cli import main as cli
from mlvpt.training import ema
where, count = sys.argv[1], int(sys.argv[2])
def die_at(function):
    calls = 0
    def wrapped(*arguments):
        global count
        count -= 'last.safetensors' in str(arguments) if where == 'save' else 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return wrapped
if where == 'step':
    ema.EMA.update = die_at(ema.EMA.update)
else:
    os.replace = die_at(os.replace)
cli.main(sys.argv[3:])
"""


def test_killed_twice_and_resumed_equals_never_interrupted(straight, tiny_csv, tmp_path):
    run = tmp_path / "run"
    options = options_of(tiny_settings(tiny_csv, optim_epochs=3, optim_checkpoint_steps=2))
    # step 8 is the third of epoch 2; the last checkpoint is of step 6
    first = start_python("-c", KILLED, "step", "8", "train", "--out", str(run), *options)
    _, errors = first.communicate(timeout=120)
    assert first.returncode == -signal.SIGKILL, errors
    assert last(run)[1]["position"]["step"] == 6
    # resumed at 6, it saves at 8, 10, twice after epoch 2, and is killed while it saves at 12
    second = start_python("-c", KILLED, "save", "5", "train", "--resume", str(run))
    _, errors = second.communicate(timeout=120)
    assert second.returncode == -signal.SIGKILL, errors
    assert last(run)[1]["position"]["step"] == 10
    assert list((run / "checkpoints").glob(".*.tmp"))
    train(tiny_config(tiny_csv, optim_epochs=3), run, resume=True, progress=False)
    assert_same_run(straight, run)
    assert not list((run / "checkpoints").glob(".*.tmp"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_saves_after_the_step_and_the_run_continues_exactly(
    straight, tiny_csv, tmp_path, monkeypatch, number, code
):
    config = tiny_config(tiny_csv, optim_epochs=3)
    update, calls = EMA.update, []

    def update_and_signal(self):
        update(self)
        calls.append(1)
        if len(calls) == 7:
            signal.raise_signal(number)

    monkeypatch.setattr(EMA, "update", update_and_signal)
    with pytest.raises(Stopped, match=r"stopped by SIG.*continue with --resume") as stop:
        train(config, tmp_path / "run", progress=False)
    assert stop.value.exit_code == code
    assert last(tmp_path / "run")[1]["position"]["step"] in (7, 8)
    train(config, tmp_path / "run", resume=True, progress=False)
    assert_same_run(straight, tmp_path / "run")


def test_second_signal_does_not_wait_for_the_step():
    signals = StopSignals(lambda: "nothing is kept.")
    with signals.installed(), signals.deferred():
        signal.raise_signal(signal.SIGINT)
        assert signals.received == signal.SIGINT
        with pytest.raises(Stopped, match=r"stopped by SIGINT; nothing is kept\."):
            signal.raise_signal(signal.SIGINT)


def test_handlers_of_the_caller_come_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopSignals(str).installed():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_signal_during_evaluation_loses_nothing(straight, tiny_csv, tmp_path, monkeypatch):
    config = tiny_config(tiny_csv, optim_epochs=3)
    with monkeypatch.context() as patch:
        patch.setattr(training, "mean_ap", lambda *_: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Stopped, match="SIGTERM"):
            train(config, tmp_path / "run", progress=False)
    assert last(tmp_path / "run")[1]["position"] | {"loss_sum": 0} == {
        "epoch": 0, "batch": 5, "step": 5, "loss_sum": 0, "skipped": 0, "history": []
    }  # fmt: skip
    train(config, tmp_path / "run", resume=True, progress=False)
    assert_same_run(straight, tmp_path / "run")


def test_accumulation_resumes_exactly(tiny_csv, tmp_path, monkeypatch):
    config = tiny_config(tiny_csv, optim_accumulate=2, optim_checkpoint_steps=1)
    train(config, tmp_path / "straight", progress=False)
    save, calls = checkpoint.save, []

    def save_and_fail(*arguments):
        save(*arguments)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save_and_fail)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run", progress=False)
    train(config, tmp_path / "run", resume=True, progress=False)
    assert_same_run(tmp_path / "straight", tmp_path / "run")
    assert last(tmp_path / "run")[1]["position"]["step"] == 2 * 3  # five batches are three steps


def test_nan_loss_stops_and_names_step_and_checkpoint(tiny_csv, tmp_path):
    config = tiny_config(tiny_csv, optim_lr=1e30, optim_checkpoint_steps=1)
    with pytest.raises(Stopped, match=r"NaN at step \d+ .*checkpoint.*optim\.lr") as stop:
        train(config, tmp_path / "run", progress=False)
    assert stop.value.exit_code == 1


def test_checkpoint_never_holds_weights_that_are_not_finite(tiny_csv, tmp_path):
    config = tiny_config(tiny_csv, optim_lr=1e30, optim_checkpoint_steps=1)
    with pytest.raises(Stopped):
        train(config, tmp_path / "run", progress=False)
    path = RunFolder(tmp_path / "run").last
    weights = checkpoint.load(path)[0] if path.exists() else {}
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_full_disk_ends_the_run_with_a_sentence_and_resumes(
    straight, tiny_csv, tmp_path, monkeypatch
):
    config = tiny_config(tiny_csv, optim_epochs=3)
    calls = []

    def full_at_fifth(path, content):
        if str(path).endswith("last.safetensors"):
            calls.append(1)
            if len(calls) == 4:
                raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_bytes", full_at_fifth)
        with pytest.raises(InputError, match=r"No space left.*is intact"):
            train(config, tmp_path / "run", progress=False)
    train(config, tmp_path / "run", resume=True, progress=False)
    assert_same_run(straight, tmp_path / "run")


def test_folder_with_a_run_is_not_overwritten(tiny_run, tiny_csv):
    before = (tiny_run / "summary.json").read_text()
    with pytest.raises(InputError, match="already holds a run"):
        train(tiny_config(tiny_csv), tiny_run, progress=False)
    assert (tiny_run / "summary.json").read_text() == before


def test_complete_run_is_not_resumed(tiny_run, tiny_csv):
    with pytest.raises(InputError, match=r"is complete: see .*summary\.json"):
        train(tiny_config(tiny_csv), tiny_run, resume=True, progress=False)


@pytest.fixture
def half_run(tiny_csv, tmp_path, monkeypatch):
    """A run that was stopped after its first epoch."""
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_metrics", lambda *_: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Stopped):
            train(tiny_config(tiny_csv), tmp_path / "run", progress=False)
    return tmp_path / "run"


def test_changed_setting_is_refused_on_resume(half_run, tiny_csv):
    with pytest.raises(InputError, match=r"optim\.lr was 0\.005, is 0\.01"):
        train(tiny_config(tiny_csv, optim_lr=0.01), half_run, resume=True, progress=False)


def test_changed_labels_are_refused_on_resume(half_run, tiny_csv, tmp_path):
    text = tiny_csv.read_text().splitlines()
    name, _, split = text[1].split(",")
    other = tiny_csv.with_name("other.csv")
    other.write_text("\n".join([text[0], f"{name},0;1;2;3,{split}", *text[2:]]))
    with pytest.raises(InputError, match="the data changed"):
        train(tiny_config(other), half_run, resume=True, progress=False)


def test_other_backbone_weights_are_refused_on_resume(half_run, tiny_csv, monkeypatch):
    monkeypatch.setattr("mlvpt.training.folder.backbone_hash", lambda _: "another")
    with pytest.raises(InputError, match="weights of the backbone are not those"):
        train(tiny_config(tiny_csv), half_run, resume=True, progress=False)


def test_resume_without_a_run_is_refused(tiny_csv, tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        train(tiny_config(tiny_csv), tmp_path / "run", resume=True, progress=False)


@pytest.mark.parametrize("workers", [0, 1])
def test_corrupt_image_stops_training_with_one_sentence(tiny_csv, tmp_path, workers):
    bad = tiny_csv.with_name("train_zz.png")
    bad.write_bytes(b"no image")
    text = tiny_csv.read_text()
    other = tiny_csv.with_name("corrupt.csv")
    other.write_text(text + "train_zz.png,1,train\n")
    config = tiny_config(other, optim_batch_size=41, optim_workers=workers)
    with pytest.raises(InputError, match=r"^[^\n]*train_zz\.png[^\n]*$"):
        train(config, tmp_path / "run", progress=False)


def test_corrupt_image_is_skipped_and_counted_if_asked(tiny_csv, tmp_path):
    tiny_csv.with_name("train_zz.png").write_bytes(b"no image")
    other = tiny_csv.with_name("corrupt.csv")
    other.write_text(tiny_csv.read_text() + "train_zz.png,1,train\n")
    config = tiny_config(other, optim_batch_size=41, data_skip_corrupt=True)
    train(config, tmp_path / "run", progress=False)
    assert [line["skipped_images"] for line in lines(tmp_path / "run")] == [1, 1]


def test_patience_ends_the_run(tiny_csv, tmp_path, monkeypatch):
    scores = iter([0.5, 0.6, 0.4, 0.4, 0.9, 0.9])
    monkeypatch.setattr(training, "mean_ap", lambda *_: next(scores))
    config = tiny_config(tiny_csv, optim_epochs=6, optim_patience=2)
    summary = train(config, tmp_path / "run", progress=False)
    assert summary["results"]["epochs"] == 4
    assert summary["results"]["best_epoch"] == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"optim_ema": False, "optim_clip_grad": 0.1},
        {"optim_precision": "bf16"},
        {"optim_deterministic": True, "data_mean_std": "imagenet"},
        {"model_views": ["co"], "loss_kind": "focal"},
        {"model_group_source": "labels", "loss_kind": "bce"},
        {"model_group_source": "single"},
        {"model_group_source": "kmeans"},
        {"optim_batch_size": 64, "optim_epochs": 1},  # more than there are images
    ],
    ids=lambda changes: "-".join(f"{value}" for value in changes.values()),
)
def test_option_trains_to_a_summary(tiny_csv, tmp_path, changes):
    summary = train(tiny_config(tiny_csv, **changes), tmp_path / "run", progress=False)
    assert 0 < summary["results"]["metrics"]["test"]["mAP"] <= 1


def test_training_leaves_the_callers_deterministic_mode_and_accelerator_as_they_were(
    tiny_csv, tmp_path, monkeypatch
):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with process_state_kept():
        torch.use_deterministic_algorithms(True, warn_only=True)
        own = Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=3)
        config = tiny_config(tiny_csv, optim_epochs=1, optim_deterministic=True)
        train(config, tmp_path / "run", progress=False)
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert (own.mixed_precision, own.gradient_accumulation_steps) == ("bf16", 3)
        assert own.prepare(torch.nn.Linear(2, 2))(torch.zeros(1, 2)).shape == (1, 2)
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_training_that_is_refused_leaves_the_callers_deterministic_mode_as_it_was(
    tiny_csv, tmp_path
):
    config = tiny_config(tiny_csv, optim_precision="fp16", optim_deterministic=True)
    with pytest.raises(InputError):
        train(config, tmp_path / "run", progress=False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_fp16_on_a_cpu_is_refused_with_a_remedy(tiny_csv, tmp_path):
    with pytest.raises(InputError, match=r"optim\.precision fp16 .*use no or bf16"):
        train(tiny_config(tiny_csv, optim_precision="fp16"), tmp_path / "run", progress=False)


def test_without_progress_nothing_is_printed(tiny_csv, tmp_path, capfd):
    train(tiny_config(tiny_csv, optim_epochs=1), tmp_path / "run", progress=False)
    assert capfd.readouterr() == ("", "")


def test_log_has_a_line_per_epoch_and_the_table(tiny_csv, tmp_path, capfd):
    train(tiny_config(tiny_csv), tmp_path / "run", progress=True)
    text = capfd.readouterr().err
    assert [line.split()[1] for line in text.splitlines() if line.startswith("epoch")] == [
        "1/2",
        "2/2",
    ]
    assert "split" in text
    assert "\r" not in text


def test_average_leaves_the_wanted_share_of_the_start():
    parameter = torch.nn.Parameter(torch.ones(1))
    ema = EMA([("w", parameter)], EMA.decay_for(0.25, steps=10))
    parameter.data.zero_()
    for _ in range(10):
        ema.update()
    assert ema.average["w"].item() == pytest.approx(0.25, abs=1e-6)


def test_swapped_in_average_leaves_the_weights_bit_for_bit():
    parameter = torch.nn.Parameter(torch.randn(5))
    ema = EMA([("w", parameter)], 0.5)
    parameter.data.add_(1.0)
    ema.update()
    before = parameter.detach().clone()
    with ema.swapped_in():
        assert torch.equal(parameter, ema.average["w"])
    assert torch.equal(parameter, before)


def test_biases_and_norms_are_not_decayed():
    shapes = {"head.weight": (3, 4), "head.bias": (3,), "up_bias": (2, 1, 4), "norm.weight": (4,)}
    parameters = {name: torch.nn.Parameter(torch.ones(shape)) for name, shape in shapes.items()}
    optimizer = make_optimizer(parameters, OptimConfig(), torch.device("cpu"))
    decayed = [
        parameter
        for group in optimizer.param_groups
        for parameter in group["params"]
        if group["weight_decay"]
    ]
    assert [id(parameter) for parameter in decayed] == [id(parameters["head.weight"])]


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 10, 100])
def test_one_cycle_rises_and_falls_for_any_number_of_steps(steps):
    # torch divides by zero where the warm-up is exactly one step (5 steps at 20%)
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = make_optimizer({"w": parameter}, OptimConfig(), torch.device("cpu"))
    schedule = make_schedule(optimizer, OptimConfig(), steps)
    rates = [schedule.get_last_lr()[0]]
    for _ in range(steps - 1):
        optimizer.step()
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    assert all(0 < rate <= 5e-4 * (1 + 1e-9) for rate in rates)
    if steps >= 10:
        assert np.argmax(rates) == pytest.approx(0.2 * steps - 1, abs=1)


def test_order_of_an_epoch_is_a_function_of_seed_and_epoch():
    def order(seed, epoch, start=0):
        batches = EpochBatches(20, 6, 1, seed)
        batches.epoch, batches.start = epoch, start
        return list(batches)

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)
    assert order(0, 3, start=2) == order(0, 3)[2:]
    indices = [index for batch in order(0, 3) for _, index in batch]
    assert len(set(indices)) == len(indices) == 18


def test_processes_share_the_batches_of_one():
    one, two = EpochBatches(20, 6, 1, 0), EpochBatches(20, 6, 2, 0)
    shared = list(two)
    assert [shared[i] + shared[i + 1] for i in range(0, len(shared), 2)] == list(one)


def test_batch_that_processes_cannot_share_is_refused():
    with pytest.raises(InputError, match="choose a multiple of 2"):
        EpochBatches(20, 5, 2, 0)


def test_augmentation_is_a_function_of_seed_epoch_and_image(tiny_csv):
    from mlvpt.datasets import load_manifest
    from mlvpt.images import train_transform

    images = load_manifest(tiny_csv, split="train")
    augmented = AugmentedImages(images, train_transform("official", 48), (48, 48), seed=1)
    state = torch.get_rng_state()
    first = augmented[(0, 3)][0]
    assert torch.equal(torch.get_rng_state(), state)  # the loop's own stream is untouched
    torch.rand(1)
    assert torch.equal(augmented[(0, 3)][0], first)
    assert not torch.equal(augmented[(1, 3)][0], first)
