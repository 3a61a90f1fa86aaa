"""The check of a data set before training: every unreadable image and doubtful label at once."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import UnidentifiedImageError
from tqdm import tqdm

from mlvpt.datasets.base import MultiLabelDataset
from mlvpt.errors import InputError


@dataclass(frozen=True)
class Problem:
    """A problem of a data set: what is wrong, where, and whether it stops a training run.

    Attributes:
        kind: "missing", "empty file", "not an image", "truncated", "duplicate image" (these stop
            a training run or make it wrong), or "class without positives", "class without
            negatives", "images without labels" (these are worth knowing).
        where: the image's path or id, or the class name.
        detail: one sentence.
        fatal: whether it should stop a training run.
    """

    kind: str
    where: str
    detail: str
    fatal: bool

    def __str__(self) -> str:
        return f"{'ERROR' if self.fatal else 'note'}: {self.kind}: {self.where}: {self.detail}"


def check_dataset(
    dataset: MultiLabelDataset, progress: bool = True, workers: int | None = None
) -> list[Problem]:
    """The problems of a data set, after opening every image and reading every label.

    Args:
        dataset: what a loader returns.
        progress: show a progress bar.
        workers: threads that decode images; default: one for each processor, at most 8.

    Returns:
        Problems, fatal ones first, images in the order of the data set. Empty: nothing to fix.

    Example:
        >>> from mlvpt.datasets import load_scenes
        >>> check_dataset(load_scenes("val", n_images=20), progress=False)
        []
    """
    workers = workers or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:  # Pillow decodes outside the interpreter's lock
        found = pool.map(lambda i: _check_image(dataset, i), range(len(dataset)))
        bar = tqdm(found, total=len(dataset), desc="check", unit="image", disable=not progress)
        problems = [problem for problem in bar if problem is not None]
    for image_id, count in Counter(dataset.image_ids).items():
        if count > 1:
            problems.append(
                Problem("duplicate image", image_id, f"it is in the data set {count} times", True)
            )
    return problems + _check_labels(dataset)


def _check_image(dataset: MultiLabelDataset, index: int) -> Problem | None:
    path = dataset.image_path(index)
    where = str(path) if path is not None else f"image {dataset.image_ids[index]}"
    if path is not None and not path.is_file():
        return Problem("missing", where, "there is no such file", True)
    if path is not None and path.stat().st_size == 0:
        return Problem("empty file", where, "it has 0 bytes", True)
    try:
        dataset.load_image(index)
    except InputError as error:
        cause = error.__cause__
        unknown = isinstance(cause, UnidentifiedImageError)
        kind = "not an image" if unknown else "truncated"
        return Problem(kind, where, str(cause or error), True)
    return None


def _check_labels(dataset: MultiLabelDataset) -> list[Problem]:
    positives = (dataset.targets == 1).sum(axis=0)
    negatives = (dataset.targets == 0).sum(axis=0)
    problems = []
    for k, name in enumerate(dataset.class_names):
        if positives[k] == 0:
            detail = "no image has this label; its AP is undefined"
            problems.append(Problem("class without positives", name, detail, False))
        elif negatives[k] == 0:
            detail = "no image is known not to have this label (blank cells are 'not known')"
            problems.append(Problem("class without negatives", name, detail, False))
    unlabelled = np.flatnonzero(~(dataset.targets == 1).any(axis=1))
    if len(unlabelled):
        first = ", ".join(dataset.image_ids[i] for i in unlabelled[:3])
        detail = f"{len(unlabelled)} of {len(dataset)} images have no label (first: {first})"
        problems.append(Problem("images without labels", dataset.name, detail, False))
    return problems
