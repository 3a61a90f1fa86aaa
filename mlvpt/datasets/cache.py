"""Decoded images kept in memory, shared by the workers that load them."""

import warnings

import numpy as np
import torch
from PIL import Image

from mlvpt.datasets.base import MultiLabelDataset
from mlvpt.images import ImageSize, eval_transform, height_width


class DecodedCache:
    """A data set whose images are decoded once and then kept in memory as uint8.

    Every image is squashed to `storage_size` first, cached or not, so what a transform sees does
    not depend on the cache. With `storage_size` equal to the image size and a squashing transform
    the result is what the data set alone would give. The memory is shared: DataLoader workers fill
    and read the same cache.

    Args:
        dataset: any MultiLabelDataset.
        storage_size: S, or (H, W), of the stored images.
        max_gb: bound in 10^9 bytes. If the set is larger, the first images that fit are cached,
            the others decoded every time, and a warning says so.
    """

    def __init__(
        self, dataset: MultiLabelDataset, storage_size: ImageSize = 256, max_gb: float = 4.0
    ) -> None:
        self.dataset = dataset
        self._resize = eval_transform(storage_size)
        height, width = height_width(storage_size)
        bytes_each = height * width * 3
        fits = int(max_gb * 1e9 // bytes_each)
        if fits < len(dataset):
            warnings.warn(
                f"{fits:,} of {len(dataset):,} images of {dataset.name} fit the cache of "
                f"{max_gb:g} GB at {height} x {width}: the others are decoded every time. All need "
                f"{len(dataset) * bytes_each / 1e9:.1f} GB."
            )
        self.n_cached = min(fits, len(dataset))
        # Pages of a fresh shared tensor take memory only when an image is written to them.
        self._pixels = torch.empty(self.n_cached, 3, height, width, dtype=torch.uint8)
        self._pixels.share_memory_()
        self._filled = torch.zeros(self.n_cached, dtype=torch.bool).share_memory_()
        self.targets, self.class_names = dataset.targets, dataset.class_names
        self.image_ids, self.name = dataset.image_ids, dataset.name

    def __len__(self) -> int:
        return len(self.dataset)

    def load_image(self, index: int) -> Image.Image:
        """The image at the storage size, PIL RGB."""
        index = range(len(self))[index]
        if index >= self.n_cached:
            pixels = self._resize(self.dataset.load_image(index))
        else:
            if not self._filled[index]:
                self._pixels[index] = self._resize(self.dataset.load_image(index))
                self._filled[index] = True  # after the pixels: two workers may write the same ones
            pixels = self._pixels[index]
        return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
