"""COCO 2014 and 2017, and any data set annotated in COCO's instances JSON."""

import json
import re
from pathlib import Path

import numpy as np

from mlvpt.datasets.base import MultiLabelDataset
from mlvpt.datasets.image_files import ImageFiles, first_existing, require, require_file
from mlvpt.errors import InputError

# Outlines of objects are four fifths of the file and say nothing about labels. The match is an
# array of nothing but numbers and brackets behind one of two keys, so taking it out leaves JSON.
_OUTLINE = re.compile(rb'"(?:segmentation|counts)"\s*:\s*\[[\d\s.,eE+\-\[\]]*\]')


def load_coco(
    root: str | Path, split: str = "train", year: int = 2014, empty: str = "drop"
) -> MultiLabelDataset:
    """COCO as a multi-label data set: a class is positive if an image has an object of it.

    ```
    root/
      annotations/instances_train2014.json, instances_val2014.json
      train2014/COCO_train2014_000000000009.jpg ...   (or images/train2014/...)
      val2014/...
    ```
    Images: 2014 train 82,783, val 40,504, of which 82,081 and 40,137 have at least one label;
    2017 train 118,287, val 5,000. The usual protocol trains on train and tests on val.

    Args:
        root: the folder above.
        split: "train" or "val".
        year: 2014 or 2017.
        empty: what to do with images without an object, "drop" (the usual count in papers on
            multi-label classification: 82,081) or "keep" (all targets 0).

    Returns:
        A data set with `.targets` (N, 80) int8 in {1, 0}, classes in the order of category ids,
        images in the order of the file. Crowd regions (`iscrowd`) count like objects.

    Raises:
        InputError: a file is missing (named, with the script that makes it) or damaged.

    Source: Lin et al., ECCV 2014; annotation format as on cocodataset.org.
    """
    root, name = Path(root), f"{split}{year}"
    script = "coco2014" if year == 2014 else None
    path = root / "annotations" / f"instances_{name}.json"
    require(path, f"the annotations of COCO {name}", script)
    folder = first_existing(root, [name, f"images/{name}"])
    return load_coco_json(path, folder, empty=empty, name=f"COCO {name}")


def load_coco_json(
    annotations: str | Path, image_root: str | Path, empty: str = "drop", name: str | None = None
) -> MultiLabelDataset:
    """A data set of one's own, annotated in COCO's instances JSON.

    Args:
        annotations: a JSON file with `images` (id, file_name), `categories` (id, name) and
            `annotations` (image_id, category_id).
        image_root: the folder that the file names are relative to.
        empty: "drop" or "keep" images without an annotation.
        name: for messages; default: the file's name.

    Returns:
        A data set with `.targets` (N, K) int8 in {1, 0}, classes in the order of category ids.

    Raises:
        InputError: the file is missing or damaged, or refers to an unknown image or category.
    """
    if empty not in ("drop", "keep"):
        raise InputError(f"empty must be 'drop' or 'keep', not {empty!r}.")
    path = require_file(Path(annotations), "the COCO annotations")
    content = _read_json(path)
    try:
        categories = sorted((c["id"], c["name"]) for c in content["categories"])
        files = {image["id"]: image["file_name"] for image in content["images"]}
        pairs = {(a["image_id"], a["category_id"]) for a in content["annotations"]}
        if not all(isinstance(name, str) and name for name in files.values()):
            raise TypeError("a file_name is no name")
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not COCO instances JSON ({type(error).__name__}: {error}): it needs "
            "images (id, file_name), categories (id, name), annotations (image_id, category_id)."
        ) from error
    if len(files) != len(content["images"]):
        raise InputError(f"{path} has two images with one id: ids must be unique.")

    row = {image_id: i for i, image_id in enumerate(files)}
    column = {category_id: k for k, (category_id, _) in enumerate(categories)}
    targets = np.zeros((len(row), len(column)), np.int8)
    try:
        places = np.array([(row[i], column[c]) for i, c in pairs], np.int64).reshape(-1, 2)
    except KeyError as error:
        raise InputError(
            f"{path}: an annotation refers to the image or category {error.args[0]}, which the "
            "file does not define."
        ) from error
    targets[places[:, 0], places[:, 1]] = 1
    dataset = MultiLabelDataset(
        targets=targets,
        class_names=[class_name for _, class_name in categories],
        images=ImageFiles([Path(image_root)], list(files.values())),
        image_ids=[Path(file_name).stem for file_name in files.values()],
        name=name or path.stem,
    )
    return dataset.subset(targets.any(axis=1)) if empty == "drop" else dataset


def _read_json(path: Path) -> dict:
    """The annotation file without its outlines: a third of the time of reading all of it."""
    try:
        return json.loads(_OUTLINE.sub(b'"outline":0', path.read_bytes()))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}): unpack it again.") from error
