"""Visual Genome: VG256 by a class list with synonyms, or its most frequent object names."""

import json
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from mlvpt.datasets.base import MultiLabelDataset
from mlvpt.datasets.image_files import ImageFiles, require, require_file
from mlvpt.errors import InputError
from mlvpt.files import read_json

TEST_SHARE = 10  # of the split of our own: one image in ten is a test image
VG256_TEST_SHARE = 0.3
VG256_WHERE = "data/vg256 of https://github.com/xiemk/MLC-PAT"
VG256_REMEDY = (
    "put it there, or take the most frequent names instead with `--data.name visual_genome` "
    "(load_visual_genome)"
)
# words before a name that VG256 takes away
COLOURS = {"black", "blue", "brown", "gray", "green", "grey", "orange", "pink", "red", "silver"}
COLOURS |= {"white", "yellow", "dark"}
ADJECTIVES = COLOURS | {"small", "large", "tall", "long", "wooden", "metal"}


def load_vg256(root: str | Path, split: str = "train") -> MultiLabelDataset:
    """VG256, 256 classes of Visual Genome, each with its synonyms.

    ```
    root/
      vg256.json                   {"person": ["person", "man", "men", ...], ...}
      objects.json                 the objects of the images, with names
      VG_100K/1.jpg ...            the two folders of images
      VG_100K_2/1001.jpg ...
    ```
    The list is not part of this package: it is public but has no licence. The ML-VPT paper does not
    say where its classes and its split come from; list and rule are those that one of its authors
    published with MLC-PAT.

    - Names: the first name of every object, lower-cased, without white space and a full stop at its
      end. If all words but the last are adjectives of `ADJECTIVES`, the last word alone.
    - Classes: those that list the name, in the order of the file; a name that two classes list
      belongs to the later one.
    - Split: images without a class are left out, the others sorted by their id and permuted by
      `numpy.random.RandomState(1)`; the last 30% of the permutation are test.

    Args:
        root: the folder above.
        split: "train", "test", or "all".

    Returns:
        A data set with `.targets` (N, K) int8 in {1, 0}, K classes of the list.

    Raises:
        InputError: a file is missing (named, with where to find it) or damaged, or no image has
            a class.

    Source: Krishna et al., IJCV 2017; Xie et al., ICML 2024, for classes and split.
    """
    _check_split(split)
    root = Path(root)
    what = f"the class list of VG256 (vg256.json, in {VG256_WHERE})"
    path = require_file(root / "vg256.json", what, VG256_REMEDY)
    classes = read_json(path, what, {str: [str]})
    column = {name: k for k, names in enumerate(classes.values()) for name in names}
    columns_of = {
        image["image_id"]: {
            column[name]
            for name in (vg256_name(item["names"][0]) for item in image["objects"] if item["names"])
            if name in column
        }
        for image in _read(root / "objects.json")
    }
    ids = sorted(image_id for image_id, columns in columns_of.items() if columns)
    if not ids:
        raise InputError(f"no image in {root} has a class of the class list.")
    targets = np.zeros((len(ids), len(classes)), np.int8)
    for row, image_id in zip(targets, ids, strict=True):
        row[list(columns_of[image_id])] = 1
    dataset = _dataset(root, ids, targets, list(classes), f"VG256 {split}")
    if split == "all":
        return dataset
    n_test = int(np.round(VG256_TEST_SHARE * len(ids)))
    order = np.random.RandomState(1).permutation(len(ids))
    train, test = np.split(order, [len(ids) - n_test])
    return dataset.subset(np.sort(train if split == "train" else test))


def vg256_name(name: str) -> str:
    """The name of an object as VG256 looks it up in its lists of synonyms.

    Example:
        >>> vg256_name("Small brown Dog."), vg256_name("baby elephant")
        ('dog', 'baby elephant')
    """
    name = name.lower().strip()
    name = name.removesuffix(".").strip()
    *first, last = name.split() or [""]
    return last if first and ADJECTIVES.issuperset(first) else name


def load_visual_genome(
    root: str | Path, split: str = "train", n_classes: int = 256, empty: str = "drop"
) -> MultiLabelDataset:
    """Visual Genome as a multi-label data set of its most frequent object names.

    ```
    root/
      image_data.json              108,077 images
      objects.json                 their objects, with names
      VG_100K/1.jpg ...            the two folders of images
      VG_100K_2/1001.jpg ...
    ```
    Classes and split are our own, for those who lack the class list that `load_vg256` reads;
    numbers on them do not compare with the paper's:

    - Classes: the first name of every object, lower-cased, with white space at the ends removed
      and runs of it made one space; counted once per image over all images; the `n_classes` most
      frequent, ties by name; in alphabetical order. Singular, plural and synonyms stay apart.
    - Split: an image is a test image if the CRC-32 of its id, written in decimal, is divisible
      by 10, about 10% of the images. The rest is train. It depends on nothing else.

    Args:
        root: the folder above.
        split: "train", "test", or "all".
        n_classes: K. More than there are object names is an error.
        empty: "drop" leaves out images with none of the K classes, "keep" keeps them.

    Returns:
        A data set with `.targets` (N, K) int8 in {1, 0}.

    Raises:
        InputError: a file is missing (named, with the script that makes it) or damaged.

    Source: Krishna et al., IJCV 2017.
    """
    _check_split(split)
    if empty not in ("drop", "keep"):
        raise InputError(f"empty must be 'drop' or 'keep', not {empty!r}.")
    root = Path(root)
    image_ids = [image["image_id"] for image in _read(root / "image_data.json")]
    names_of = {
        image["image_id"]: {
            " ".join(item["names"][0].lower().split()) for item in image["objects"] if item["names"]
        }
        for image in _read(root / "objects.json")
    }
    counts = Counter(name for names in names_of.values() for name in names if name)
    if not 0 < n_classes <= len(counts):
        raise InputError(
            f"n_classes must be 1 to {len(counts)}, the number of object names in {root}, not "
            f"{n_classes}."
        )
    most_frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:n_classes]
    class_names = sorted(name for name, _ in most_frequent)

    ids = [i for i in image_ids if split == "all" or is_test_image(i) == (split == "test")]
    column = {name: k for k, name in enumerate(class_names)}
    targets = np.zeros((len(ids), n_classes), np.int8)
    for i, image_id in enumerate(ids):
        columns = [column[name] for name in names_of.get(image_id, ()) if name in column]
        targets[i, columns] = 1
    name = f"Visual Genome-{n_classes} {split}"
    dataset = _dataset(root, ids, targets, class_names, name)
    return dataset.subset(targets.any(axis=1)) if empty == "drop" else dataset


def is_test_image(image_id: int) -> bool:
    """Whether an image of Visual Genome belongs to our test split; depends on its id alone."""
    return zlib.crc32(str(image_id).encode()) % TEST_SHARE == 0


def _check_split(split: str) -> None:
    if split not in ("train", "test", "all"):
        raise InputError(f"split must be 'train', 'test' or 'all', not {split!r}.")


def _dataset(
    root: Path, ids: list[int], targets: np.ndarray, class_names: list[str], name: str
) -> MultiLabelDataset:
    return MultiLabelDataset(
        targets=targets,
        class_names=class_names,
        images=ImageFiles([root / "VG_100K", root / "VG_100K_2"], [f"{i}.jpg" for i in ids]),
        image_ids=[str(i) for i in ids],
        name=name,
    )


def _read(path: Path) -> list[dict]:
    require(path, "a file of Visual Genome", "visual_genome")
    try:
        return json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not valid JSON ({error}): remove it and run "
            "`python data_prep/visual_genome.py` again."
        ) from error
