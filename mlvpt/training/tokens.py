"""Tokens that no prompt touches, made once and kept on disk.

Blocks below the first prompts are frozen and do not know what is trained. Where images are not
augmented their output is the same in every epoch, every run and for every method, so it is made
once: training prompts in the last block of twelve then costs a twelfth.

A folder holds one kind of tokens: of one backbone's weights, up to one block, at one image size.
tokens.bin is float32, image after image; index.json says which image is where.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from mlvpt.backbones import backbone_hash
from mlvpt.datasets import MultiLabelDataset, Splits
from mlvpt.errors import InputError
from mlvpt.files import read_json, write_json
from mlvpt.images import eval_transform, normalize
from mlvpt.prompts import lower_tokens, token_shape
from mlvpt.training.checkpoint import run_lock

BATCH = 64  # images through the frozen blocks at a time
STORED = 1024  # images between two writes: what a kill may cost


class KeptTokens:
    """A data set whose images are tokens: what training and evaluation read of one, no pixels.

    Attributes:
        targets, class_names, image_ids, name: those of the data set it stands for.
    """

    def __init__(self, dataset: MultiLabelDataset, tokens: np.ndarray, rows: list[int]) -> None:
        self.targets, self.class_names = dataset.targets, dataset.class_names
        self.image_ids, self.name = dataset.image_ids, dataset.name
        self._tokens, self._rows = tokens, rows

    def __len__(self) -> int:
        return len(self._rows)

    def load_image(self, index: int) -> Tensor:
        """(T, D) float32: the tokens of one image before the first prompted block."""
        return torch.from_numpy(np.array(self._tokens[self._rows[index]]))


def keep_tokens(
    datasets: list[MultiLabelDataset], model: Any, folder: str | Path, *, progress: bool = True
) -> list[KeptTokens]:
    """Make the tokens of all images that the folder does not hold yet, and read them from it.

    Args:
        datasets: of images.
        model: a classifier, on the device that is to make the tokens.
        folder: of all kept tokens; each kind has a folder of its own inside.
        progress: show a bar while tokens are made.

    Returns:
        A KeptTokens per data set.

    Raises:
        InputError: every block depends on what is trained, or an image cannot be read.
    """
    if model.n_frozen_blocks == 0:
        raise InputError(
            "data.token_cache: every block of this method depends on what is trained, so there are "
            "no tokens to keep. Give model.depth a number of last blocks, or drop the cache."
        )
    home = Path(folder) / _kind(model)
    shape = token_shape(model.vit)
    with run_lock(home, wait=True):  # runs side by side share what the first of them makes
        index = _read_index(home)
        keys = [[_image_key(dataset, i) for i in range(len(dataset))] for dataset in datasets]
        missing = {
            key: (dataset, i)
            for dataset, found in zip(datasets, keys, strict=True)
            for i, key in enumerate(found)
            if key not in index
        }
        waiting = list(missing)
        with tqdm(total=len(waiting), unit="img", desc="tokens", disable=not progress) as bar:
            for start in range(0, len(waiting), STORED):
                chunk = waiting[start : start + STORED]
                tokens = _tokens(model, [missing[key] for key in chunk], bar)
                _append(home / "tokens.bin", tokens, len(index))
                index |= {key: len(index) + n for n, key in enumerate(chunk)}
                write_json(home / "index.json", index)
    tokens = np.memmap(home / "tokens.bin", np.float32, "r", shape=(len(index), *shape))
    return [
        KeptTokens(dataset, tokens, [index[key] for key in found])
        for dataset, found in zip(datasets, keys, strict=True)
    ]


def kept(splits: Splits, model: Any, folder: str | Path, progress: bool) -> Splits:
    """The splits with tokens in place of images."""
    train, val, *tests = keep_tokens(
        [splits.train, splits.val, *splits.tests.values()], model, folder, progress=progress
    )
    return Splits(train, val, dict(zip(splits.tests, tests, strict=True)))


@torch.no_grad()
def _tokens(model: Any, images: list[tuple[MultiLabelDataset, int]], bar: Any) -> np.ndarray:
    """(n, T, D) float32 tokens of (data set, index) pairs."""
    transform = eval_transform(model.image_size)
    device, parts = next(model.parameters()).device, []
    for start in range(0, len(images), BATCH):
        chunk = images[start : start + BATCH]
        pixels = torch.stack([transform(dataset.load_image(i)) for dataset, i in chunk])
        batch = normalize(pixels.to(device), model.mean, model.std)
        tokens = lower_tokens(model.vit, batch, model.n_frozen_blocks)
        parts.append(tokens.float().cpu().numpy())
        bar.update(len(chunk))
    return np.concatenate(parts)


def _append(path: Path, tokens: np.ndarray, n_before: int) -> None:
    """Write tokens behind those of the index; what a killed process left behind them goes."""
    with path.open("ab") as file:
        file.truncate(n_before * tokens[0].nbytes)
        file.write(tokens.tobytes())
        file.flush()
        os.fsync(file.fileno())


def _read_index(home: Path) -> dict[str, int]:
    path = home / "index.json"
    if not path.exists():
        return {}
    index = read_json(path, "the index of kept tokens", {str: int})
    if sorted(index.values()) != list(range(len(index))):
        raise InputError(f"{path} is no index of kept tokens: remove the folder {home}.")
    return index


def _kind(model: Any) -> str:
    """The name of a kind of tokens: everything that decides them but the image."""
    (height, width), first = model.image_size, model.n_frozen_blocks
    parts = [backbone_hash(model.vit, first), first, height, width]
    text = json.dumps([*parts, list(model.mean), list(model.std)])
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"block{first}_{height}x{width}_{digest}"


def _image_key(dataset: MultiLabelDataset, index: int) -> str:
    """What an image is known by: its file, with size and time of change, or its pixels."""
    path = dataset.image_path(index)
    if path is None:
        content = np.asarray(dataset.load_image(index)).tobytes()
    else:
        try:
            state = path.stat()
        except OSError as error:
            raise InputError(f"there is no image file {path}: check the path.") from error
        content = f"{path.resolve()}:{state.st_size}:{state.st_mtime_ns}".encode()
    return hashlib.sha256(content).hexdigest()[:24]
