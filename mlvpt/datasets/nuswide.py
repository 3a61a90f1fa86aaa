"""NUS-WIDE: Flickr images with 81 concepts."""

import os
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np

from mlvpt.datasets.base import MultiLabelDataset
from mlvpt.datasets.image_files import ImageFiles, first_existing, require
from mlvpt.errors import InputError

# More damaged labels than this in one file mean a damaged file, not the known slip of the pen.
MAX_DAMAGED_LABELS = 10


def load_nuswide(
    root: str | Path, split: str = "train", missing: str = "skip", empty: str = "drop"
) -> MultiLabelDataset:
    """NUS-WIDE with its 81 manually annotated concepts and its own train/test lists.

    ```
    root/
      ConceptsList/Concepts81.txt                          (or Concepts81.txt)
      ImageList/TrainImagelist.txt, TestImagelist.txt      "actor\\0001_2124494179.jpg" a line
      Groundtruth/TrainTestLabels/Labels_airport_Train.txt ... (or TrainTestLabels/...)
      Flickr/actor/0001_2124494179.jpg ...                 (or images/...)
    ```
    The lists name 161,789 train and 107,859 test images (269,648 in all; 209,347 of them have at
    least one of the 81 labels). The images are given out on request only, and copies differ in
    how many are left: numbers measured on different copies do not compare.

    One label of the official release is damaged: line 78,372 of Labels_lake_Train.txt reads
    -1130179. A value other than 0 and 1 becomes -1 (ignored), with a warning that names it.

    Args:
        root: the folder above.
        split: "train" or "test".
        missing: listed images whose file is not there are counted and the first few named in a
            warning, and left out ("skip"); "keep" keeps them without looking, for work on labels
            alone.
        empty: "drop" leaves out images without any of the 81 labels, "keep" keeps them.

    Returns:
        A data set with `.targets` (N, 81) int8 in {1, 0}, -1 for a damaged label; classes in the
        order of Concepts81.txt; image ids are the listed paths with forward slashes.

    Raises:
        InputError: a list is missing or of the wrong length (named), or no image is there at all.

    Source: Chua et al., CIVR 2009.
    """
    for value, name, known in (
        (split, "split", ("train", "test")),
        (missing, "missing", ("skip", "keep")),
        (empty, "empty", ("drop", "keep")),
    ):
        if value not in known:
            raise InputError(f"{name} must be one of {', '.join(known)}, not {value!r}.")
    root, part = Path(root), split.capitalize()
    concepts = first_existing(root, ["ConceptsList/Concepts81.txt", "Concepts81.txt"])
    class_names = _lines(require(concepts, "the concept list of NUS-WIDE", "nuswide"))
    listed = first_existing(root, [f"ImageList/{part}Imagelist.txt", f"{part}Imagelist.txt"])
    # the lists come from Windows
    names = [line.replace("\\", "/") for line in _lines(require(listed, "the list", "nuswide"))]
    folder = first_existing(root, ["Groundtruth/TrainTestLabels", "TrainTestLabels"])
    require(folder, "the labels of NUS-WIDE", "nuswide")
    targets = np.empty((len(names), len(class_names)), np.int8)
    for k, concept in enumerate(class_names):
        targets[:, k] = _read_labels(folder / f"Labels_{concept}_{part}.txt", len(names))

    images = first_existing(root, ["Flickr", "images"])
    keep = np.ones(len(names), bool)
    if missing != "keep":
        keep &= _present(images, names)
        _report_missing(images, names, ~keep)
    if empty == "drop":
        keep &= (targets == 1).any(axis=1)
    kept = np.flatnonzero(keep)
    names = [names[i] for i in kept]
    return MultiLabelDataset(
        targets=targets[kept],
        class_names=class_names,
        images=ImageFiles([images], names),
        image_ids=names,
        name=f"NUS-WIDE {split}",
    )


def _lines(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    return [line for line in lines if line]


def _read_labels(path: Path, n_images: int) -> np.ndarray:
    """(N,) int8 of one label file, one 0 or 1 a line; anything else becomes -1."""
    text = require(path, "a label file of NUS-WIDE", "nuswide").read_bytes()
    digits = np.frombuffer(text.translate(None, b" \t\r\n"), np.uint8)
    if len(digits) == n_images and np.isin(digits, (ord("0"), ord("1"))).all():
        return (digits == ord("1")).astype(np.int8)

    values = [line.strip() for line in text.splitlines() if line.strip()]
    if len(values) != n_images:
        raise InputError(
            f"{path} has {len(values)} labels but the image list has {n_images} images: the two "
            "must come from one release; unpack them again."
        )
    damaged = [i for i, value in enumerate(values) if value not in (b"0", b"1")]
    first = f"line {damaged[0] + 1}: {values[damaged[0]].decode(errors='replace')!r}"
    if len(damaged) > MAX_DAMAGED_LABELS:
        raise InputError(f"{path} has {len(damaged)} values that are not 0 or 1 (first {first}).")
    warnings.warn(
        f"{path.name}: {len(damaged)} labels are not 0 or 1 and are ignored ({first})", stacklevel=3
    )
    return np.array([{b"0": 0, b"1": 1}.get(value, -1) for value in values], np.int8)


def _present(folder: Path, names: list[str]) -> np.ndarray:
    """(N,) bool: which files exist. One listing per folder: 270,000 look-ups would take minutes
    on a network disk."""
    by_folder: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        by_folder[os.path.dirname(name)].append(i)
    present = np.zeros(len(names), bool)
    for sub, rows in by_folder.items():
        if (folder / sub).is_dir():
            there = set(os.listdir(folder / sub))
            present[rows] = [os.path.basename(names[i]) in there for i in rows]
    return present


def _report_missing(folder: Path, names: list[str], absent: np.ndarray) -> None:
    n_absent = int(absent.sum())
    if not n_absent:
        return
    first = ", ".join(names[i] for i in np.flatnonzero(absent)[:3])
    message = f"{n_absent} of {len(names)} NUS-WIDE images are not in {folder} (first: {first})"
    if n_absent == len(names):
        raise InputError(
            f"{message}: the images are given out on request, see `python data_prep/nuswide.py`; "
            "pass missing='keep' to work on labels alone."
        )
    warnings.warn(f"{message}; they are left out", stacklevel=3)
