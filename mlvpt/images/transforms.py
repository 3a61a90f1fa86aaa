"""Transforms: from an RGB picture to the uint8 tensor of a batch, and from there to floats.

Mean and deviation are not taken out by the transforms: uint8 batches are a quarter of the bytes to
move, and `normalize` makes floats of them on the device. Randomness comes from torch's generator
alone, so `torch.manual_seed` (and the seeds of DataLoader workers) decide what an image becomes.
"""

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from mlvpt.errors import InputError

TRANSFORMS = ("official", "ours", "none")
BILINEAR = InterpolationMode.BILINEAR  # with antialiasing, as the official release resizes
GREY = 127  # what rotation, shear and erasing leave behind

Transform = Callable[[Image.Image], torch.Tensor]
ImageSize = int | Sequence[int]


def height_width(image_size: ImageSize) -> tuple[int, int]:
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"image size {image_size!r} is not one side or (height, width) in pixels.")
    return size


class ColourCutout(torch.nn.Module):
    """Cover a rectangle of half the height and width with one random colour.

    Its centre is anywhere in the image, so part of it may fall outside. Source: the official
    release, which draws one such square per training image.
    """

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(3, H, W) uint8 to a changed copy."""
        _, height, width = image.shape
        y, x = int(torch.randint(height, ())), int(torch.randint(width, ()))
        top, left = max(0, y - height // 4), max(0, x - width // 4)
        colour = torch.randint(0, 256, (3, 1, 1), dtype=torch.uint8)
        image = image.clone()
        image[:, top : y + height // 2 - height // 4, left : x + width // 2 - width // 4] = colour
        return image


def train_transform(name: str, image_size: ImageSize) -> Transform:
    """The training transform by name.

    Args:
        name: "official": squash to the size, one colour cutout of half the side, two RandAugment
            operations with p = 0.5 each; no flip, no crop (the authors' release).
            "ours": random resized crop (0.6 to 1 of the area), horizontal flip, RandAugment,
            random erasing. Mirrored digits are other shapes, so not for scenes.
            "none": squash only; the default for scenes.
        image_size: S, or (H, W).

    Returns:
        A callable from PIL RGB (or uint8 (3, h, w)) to uint8 (3, H, W).

    Raises:
        InputError: unknown name.
    """
    size = height_width(image_size)
    to_tensor = v2.ToImage()
    if name == "official":
        one = v2.RandomApply([v2.RandAugment(num_ops=1, fill=GREY)], p=0.5)
        steps = [v2.Resize(size, BILINEAR), ColourCutout(), one, one]
    elif name == "ours":
        steps = [
            v2.RandomResizedCrop(size, scale=(0.6, 1.0), interpolation=BILINEAR),
            v2.RandomHorizontalFlip(),
            v2.RandAugment(num_ops=2, magnitude=7, fill=GREY),
            v2.RandomErasing(p=0.25, scale=(0.02, 0.2), value=GREY),
        ]
    elif name == "none":
        return eval_transform(image_size)
    else:
        raise InputError(f"there is no transform {name!r}: use one of {', '.join(TRANSFORMS)}.")
    return v2.Compose([to_tensor, *steps, v2.ToPureTensor()])


def eval_transform(image_size: ImageSize) -> Transform:
    """The transform for evaluation and prediction: nothing random.

    The image is squashed to the size whatever its proportions, so that no label is cut off, as in
    the official release.

    Args:
        image_size: S, or (H, W).

    Returns:
        A callable from PIL RGB (or uint8 (3, h, w)) to uint8 (3, H, W).
    """
    resize = v2.Resize(height_width(image_size), BILINEAR)
    return v2.Compose([v2.ToImage(), resize, v2.ToPureTensor()])


def normalize(
    batch: torch.Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """uint8 batch to floats with the backbone's mean and deviation, on the batch's device.

    Args:
        batch: (B, 3, H, W) or (3, H, W) uint8.
        mean: 3 numbers on the scale of [0, 1].
        std: 3 numbers on the scale of [0, 1].
        dtype: of the result.

    Returns:
        Same shape, (batch / 255 - mean) / std.

    Raises:
        InputError: the batch is not uint8 (it would be scaled twice).
    """
    if batch.dtype != torch.uint8:
        raise InputError(f"normalize takes uint8 images in [0, 255], got {batch.dtype}.")
    mean = torch.as_tensor(mean, dtype=torch.float32, device=batch.device)[:, None, None] * 255
    std = torch.as_tensor(std, dtype=torch.float32, device=batch.device)[:, None, None] * 255
    return ((batch.float() - mean) / std).to(dtype)
