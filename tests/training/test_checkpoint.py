import errno
import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import start_python

from mlvpt.errors import InputError
from mlvpt.training import checkpoint


def test_checkpoint_returns_every_bit(tmp_path):
    tensors = {
        "a": torch.randn(3, 2),
        "b": torch.tensor(7),
        "c": torch.zeros(0),
        "d": torch.ones(2).bool(),
    }
    state = {"lr": 0.1 + 0.2, "nested": [1, None, {"x": 1e-310}]}
    checkpoint.save(tmp_path / "c.safetensors", tensors, state)
    loaded, loaded_state = checkpoint.load(tmp_path / "c.safetensors")
    assert loaded_state == state
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_damaged_checkpoint_is_refused(tmp_path, damage):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"a": torch.ones(100)}, {})
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
    path.write_bytes({"cut": content[:-8], "flip": content, "empty": b""}[damage])
    with pytest.raises(InputError, match=r"c\.safetensors (is damaged|was altered)"):
        checkpoint.load(path)


def test_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(InputError, match="there is no checkpoint"):
        checkpoint.load(tmp_path / "c.safetensors")


def test_full_disk_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"a": torch.ones(2)}, {"step": 1})

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"No space left on device.*checkpoint .* is intact"):
        checkpoint.save(path, {"a": torch.zeros(2)}, {"step": 2})
    monkeypatch.undo()
    assert checkpoint.load(path)[1] == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    leftover = tmp_path / "checkpoints" / ".last.safetensors.123.tmp"
    leftover.write_bytes(b"half")
    kept = tmp_path / "checkpoints" / "last.safetensors"
    kept.write_bytes(b"whole")
    checkpoint.remove_leftovers(tmp_path)
    assert kept.exists()
    assert not leftover.exists()


@pytest.mark.parametrize("fused", [False, True])
def test_optimiser_continues_bit_for_bit(tmp_path, fused):
    def make():
        torch.manual_seed(0)
        weights = {
            "w": torch.nn.Parameter(torch.randn(4, 3)),
            "b": torch.nn.Parameter(torch.randn(3)),
        }
        groups = [{"params": [weights["w"]]}, {"params": [weights["b"]], "weight_decay": 0.0}]
        return weights, torch.optim.AdamW(groups, lr=0.1, fused=fused)

    def steps(weights, optimizer, n):
        for _ in range(n):
            loss = sum((value**3).sum() for value in weights.values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    straight, optimizer = make()
    steps(straight, optimizer, 5)

    first, optimizer = make()
    steps(first, optimizer, 2)
    names = {value: name for name, value in first.items()}
    tensors, groups = checkpoint.pack_optimizer(optimizer, names)
    tensors |= {f"model/{name}": value.detach() for name, value in first.items()}
    checkpoint.save(tmp_path / "c.safetensors", tensors, {"groups": groups})

    second, optimizer = make()
    tensors, state = checkpoint.load(tmp_path / "c.safetensors")
    for name, value in second.items():
        value.data.copy_(tensors.pop(f"model/{name}"))
    names = {value: name for name, value in second.items()}
    checkpoint.unpack_optimizer(optimizer, names, tensors, state["groups"])
    steps(second, optimizer, 3)
    assert all(torch.equal(straight[name], second[name]) for name in straight)


def test_random_generators_continue_where_they_were(tmp_path):
    def draw():
        return random.random(), np.random.rand(), torch.rand(2).tolist()  # noqa: NPY002

    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        tensors, state = checkpoint.rng_state()
        checkpoint.save(tmp_path / "c.safetensors", tensors, state)
        expected = draw()
        checkpoint.set_rng_state(*checkpoint.load(tmp_path / "c.safetensors"))
        assert draw() == expected
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


HOLD = """
import sys, time
from mlvpt.training.checkpoint import run_lock
with run_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_lock_names_its_holder_and_dies_with_it(tmp_path):
    holder = start_python("-c", HOLD, str(tmp_path))
    try:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(InputError, match=f"in use by process {holder.pid}"),
            checkpoint.run_lock(tmp_path),
        ):
            pass
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    with checkpoint.run_lock(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
