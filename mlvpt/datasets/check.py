"""The gate before training: every unreadable image and every doubtful label, in one report.

What `check_splits` passes, training trains to its end. `require_trainable` is its part that opens
no image; a run calls it before its first step.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from mlvpt.datasets.base import MultiLabelDataset
from mlvpt.datasets.splits import Splits
from mlvpt.errors import InputError
from mlvpt.images import ImageError, state_of_file

MAX_UNREADABLE = 0.5  # share of a split's images that a run may skip
N_SAMPLED = 256  # images that are decoded to estimate it before a run
QUOTES = "\"'`´‘’“”„«»"


@dataclass(frozen=True)
class Problem:
    """A problem of a data set: what is wrong, where, and whether it stops a training run.

    Attributes:
        kind: a kind of `mlvpt.images.ImageError`, "duplicate image", "class name",
            "no positive label", "no negative label" or "unreadable images" (these stop a
            training run or make it wrong), or "similar class names", "class without positives",
            "class without negatives", "images without labels" (these are worth knowing).
        where: the image's path or id, the class name, or the name of the data set.
        detail: one sentence.
        fatal: whether it stops a training run.
    """

    kind: str
    where: str
    detail: str
    fatal: bool

    def __str__(self) -> str:
        return f"{'ERROR' if self.fatal else 'note'}: {self.kind}: {self.where}: {self.detail}"


def check_dataset(dataset: MultiLabelDataset, progress: bool = True) -> list[Problem]:
    """The problems of a data set, after opening every image and reading every label.

    Args:
        dataset: what a loader returns.
        progress: show a progress bar.

    Returns:
        Problems, fatal ones first, images in the order of the data set. Empty: nothing to fix.

    Example:
        >>> from mlvpt.datasets import load_scenes
        >>> check_dataset(load_scenes("val", n_images=20), progress=False)
        []
    """
    files, problems = _look_at_files(dataset)
    there = [index for index in range(len(dataset)) if index not in problems]
    problems |= _decode(dataset, there, progress)
    found = [problems[index] for index in sorted(problems)]
    found += _repeated(dataset, files) + _check_names(dataset.class_names)
    return sorted(found + _check_labels(dataset, set(problems)), key=lambda p: not p.fatal)


def check_splits(splits: Splits, progress: bool = True) -> dict[str, list[Problem]]:
    """The problems of every split, and of an image that is in two of them.

    Args:
        splits: training, validation and test images.
        progress: show a progress bar for each split.

    Returns:
        {"train", "val", and each test split: its problems}. If none is fatal, a run trains.
    """
    parts = splits.parts.items()
    found = {name: check_dataset(part, progress) for name, part in parts}
    shared = _shared({name: _look_at_files(part)[0] for name, part in parts})
    for name, problems in shared.items():
        found[name] = sorted(found[name] + problems, key=lambda p: not p.fatal)
    return found


def require_trainable(splits: Splits, *, skip_corrupt: bool = False, held_out: bool = True) -> None:
    """Refuse splits that cannot be trained on, before the first step and with every reason.

    Labels, class names and the presence of the files are checked, and no image is opened; with
    `skip_corrupt`, some are, because a run that skips most of its images trains on nothing.

    Args:
        splits: training, validation and test images.
        skip_corrupt: whether the run skips images that cannot be read; at most half of a split.
        held_out: False where the validation images are among the training images on purpose.

    Raises:
        InputError: names every kind of problem with its first example.
    """
    files, reasons = {}, [str(p.detail) for p in _check_names(splits.train.class_names) if p.fatal]
    for name, part in splits.parts.items():
        files[name], unreadable = _look_at_files(part)
        fatal = [] if skip_corrupt else list(unreadable.values())
        if skip_corrupt:
            fatal += _too_many_unreadable(part, unreadable)
        fatal += _repeated(part, files[name]) + _check_labels(part, set(unreadable))
        reasons += [f"{name}: {reason}" for reason in _by_kind(fatal)]
    if not held_out:
        del files["val"]
    shared = _shared(files)
    reasons += [f"{name}: {reason}" for name in shared for reason in _by_kind(shared[name])]
    if reasons:
        raise InputError(
            f"the data cannot be trained on: {'; '.join(reasons)} (`mlvpt check` shows all there "
            "is to mend)."
        )


def _by_kind(problems: Iterable[Problem]) -> list[str]:
    """A phrase for each kind of fatal problem: how many, and the first."""
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        if problem.fatal:
            kinds.setdefault(problem.kind, []).append(problem)
    return [
        f"{kind}: {found[0].where}: {found[0].detail}"
        + (f", and {len(found) - 1} more" if len(found) > 1 else "")
        for kind, found in kinds.items()
    ]


def _look_at_files(dataset: MultiLabelDataset) -> tuple[list[Any], dict[int, Problem]]:
    """The file of each image, whatever its spelling and links (None: no file); files at fault."""
    files: list[Any] = []
    problems: dict[int, Problem] = {}
    for index, path in enumerate(dataset.image_paths()):
        files.append(None)
        if path is None:
            continue
        try:
            status = state_of_file(path)
        except ImageError as error:
            problems[index] = _unusable(error, path)
        else:
            # one inode is one image: links, other cases and a/../b all lead to it
            inode = (status.st_dev, status.st_ino)
            files[-1] = inode if status.st_ino else os.path.realpath(path)
    return files, problems


def _decode(
    dataset: MultiLabelDataset, indices: Sequence[int], progress: bool
) -> dict[int, Problem]:
    """The images that cannot be decoded."""
    # Pillow decodes outside the interpreter's lock
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = pool.map(lambda index: _check_image(dataset, index), indices)
        bar = tqdm(found, total=len(indices), desc="check", unit="image", disable=not progress)
        return {i: problem for i, problem in zip(indices, bar, strict=True) if problem is not None}


def _check_image(dataset: MultiLabelDataset, index: int) -> Problem | None:
    try:
        dataset.load_image(index)
    except InputError as error:
        path = dataset.image_path(index)
        return _unusable(error, f"image {dataset.image_ids[index]}" if path is None else str(path))
    return None


def _unusable(error: InputError, where: str) -> Problem:
    """The problem of an unreadable image; its sentence does not repeat the path."""
    detail = str(error).removeprefix(where).replace(f" {where}", "", 1).strip(" :").rstrip(".")
    return Problem(getattr(error, "kind", "damaged"), where, detail, True)


def _too_many_unreadable(
    dataset: MultiLabelDataset, unreadable: dict[int, Problem]
) -> list[Problem]:
    """A problem if more than half of the images cannot be read; adds those found to `unreadable`.

    Files that are there are decoded too, in a sample of 256 at most.
    """
    there = [index for index in range(len(dataset)) if index not in unreadable]
    sample = there[:: -(-len(there) // N_SAMPLED)] if there else []
    damaged = _decode(dataset, sample, progress=False)
    unreadable |= damaged
    share = len(damaged) / max(len(sample), 1) * len(there) / len(dataset)
    share += 1 - len(there) / len(dataset)
    if share <= MAX_UNREADABLE:
        return []
    first = unreadable[min(unreadable)]
    about = "about " if len(sample) < len(there) else ""
    detail = (
        f"{about}{100 * share:.0f}% of its {len(dataset)} images cannot be read, and at most "
        f"{100 * MAX_UNREADABLE:.0f}% may be skipped (first: {first.where}: {first.detail})"
    )
    return [Problem("unreadable images", dataset.name, detail, True)]


def _repeated(dataset: MultiLabelDataset, files: list[Any]) -> list[Problem]:
    """Images that are in a data set twice: by their files, or by their ids if they have none."""
    if not any(dataset.image_paths()):
        counts = Counter(dataset.image_ids)
        return [
            Problem("duplicate image", name, f"it is in the data set {count} times", True)
            for name, count in counts.items()
            if count > 1
        ]
    first: dict[Any, int] = {}
    found = []
    for index, file in enumerate(files):
        before = first.setdefault(file, index) if file is not None else index
        if before != index:
            detail = f"it is the same file as {dataset.image_ids[before]}"
            found.append(Problem("duplicate image", dataset.image_ids[index], detail, True))
    return found


def _shared(files: dict[str, list[Any]]) -> dict[str, list[Problem]]:
    """Images that an earlier split holds too."""
    home: dict[Any, str] = {}
    found: dict[str, list[Problem]] = {}
    for name, of_split in files.items():
        counts = Counter(home[file] for file in of_split if file in home)
        found[name] = [
            Problem(
                "duplicate image",
                f"{count} images" if count > 1 else "1 image",
                f"in {other} and in {name}: take it out of one",
                True,
            )
            for other, count in counts.items()
        ]
        home.update({file: name for file in of_split if file is not None and file not in home})
    return found


def _check_names(names: Sequence[str]) -> list[Problem]:
    """Class names that are empty, hold stray quotes, or differ in case, spaces or marks alone."""
    problems = []
    alike: dict[str, str] = {}
    similar: dict[str, str] = {}
    for k, name in enumerate(names):
        key = unicodedata.normalize("NFKC", name)
        key = "".join(c for c in key if unicodedata.category(c) not in ("Cf", "Cc"))
        key = " ".join(key.split()).casefold()
        reason = None
        if not key:
            reason = f"class {k} of {len(names)} has the name {name!r}: name it, or remove it"
        elif name != name.strip():
            reason = f"the class name {name!r} begins or ends with a space: remove it"
        elif name[0] in QUOTES or name[-1] in QUOTES:
            reason = f"the class name {name!r} holds a stray quote: remove it"
        elif any(unicodedata.category(c) == "Cc" for c in name):
            reason = f"the class name {name!r} holds a control character: remove it"
        elif key in alike:
            reason = f"the class names {alike[key]!r} and {name!r} differ in spelling alone: make "
            reason += "them one, or rename one"
        if reason:
            problems.append(Problem("class name", name, reason, True))
        loose = re.sub(r"[\s_-]+", " ", key)
        if not reason and loose in similar:
            detail = f"it is almost {similar[loose]!r}: is it another class?"
            problems.append(Problem("similar class names", name, detail, False))
        alike.setdefault(key, name)
        similar.setdefault(loose, name)
    return problems


def _check_labels(dataset: MultiLabelDataset, unreadable: set[int]) -> list[Problem]:
    """Labels of the readable images that cannot be learnt or measured."""
    targets = dataset.targets
    if unreadable:
        targets = np.delete(targets, sorted(unreadable), axis=0)
    positive, negative = targets == 1, targets == 0
    positives, negatives = positive.sum(axis=0), negative.sum(axis=0)
    problems = []
    which = "readable image" if unreadable else "image"
    if not positives.any():
        unknown = "every label is unknown (-1 or blank)" if not negatives.any() else ""
        detail = unknown or f"no {which} has a label"
        detail += ", so nothing can be learnt or measured: label some, or take other images"
        problems.append(Problem("no positive label", dataset.name, detail, True))
    elif not negatives.any():
        detail = f"no {which} is known not to have a label: write 0 where a class is absent"
        problems.append(Problem("no negative label", dataset.name, detail, True))
    for k, name in enumerate(dataset.class_names if positives.any() else ()):
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
