"""A Hugging Face dataset object, or anything with its interface, as a MultiLabelDataset.

The library `datasets` is not needed: `dataset` is only indexed.
"""

import io
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from PIL import Image

from mlvpt.datasets.base import MultiLabelDataset
from mlvpt.errors import InputError, Stopped
from mlvpt.images import ImageError, read_picture, read_rgb


def load_huggingface(
    dataset: Any,
    image_column: str = "image",
    label_column: str = "labels",
    class_names: Sequence[str] | None = None,
) -> MultiLabelDataset:
    """A MultiLabelDataset over rows that are dictionaries with an image and its labels.

    Labels are read once, without decoding images where the object can leave a column out
    (`select_columns`, as Hugging Face's can). Images are decoded one at a time, when asked for.

    Args:
        dataset: has `__len__` and `dataset[i] -> dict`; `dataset.features` is used if it is
            there, for the class names. One split: `load_dataset(...)["train"]`.
        image_column: holds a PIL image, a path, an array (H, W) or (H, W, 3) uint8, or a
            dictionary with `bytes` or `path`.
        label_column: holds a list of class indices or names; a single one counts as a list of
            one.
        class_names: the classes and their order. Default: the names in `features`, else all
            names in the data, in alphabetical order. Indices without names are an error, as
            their number would be a guess.

    Returns:
        A data set with `.targets` (N, K) int8; image ids are the row numbers.

    Raises:
        InputError: a column is missing, a label is unknown (with its row), or there are no names.
    """
    if hasattr(dataset, "keys") and not hasattr(dataset, "features"):
        raise InputError(
            f"this is a dictionary of splits ({', '.join(map(str, dataset))}): choose one, "
            "such as dataset['train']."
        )
    if len(dataset) == 0:
        raise InputError("the dataset has no rows.")
    labels = _read_column(dataset, label_column)
    if class_names is None:
        class_names = _feature_names(dataset, label_column)
    targets, names = _from_names(labels, class_names)
    return MultiLabelDataset(
        targets=targets,
        class_names=names,
        images=_Images(dataset, image_column),
        image_ids=[str(i) for i in range(len(dataset))],
        name="Hugging Face dataset",
    )


class _Images(Sequence):
    """The images of a dataset, decoded on access."""

    def __init__(self, dataset: Any, column: str) -> None:
        self.dataset, self.column = dataset, column

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Image.Image:
        try:
            return _to_pil(_cell(self.dataset, index, self.column), f"the image of row {index}")
        except (InputError, Stopped):
            raise
        except Exception as error:  # `datasets` decodes while it indexes
            raise ImageError(
                f"the image of row {index} cannot be read ({type(error).__name__}: {error}): "
                "remove the row or replace its image."
            ) from error


def _to_pil(value: Any, name: str) -> Image.Image:
    if isinstance(value, dict):  # an undecoded image of `datasets`
        if value.get("bytes"):
            return read_rgb(io.BytesIO(value["bytes"]), name)
        value = value.get("path")
    if isinstance(value, list):  # pixels as nested lists, as Array3D features give them
        value = np.asarray(value)
        if value.dtype.kind in "iu" and value.size and 0 <= value.min() <= value.max() <= 255:
            value = value.astype(np.uint8)
    try:
        return read_picture(value)
    except ImageError:
        raise
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _cell(dataset: Any, index: int, column: str) -> Any:
    row = dataset[int(index)]
    try:
        return row[column]
    except (KeyError, TypeError) as error:
        found = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
        raise InputError(f"the dataset has no column {column!r}; a row has: {found}.") from error


def _read_column(dataset: Any, column: str) -> list[Any]:
    known = getattr(dataset, "column_names", None)
    if known is not None and column not in known:
        raise InputError(f"the dataset has no column {column!r}; it has: {', '.join(known)}.")
    if hasattr(dataset, "select_columns"):
        dataset = dataset.select_columns([column])
    return [_cell(dataset, i, column) for i in range(len(dataset))]


def _feature_names(dataset: Any, column: str) -> list[str] | None:
    """The names of a ClassLabel, alone or inside a Sequence, List or plain list; else None."""
    feature = (getattr(dataset, "features", None) or {}).get(column)
    if isinstance(feature, list):
        feature = feature[0]
    feature = getattr(feature, "feature", feature)
    names = getattr(feature, "names", None)
    return list(names) if names else None


def _from_names(
    labels: list[Any], class_names: Sequence[str] | None
) -> tuple[np.ndarray, list[str]]:
    rows = [
        [label] if isinstance(label, str) or not hasattr(label, "__len__") else list(label)
        for label in ([] if label is None else label for label in labels)
    ]
    if class_names is None:
        found = {label for row in rows for label in row}
        if not all(isinstance(label, str) for label in found):
            raise InputError(
                "the labels are numbers and the dataset names no classes: pass class_names."
            )
        class_names = sorted(found)
    names = list(class_names)
    column = {name: k for k, name in enumerate(names)}
    targets = np.zeros((len(rows), len(names)), np.int8)
    for i, row in enumerate(rows):
        for label in row:
            k = column.get(label, -1) if isinstance(label, str) else label
            if isinstance(k, bool) or not isinstance(k, Integral):  # 1.5 is no class
                k = -1
            if not 0 <= k < len(names):
                raise InputError(f"row {i}: {label!r} is not one of the {len(names)} classes.")
            targets[i, k] = 1
    return targets, names
