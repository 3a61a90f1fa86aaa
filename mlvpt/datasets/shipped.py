"""The label statistics and label groups that ship with the package (mlvpt/data/README.md)."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from mlvpt.errors import InputError
from mlvpt.labels import LabelGroups

# name: (file, images counted, where the counts come from)
STATISTICS = {
    "voc2007": (
        "voc2007_trainval_cooccurrence.csv",
        5011,
        "PASCAL VOC2007 ImageSets/Main/*_trainval.txt, label 1 only",
    ),
    "coco2014": (
        "coco2014_train_cooccurrence.csv",
        82081,
        "COCO2014 training set, images with at least one label",
    ),
    "clothing": (
        "clothing_train_cooccurrence.csv",
        1498,
        "Clothing Co-Parsing, training part of a random split, tags of 40 or more images in all",
    ),
}
AUTHORS = ("voc2007", "coco2014")  # the authors' groups of these ship with the package


@dataclass(frozen=True, eq=False)
class LabelStatistics:
    """Label counts of a training set.

    Attributes:
        counts: (K, K) int64 co-occurrence counts, read-only.
        class_names: K names.
        n_images: images counted.
        source: where the counts come from.
    """

    counts: np.ndarray
    class_names: tuple[str, ...]
    n_images: int
    source: str


def label_statistics(name: str) -> LabelStatistics:
    """The shipped label counts of "voc2007" (trainval), "coco2014" (train) or "clothing" (train).

    Raises:
        InputError: another name.

    Example:
        >>> voc = label_statistics("voc2007")
        >>> voc.n_images, voc.class_names[14], voc.counts[14, 14].item()
        (5011, 'person', 2008)
    """
    if name not in STATISTICS:
        raise InputError(
            f"There are no label statistics for {name!r}; shipped are {', '.join(STATISTICS)}."
        )
    file_name, n_images, source = STATISTICS[name]
    with resources.as_file(resources.files("mlvpt.data") / file_name) as path:
        counts, names = read_counts(path)
    counts.setflags(write=False)
    return LabelStatistics(counts, names, n_images, source)


def read_counts(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """(K, K) int64 counts and K class names from a CSV file: a header of names, a row per class.

    A first column of names, as in the packaged files, is allowed.

    Raises:
        InputError: the file is no such table; its rows and columns must be of the same length.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = [row for row in csv.reader(file) if row]
    except ValueError as error:  # not UTF-8, or no line at all
        raise InputError(
            f"{path} holds no header of names ({error}): give a UTF-8 CSV whose first line is the "
            "class names."
        ) from None
    skip = int([row[0] for row in rows] == header[1:])  # a first column that repeats the names
    names = header[skip:]
    try:
        counts = np.array([row[skip:] for row in rows], dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{path} holds no matrix of counts ({error}).") from None
    if counts.shape != (len(names), len(names)) or (counts % 1).any():
        raise InputError(
            f"{path} must hold a header of K names and K rows of K whole numbers, got "
            f"{len(names)} names and {len(rows)} rows."
        )
    return counts.astype(np.int64), tuple(names)


def authors_groups(name: str, n_groups: int) -> LabelGroups:
    """The groups that the authors of ML-VPT released for "voc2007" or "coco2014".

    Args:
        name: "voc2007" or "coco2014".
        n_groups: 2, 3, 5, 8 or 13.

    Raises:
        InputError: another name or number.

    Example:
        >>> authors_groups("voc2007", 2).n_classes
        20
    """
    if name not in AUTHORS:
        raise InputError(f"There are no groups of the authors for {name!r}: {', '.join(AUTHORS)}.")
    file = resources.files("mlvpt.data") / f"{name}_authors_groups.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    released = content["groups_by_number_of_groups"]
    if str(n_groups) not in released:
        raise InputError(
            f"The authors released {', '.join(released)} groups for {name}, not {n_groups}."
        )
    co, dc = (np.empty(len(content["classes"]), dtype=np.int64) for _ in range(2))
    for view, groups in ((co, "co"), (dc, "dc")):
        for number, members in enumerate(released[str(n_groups)][groups]):
            view[members] = number
    return LabelGroups(co, dc, n_groups, content["classes"])


def authors_groups_of(class_names: Sequence[str], n_groups: int) -> LabelGroups:
    """The authors' groups for a data set with these classes, in whatever order.

    Args:
        class_names: K names: those of VOC2007 or COCO2014.
        n_groups: 2, 3, 5, 8 or 13.

    Raises:
        InputError: the authors released no groups of these classes, or not so many.

    Example:
        >>> names = label_statistics("voc2007").class_names[::-1]
        >>> authors_groups_of(names, 2).class_names[0]
        'tvmonitor'
    """
    for name in AUTHORS:
        released = authors_groups(name, n_groups)
        if set(released.class_names) == set(class_names):
            order = [released.class_names.index(each) for each in class_names]
            return LabelGroups(released.co[order], released.dc[order], n_groups, class_names)
    raise InputError(
        f"The authors released groups of the classes of {' and '.join(AUTHORS)} alone: take "
        "another model.group_source."
    )
