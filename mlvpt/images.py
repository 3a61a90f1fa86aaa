"""Pictures: from a file to upright 8-bit RGB, from there to the uint8 tensors of a batch.

Mean and deviation are not taken out by the transforms: uint8 batches are a quarter of the bytes to
move, and `normalize` makes floats of them on the device. Randomness comes from torch's generator
alone, so `torch.manual_seed` (and the seeds of DataLoader workers) decide what an image becomes.
"""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode, v2

from mlvpt.errors import InputError

TRANSFORMS = ("official", "ours", "none")
BILINEAR = InterpolationMode.BILINEAR  # with antialiasing, as the official release resizes
GREY = 127  # what rotation, shear and erasing leave behind

Transform = Callable[[Image.Image], torch.Tensor]
ImageSize = int | Sequence[int]

# What Pillow raises on a damaged or foreign file, over its formats and versions.
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    struct.error,
    Image.DecompressionBombError,
)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image as 8-bit RGB, upright.

    EXIF rotation is applied. Transparency is composited on white, as a web page would show it.
    16-bit grey is scaled (65535 becomes 255), where Pillow's own conversion clips; 32-bit integer
    and float grey have no fixed range, so theirs is stretched from minimum to maximum.

    Args:
        image: of any size and mode.

    Returns:
        An image of mode RGB.
    """
    sixteen_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    try:
        image = ImageOps.exif_transpose(image)
    except UNREADABLE:
        image.load()  # only the EXIF block is broken: keep the picture. If it is, this raises.
    if sixteen_bit or image.mode in ("I", "F"):
        grey = np.asarray(image).astype(np.float64)
        low, high = (0.0, 65535.0) if sixteen_bit else (grey.min(), grey.max())
        scaled = (grey - low) * (255.0 / max(high - low, 1e-12))
        image = Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8))
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        # Pillow converts the premultiplied and palette kinds to RGBA in one or two steps.
        image = image.convert({"La": "LA", "PA": "RGBA"}.get(image.mode, "RGBA")).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def open_rgb(path: str | Path) -> Image.Image:
    """Read an image file as upright 8-bit RGB (see `to_rgb`).

    Args:
        path: a file in any format Pillow reads; unicode, spaces and upper-case suffixes are fine.

    Returns:
        A fully decoded image of mode RGB; the file is closed.

    Raises:
        InputError: the file is missing, empty, truncated, or no image. Names the path and remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no image file {path}: check the path.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): download or copy it again, or remove it.")
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except UNREADABLE as error:
        raise InputError(
            f"{path} is truncated or not an image ({type(error).__name__}: {error}): "
            "download or copy it again, or remove it from the data set."
        ) from error


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
