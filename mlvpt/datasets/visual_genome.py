"""Visual Genome with its most frequent object names as classes (VG256 and the like)."""

import json
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from mlvpt.datasets.base import MultiLabelDataset
from mlvpt.datasets.image_files import ImageFiles, require
from mlvpt.errors import InputError

TEST_SHARE = 10  # one image in ten is a test image


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
    The list of 256 classes and the split of the ML-VPT paper were never released, so ours are
    made here and numbers on them do not compare with the paper's:

    - Classes: the first name of every object, lower-cased, with white space at the ends removed
      and runs of it made one space; counted once per image over all images; the `n_classes` most
      frequent, ties by name; in alphabetical order. Singular, plural and synonyms stay apart.
    - Split: an image is a test image if the CRC-32 of its id, written in decimal, is divisible
      by 10, about 10% of the images. The rest is train. It depends on nothing else.

    The image files are not touched until one is opened.

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
    if split not in ("train", "test", "all"):
        raise InputError(f"split must be 'train', 'test' or 'all', not {split!r}.")
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
    dataset = MultiLabelDataset(
        targets=targets,
        class_names=class_names,
        images=ImageFiles([root / "VG_100K", root / "VG_100K_2"], [f"{i}.jpg" for i in ids]),
        image_ids=[str(i) for i in ids],
        name=f"Visual Genome-{n_classes} {split}",
    )
    return dataset.subset(targets.any(axis=1)) if empty == "drop" else dataset


def is_test_image(image_id: int) -> bool:
    """Whether an image of Visual Genome belongs to our test split; depends on its id alone."""
    return zlib.crc32(str(image_id).encode()) % TEST_SHARE == 0


def _read(path: Path) -> list[dict]:
    require(path, "a file of Visual Genome", "visual_genome")
    try:
        return json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not valid JSON ({error}): remove it and run "
            "`python data_prep/visual_genome.py` again."
        ) from error
