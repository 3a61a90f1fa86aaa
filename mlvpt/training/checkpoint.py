"""Checkpoints that survive a kill at any moment, and the lock of a run folder.

A checkpoint is one safetensors file: the tensors, and everything else as JSON in its header, so
that the two cannot disagree. No pickle. It is written beside its place, flushed and renamed: a
reader finds the old file or the new one, never half of one.
"""

import hashlib
import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from mlvpt.errors import InputError
from mlvpt.files import write_bytes

LEFTOVERS = ".*.[0-9]*.tmp"  # how files.atomic_path names what is not finished


def save(path: str | Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: the file; an older one there is replaced.
        tensors: {name: tensor} on any device.
        state: what JSON can hold. Floats keep every bit.

    Raises:
        InputError: the file cannot be written, as on a full disk; an older one is intact.
    """
    path = Path(path)
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    text = json.dumps(state)
    content = to_bytes(tensors, metadata={"state": text, "sha256": _digest(tensors, text)})
    try:
        write_bytes(path, content)
    except OSError as error:
        intact = f"the last good checkpoint {path} is intact"
        kept = intact if path.exists() else "there is none yet"
        raise InputError(
            f"the checkpoint {path} could not be written ({error.strerror}): {kept}; "
            "make room and continue with --resume."
        ) from error


def load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint.

    Returns:
        The tensors by name, on the CPU, and the state.

    Raises:
        InputError: the file is missing, damaged or altered.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}: nothing to resume from.")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"the checkpoint {path} is damaged ({error}).") from None
    if "state" not in header or header.get("sha256") != _digest(tensors, header["state"]):
        raise InputError(f"the checkpoint {path} was altered after it was written.")
    return tensors, json.loads(header["state"])


def read_state(path: str | Path) -> dict[str, Any]:
    """The state in a checkpoint alone, which costs no time; its checksum is not compared.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"the checkpoint {path} is damaged ({error}).") from None
    return state if isinstance(state, dict) else {}


def copy_weights(
    parameters: dict[str, nn.Parameter], weights: dict[str, Tensor], path: str | Path
) -> None:
    """Put the weights of a checkpoint into the parameters of the same names.

    Raises:
        InputError: it has others, or of other shapes: it is of another run.
    """
    fits = weights.keys() == parameters.keys() and all(
        weights[name].shape == parameter.shape for name, parameter in parameters.items()
    )
    if not fits:
        raise InputError(f"the checkpoint {path} is of another run: restore the one of this run.")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def remove_leftovers(folder: str | Path) -> None:
    """Delete the temporary files that a killed process left; call it holding the lock."""
    for leftover in Path(folder).rglob(LEFTOVERS):
        leftover.unlink(missing_ok=True)


def pack_optimizer(
    optimizer: torch.optim.Optimizer, names: dict[nn.Parameter, str]
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """An optimiser's state as tensors by parameter name, and its groups' settings.

    Args:
        optimizer: of parameters that `names` knows.
        names: {parameter: name}.

    Returns:
        {"name/exp_avg": tensor, ...} and a JSON-able dict per parameter group.
    """
    tensors = {
        f"{names[parameter]}/{key}": value
        for parameter, slots in optimizer.state.items()
        for key, value in slots.items()
    }
    groups = [
        {key: value for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
    ]
    return tensors, groups


def unpack_optimizer(
    optimizer: torch.optim.Optimizer,
    names: dict[nn.Parameter, str],
    tensors: dict[str, Tensor],
    groups: list[dict[str, Any]],
) -> None:
    """Put back what `pack_optimizer` took out, bit for bit."""
    by_name = {name: parameter for parameter, name in names.items()}
    for key, value in tensors.items():
        name, slot = key.rsplit("/", 1)
        parameter = by_name[name]
        # a plain AdamW keeps its step counter on the CPU, a fused one beside the parameter
        on_cpu = slot == "step" and not optimizer.param_groups[0].get("fused")
        device = torch.device("cpu") if on_cpu else parameter.device
        optimizer.state[parameter][slot] = value.to(device)
    for group, saved in zip(optimizer.param_groups, groups, strict=True):
        # JSON has no tuples
        group.update({k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()})


def rng_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State of every random generator in use: Python, NumPy, torch and the accelerators."""
    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"cuda.{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - libraries draw from this one
    tensors["numpy"] = torch.from_numpy(keys.astype(np.int64))
    return tensors, {"python": random.getstate(), "numpy": [kind, *rest]}


def set_rng_state(tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Put back what `rng_state` took."""
    torch.set_rng_state(tensors["torch"])
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda.{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda.{i}"], i)
    kind, *rest = state["numpy"]
    np.random.set_state((kind, tensors["numpy"].numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


@contextmanager
def run_lock(folder: str | Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a run folder for one process.

    The operating system releases the lock when the process ends, however it ends, so a lock can
    never be stale. Processes that this one forks, such as data workers, do not inherit it.

    Args:
        folder: made if it is not there.
        wait: until the process that holds it lets go, instead of raising.

    Raises:
        InputError: another process holds it; names its process id.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as file:
        try:
            _lock(file, wait)
        except OSError:
            file.seek(0)
            raise InputError(
                f"the run folder {folder} is in use by process {file.read().strip() or 'unknown'}: "
                "wait for it or choose another folder."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _lock(file: Any, wait: bool) -> None:
    try:
        import fcntl
    except ImportError:  # Windows has no such lock: two runs in one folder are the user's care
        return
    fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
