"""PASCAL VOC 2007 and 2012, and any data set exported to the VOC devkit layout.

The 'difficult' question: an object marked difficult is one that even people hardly recognise in
its crop. A class of which an image shows only difficult objects has label 0 in the ImageSets
files. The VOC protocol leaves such (image, class) pairs out of the evaluation (our default,
target -1); the official ML-VPT code counts them as negatives.
"""

import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlvpt.datasets.base import MultiLabelDataset
from mlvpt.datasets.image_files import IMAGE_SUFFIXES, ImageFiles, require
from mlvpt.errors import InputError

_NAMES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
)
VOC_CLASSES = tuple(_NAMES.split())
SPLITS = ("train", "val", "trainval", "test")


def load_voc(
    root: str | Path, split: str = "trainval", year: int = 2007, difficult: str = "ignore"
) -> MultiLabelDataset:
    """PASCAL VOC classification labels and images.

    ```
    root/
      VOCdevkit/
        VOC2007/
          JPEGImages/000005.jpg ...           .jpg, else .png
          ImageSets/Main/trainval.txt ...     the images of a split, one id a line
          ImageSets/Main/dog_trainval.txt ... "id label", label 1, -1, or 0 = only difficult ones
          Annotations/000005.xml ...          read only where there are no label files
    ```
    Images: 2007 train 2,501, val 2,510, trainval 5,011, test 4,952; 2012 train 5,717, val 5,823,
    trainval 11,540 (its test labels are not public). Difficult (image, class) pairs in 2007: 607
    in trainval (in 545 images) and 619 in test (in 551). Every image of 2007 has at least one
    positive label, so dropping images without one, as the official ML-VPT code does, drops none.

    A class of which some objects are difficult and some are not is positive, in the label files
    and in the annotations, which are read where a split has no label files.

    Args:
        root: the folder that holds `VOCdevkit/`.
        split: "train", "val", "trainval", "test", or another set that has its files.
        year: 2007 or 2012; names the folder VOC<year>.
        difficult: "ignore" makes a difficult pair -1 (the VOC protocol), "negative" makes it 0
            (the official ML-VPT code).

    Returns:
        A data set with `.targets` (N, K) int8 in {1, 0, -1}. The classes are in alphabetical
        order, which for VOC is the official order of its 20.

    Raises:
        InputError: a folder or file is missing (named, with the script that makes it), a label
            file is damaged (named, with the line), or the split has no public labels.

    Source: Everingham et al., IJCV 2010; devkit documentation, "Main" image sets.
    """
    if difficult not in ("ignore", "negative"):
        raise InputError(f"difficult must be 'ignore' or 'negative', not {difficult!r}.")
    root, script = Path(root), f"voc{year}"
    if not (root / "VOCdevkit").exists() and (root / f"VOC{year}").exists():
        raise InputError(f"{root} is VOCdevkit itself: give the folder that holds it.")
    base = require(root / "VOCdevkit" / f"VOC{year}", f"VOC{year}", script)
    sets = require(base / "ImageSets" / "Main", f"the image sets of VOC{year}", script)

    if label_files := _label_files(sets, split):
        class_names, ids, values = _read_label_files(sets, split, label_files)
    else:
        class_names, ids, values = _read_annotations(base, split, year)
    ignored = -1 if difficult == "ignore" else 0
    targets = np.select([values == 1, values == 0], [1, ignored], 0).astype(np.int8)
    return MultiLabelDataset(
        targets=targets,
        class_names=class_names,
        images=ImageFiles([base / "JPEGImages"], ids, IMAGE_SUFFIXES),
        image_ids=ids,
        name=f"VOC{year} {split}",
    )


def _label_files(sets: Path, split: str) -> dict[str, Path]:
    """The label file of each class, for the split or, for train and val, for trainval.

    A class that has files for another split but none for this one is a damaged copy, not a
    smaller data set, so it is an error. The class called "train" makes names like
    `train_val.txt`: the split is what follows the last underscore.
    """
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sets.glob("*_*.txt"):
        for set_name in {*SPLITS, split}:
            if path.stem.endswith(f"_{set_name}"):
                found[set_name][path.stem.removesuffix(f"_{set_name}")] = path
    source = split
    if not found[split] and split in ("train", "val") and (sets / f"{split}.txt").exists():
        source = "trainval"  # its label files hold the labels of both halves
    files = found[source]
    missing = sorted({name for classes in found.values() for name in classes} - set(files))
    if files and missing:
        raise InputError(
            f"{sets} has label files of {len(files)} classes for '{source}', but {missing[0]}_"
            f"{source}.txt is missing ({len(missing)} such): unpack the devkit again."
        )
    return {name: files[name] for name in sorted(files)}


def _read_label_files(
    sets: Path, split: str, files: dict[str, Path]
) -> tuple[list[str], list[str], np.ndarray]:
    """Class names, image ids and the (N, K) labels as written: 1, 0 = difficult, -1 = absent."""
    columns = {name: _read_pairs(path) for name, path in files.items()}
    list_file = sets / f"{split}.txt"
    ids = _read_ids(list_file) if list_file.exists() else list(next(iter(columns.values())))
    values = np.empty((len(ids), len(columns)), np.int8)
    for k, (name, column) in enumerate(columns.items()):
        try:
            values[:, k] = [column[image_id] for image_id in ids]
        except KeyError as error:
            raise InputError(
                f"{files[name]} has no label for image {error.args[0]}, which '{split}' lists: "
                "unpack the devkit again."
            ) from error
    return list(columns), ids, values


def _read_ids(path: Path) -> list[str]:
    """The image ids of a set file, one a line; an id may hold spaces."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    ids = [line.strip() for line in lines if line.strip()]
    if len(set(ids)) != len(ids):
        repeated = next(i for i in ids if ids.count(i) > 1)
        raise InputError(f"{path} lists image {repeated} twice: remove one of the lines.")
    if not ids:
        raise InputError(f"{path} lists no images: unpack the devkit again.")
    return ids


def _read_pairs(path: Path) -> dict[str, int]:
    """{image id: label} of one label file."""
    pairs: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        *image_id, label = line.rsplit(maxsplit=1)
        if not image_id or label not in ("1", "0", "-1"):
            raise InputError(
                f"{path}, line {number}: expected an image id and 1, 0 or -1, got {line!r}."
            )
        pairs[image_id[0].strip()] = int(label)
    return pairs


def _read_annotations(base: Path, split: str, year: int) -> tuple[list[str], list[str], np.ndarray]:
    """As `_read_label_files`, from Annotations/*.xml."""
    sets, folder = base / "ImageSets" / "Main", base / "Annotations"
    list_file = sets / f"{split}.txt"
    ids = _read_ids(list_file) if list_file.exists() else []
    if year == 2012 and split == "test" and not (ids and (folder / f"{ids[0]}.xml").exists()):
        raise InputError(
            "the test labels of VOC2012 are not public (only the evaluation server has them): "
            "use split='val' to measure, or year=2007."
        )
    if not ids:
        raise InputError(
            f"VOC{year} has no files {split}.txt or *_{split}.txt in {sets}: check the split's "
            f"name, or make the data with `python data_prep/voc{year}.py`."
        )
    objects = [_read_objects(folder / f"{image_id}.xml", year) for image_id in ids]
    class_names = VOC_CLASSES
    if not {name for image in objects for name, _ in image} <= set(VOC_CLASSES):
        # Another data set in this layout. Its classes are those of all splits, so that train and
        # test have the same columns.
        every = (_read_objects(path, year) for path in folder.glob("*.xml"))
        class_names = sorted({name for image in every for name, _ in image})
    column = {name: k for k, name in enumerate(class_names)}
    values = np.full((len(ids), len(class_names)), -1, np.int8)
    for row, image in zip(values, objects, strict=True):
        for name, is_difficult in image:
            # One object that is not difficult makes the class positive.
            row[column[name]] = max(row[column[name]], 0 if is_difficult else 1)
    return list(class_names), ids, values


def _read_objects(path: Path, year: int) -> Sequence[tuple[str, bool]]:
    """(class name, difficult) of every object of one annotation."""
    require(path, f"an annotation of VOC{year}", f"voc{year}")
    try:
        tree = ElementTree.parse(path)
    except ElementTree.ParseError as error:
        raise InputError(f"{path} is not valid XML ({error}): unpack the devkit again.") from error
    return [
        (item.findtext("name", "").strip(), item.findtext("difficult", "0").strip() == "1")
        for item in tree.iter("object")
    ]
