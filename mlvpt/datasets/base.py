"""One data set class for every source: images by index, targets in {1, 0, -1}.

`targets` never needs an image to be opened, so grouping the labels takes milliseconds. Where the
images come from is one argument: a sequence whose items are paths, uint8 arrays or PIL images.
"""

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from mlvpt.datasets.image_files import ImageFiles
from mlvpt.errors import InputError
from mlvpt.images import read_picture
from mlvpt.labels import check_class_names, check_targets


class MultiLabelDataset(Dataset):
    """Images with several labels each.

    Args:
        targets: (N, K) array-like in {1, 0, -1}; -1 means unknown and is ignored by the loss and
            the metrics.
        class_names: K names.
        images: sequence of N items, each as `mlvpt.images.read_picture` takes it: a path, an
            (H, W, 3) uint8 array, or a PIL image. It is indexed lazily, one image at a time, so
            it may be any object with `__getitem__`.
        image_ids: N strings; default: file stems where `images` holds paths, else the index.
        name: short name for messages and reports.

    Raises:
        InputError: no image, lengths that disagree, targets outside {1, 0, -1}, or class names
            that repeat.

    Example:
        >>> pixels = np.zeros((2, 8, 8, 3), np.uint8)
        >>> MultiLabelDataset(targets=[[1, 0], [1, 1]], class_names=["a", "b"], images=pixels)
        MultiLabelDataset(images: 2 images, 2 classes, 1.50 labels per image)
    """

    def __init__(
        self,
        *,
        targets: Any,
        class_names: Sequence[str],
        images: Sequence[Any],
        image_ids: Sequence[str] | None = None,
        name: str = "images",
    ) -> None:
        if isinstance(class_names, str) or not isinstance(class_names, Iterable):
            raise InputError(
                f"class names of {name} must be a list of names, but are {class_names!r:.80}."
            )
        if not (hasattr(images, "__len__") and hasattr(images, "__getitem__")):
            raise InputError(
                f"images of {name} must be a sequence, such as a list of paths, but are of type "
                f"{type(images).__name__}."
            )
        if not len(images):
            raise InputError(f"{name} has no images: check its files.")
        self.targets = check_targets(targets).astype(np.int8)  # (N, K), a copy
        names = [str(label) for label in class_names]
        self.class_names = list(check_class_names(names, self.targets.shape[1]))
        if image_ids is None:
            paths = isinstance(images[0], str | Path)
            image_ids = [Path(p).stem for p in images] if paths else range(len(images))
        self.image_ids = [str(image_id) for image_id in image_ids]
        for what, length in (("images", len(images)), ("image ids", len(self.image_ids))):
            if length != len(self.targets):
                raise InputError(
                    f"{name} has {length} {what} but {len(self.targets)} rows of targets: "
                    "give one row per image."
                )
        self.name = name
        self._images = images
        self._rows = np.arange(len(self.targets))  # position in `images`, which subsets share

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, torch.Tensor]:
        # the targets are a copy: the caller may write into them
        return self.load_image(index), torch.tensor(self.targets[index])

    def load_image(self, index: int) -> Image.Image:
        """The image as upright PIL RGB.

        Raises:
            InputError: the file cannot be read; names its path.
        """
        return read_picture(self._images[int(self._rows[index])])

    def image_path(self, index: int) -> Path | None:
        """The file of an image, or None where images are held in memory."""
        source = self._images[int(self._rows[index])]
        return Path(source) if isinstance(source, str | Path) else None

    def image_paths(self) -> list[str | None]:
        """The file of every image, as `image_path`, without decoding any image."""
        if isinstance(self._images, ImageFiles):
            return [self._images.find(row) for row in self._rows.tolist()]
        if isinstance(self._images, list | tuple):
            sources = (self._images[row] for row in self._rows.tolist())
            return [str(s) if isinstance(s, str | Path) else None for s in sources]
        return [None] * len(self)  # arrays, or images that are decoded when they are asked for

    def subset(self, indices: Any) -> "MultiLabelDataset":
        """The images at `indices`, integers or a boolean mask; pixels are shared, not copied."""
        indices = np.asarray(indices)
        rows = np.arange(len(self))[indices if indices.size else indices.astype(np.int64)]
        part = copy.copy(self)
        part.targets = self.targets[rows]
        part.image_ids = [self.image_ids[row] for row in rows]
        part._rows = self._rows[rows]
        return part

    def joined_with(self, other: "MultiLabelDataset") -> "MultiLabelDataset":
        """The images of both, these first; the classes must be the same."""
        if list(self.class_names) != list(other.class_names):
            raise InputError(f"{self.name} and {other.name} have different classes: join equals.")
        sources = [part._images[int(row)] for part in (self, other) for row in part._rows]
        return MultiLabelDataset(
            targets=np.concatenate([self.targets, other.targets]),
            class_names=self.class_names,
            images=sources,
            image_ids=[*self.image_ids, *other.image_ids],
            name=self.name,
        )

    def __repr__(self) -> str:
        labels = (self.targets == 1).sum() / max(len(self), 1)
        return (
            f"{type(self).__name__}({self.name}: {len(self):,} images, "
            f"{len(self.class_names)} classes, {labels:.2f} labels per image)"
        )
