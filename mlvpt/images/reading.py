"""Reading pictures: any file or array becomes upright 8-bit RGB, or an error that says why not."""

import io
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from mlvpt.errors import InputError, Stopped

# Formats that Pillow recognises but that are no pictures, or of which it can read none.
NO_PICTURE = ("BUFR", "GRIB", "HDF5", "MPEG")

# Suffixes of photographs that not every Pillow reads: a folder that holds one is told so.
OTHER_PICTURES = (".avif", ".heic", ".heif", ".hif", ".jxl")

# (offset, first bytes, what it is, whether it is a picture) of files that Pillow cannot read.
_SIGNATURES = (
    (0, b"\x00\x05\x16\x07", "an AppleDouble file, which macOS writes beside a picture", False),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", False),
    (0, b"\x00\x00\x01\xba", "an MPEG video", False),
    (0, b"\x00\x00\x01\xb3", "an MPEG video", False),
    (0, b"PK\x03\x04", "a ZIP archive", False),
    (0, b"%PDF", "a PDF document", True),
    (0, b"gimp xcf", "a GIMP project", True),
    (0, b"v/1\x01", "an OpenEXR picture", True),
    (0, b"\xff\x0a", "a JPEG XL picture", True),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture", True),
    (4, b"ftypavif", "an AVIF picture", True),
    (4, b"ftypavis", "an AVIF picture", True),
    (4, b"ftyphei", "an HEIC picture", True),
    (4, b"ftyphev", "an HEIC picture", True),
    (4, b"ftypmif1", "an HEIF picture", True),
    (4, b"ftypmsf1", "an HEIF picture", True),
    (4, b"ftypcrx", "a Canon raw picture", True),
    (4, b"ftyp", "a video", False),
)
# First bytes of common formats: behind them, what cannot be identified is damaged.
_COMMON = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")
_AGAIN = "download or copy it again, or remove it from the data set"
_CONVERT = "convert it to JPEG or PNG, or remove it from the data set"


class ImageError(InputError):
    """An image that cannot be used.

    Attributes:
        kind: "missing", "empty file", "no permission", "not readable" (the disk or the network
            failed), "not an image", "unsupported format", "too large", "truncated", "damaged" or
            "not finite" (pixels of NaN or infinity).
    """

    def __init__(self, message: str = "", kind: str = "damaged") -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple:
        return ImageError, (str(self), self.kind)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image as 8-bit RGB, upright.

    EXIF rotation is applied. Transparency is composited on white, as a web page would show it.
    16-bit grey is scaled (65535 becomes 255), where Pillow's own conversion clips; 32-bit integer
    and float grey have no fixed range, so theirs is stretched from minimum to maximum.

    Args:
        image: of any size and mode.

    Returns:
        An image of mode RGB.

    Raises:
        ImageError: float grey that holds NaN or infinity.
    """
    sixteen_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    try:
        image = ImageOps.exif_transpose(image)
    except Stopped:
        raise
    except Exception:
        image.load()  # only the EXIF block is broken: keep the picture. If it is, this raises.
    if sixteen_bit or image.mode in ("I", "F"):
        grey = np.asarray(image).astype(np.float64)
        low, high = (0.0, 65535.0) if sixteen_bit else (grey.min(), grey.max())
        if not np.isfinite([low, high]).all():
            raise ImageError(
                "the image has pixels of NaN or infinity: write numbers there, or remove it from "
                "the data set.",
                "not finite",
            )
        scaled = (grey - low) * (255.0 / max(high - low, 1e-12))
        image = Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8))
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        # Pillow converts the premultiplied and palette kinds to RGBA in one or two steps.
        image = image.convert({"La": "LA", "PA": "RGBA"}.get(image.mode, "RGBA")).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def open_rgb(path: str | Path) -> Image.Image:
    """Read an image file as upright 8-bit RGB (see `to_rgb`).

    What a format lets verify is verified, such as the checksums of PNG.

    Args:
        path: a file in any format Pillow reads; unicode, spaces and upper-case suffixes are fine.

    Returns:
        A fully decoded image of mode RGB; the file is closed.

    Raises:
        ImageError: the file cannot be used; its `kind` says why. Names the path and the remedy.
    """
    with _sayable(path):
        state_of_file(path)
        file = open(path, "rb")  # noqa: SIM115  closed by the block below
    with file:
        return read_rgb(file, str(path))


def state_of_file(path: str | Path) -> os.stat_result:
    """The state of a regular file that holds something.

    Raises:
        ImageError: it is none, or may not be looked at; its `kind` says why.
    """
    with _sayable(path):
        state = os.stat(path)
        if stat.S_ISDIR(state.st_mode):
            os.scandir(path).close()  # of a folder that is closed to us, that is what to say
            raise ImageError(f"{path} is a folder: give the image files in it.", "not an image")
        if not stat.S_ISREG(state.st_mode):
            raise ImageError(f"{path} is no regular file: give an image file.", "not an image")
        if state.st_size == 0:
            raise ImageError(f"{path} is empty (0 bytes): {_AGAIN}.", "empty file")
    return state


@contextmanager
def _sayable(path: str | Path) -> Iterator[None]:
    """A block in which errors of the file system become ImageErrors."""
    try:
        yield
    except ImageError:
        raise
    except PermissionError as error:
        raise ImageError(
            f"{path} may not be read ({error.strerror}): change its permissions or those of the "
            "folders above it.",
            "no permission",
        ) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(f"there is no image file {path}: check the path.", "missing") from error
    except OSError as error:
        raise ImageError(f"{path} cannot be opened ({error.strerror}).", "not readable") from error
    except ValueError as error:  # a null character
        raise ImageError(f"{str(path)!r} is no file name: correct it.", "missing") from error


def read_rgb(file: BinaryIO, name: str) -> Image.Image:
    """Read an image from an open binary file as upright 8-bit RGB.

    Args:
        file: at its beginning; can be rewound.
        name: of the file, for messages.

    Raises:
        ImageError: as `open_rgb`.
    """
    try:
        with Image.open(file) as image:
            if image.format in NO_PICTURE:
                raise UnidentifiedImageError(f"{image.format} data")
            found, kind = to_rgb(image), image.format
            end = _end_of_strips(image) if kind == "TIFF" else 0
        _verify(file, kind, end)
        return found
    except Stopped:  # a signal that arrived while the image was decoded
        raise
    except Exception as error:  # format plugins raise everything from struct.error to TypeError
        raise _explained(error, file, name) from error


def _verify(file: BinaryIO, kind: str | None, end: int) -> None:
    """Notice damage that decoding passes over.

    PNG has checksums, which decoding skips for pixels; what is missing from the end of a JPEG 2000
    or of a TIFF's strips is filled with grey by their libraries.
    """
    if kind == "PNG":
        file.seek(0)
        with Image.open(file) as image:
            image.verify()
    elif kind == "JPEG2000":
        file.seek(0)
        if b"\xff\xd9" not in file.read():  # the marker of the end, which no data may hold
            raise EOFError("the end of the image is missing")
    elif kind == "TIFF" and max(end, _end_of_tags(file)) > file.seek(0, os.SEEK_END):
        raise EOFError("the end of the image is missing")


def _end_of_strips(image: Image.Image) -> int:
    """The position behind the last byte of a TIFF's pixels."""
    ends = [0]
    for offsets, sizes in ((273, 279), (324, 325)):  # of strips, and of tiles
        tags = image.tag_v2
        if offsets in tags and sizes in tags:
            ends += [a + b for a, b in zip(tags[offsets], tags[sizes], strict=False)]
    return int(max(ends))


def _end_of_tags(file: BinaryIO) -> int:
    """The position behind the last tag of a TIFF's first directory, and behind its values."""
    file.seek(0)
    order = {b"II": "<", b"MM": ">"}.get(file.read(2))
    version, start = struct.unpack(f"{order}HI", file.read(6))
    if version != 42:  # a TIFF beyond 4 GB has another layout
        return 0
    file.seek(start)
    (count,) = struct.unpack(f"{order}H", file.read(2))
    ends = [start + 2 + 12 * count]
    for _, kind, length, offset in struct.iter_unpack(f"{order}HHII", file.read(12 * count)):
        size = length * {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}.get(kind, 1)
        ends.append(offset + size if size > 4 else 0)
    return max(ends)


def _explained(error: Exception, file: BinaryIO, name: str) -> ImageError:
    """The error that says what is wrong with an image, from Pillow's error and the first bytes."""
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    lower = reason.lower()
    if isinstance(error, ImageError):
        return ImageError(str(error).replace("the image", name, 1), error.kind)
    if isinstance(error, Image.DecompressionBombError | MemoryError):
        reason = reason.split(", could be")[0]
        return ImageError(f"{name} is too large to be read ({reason}): scale it down.", "too large")
    if isinstance(error, OSError) and error.errno is not None:
        return ImageError(f"{name} could not be read ({error.strerror}): {_AGAIN}.", "not readable")
    if isinstance(error, UnidentifiedImageError):
        return _unidentified(file, name)
    if isinstance(error, NotImplementedError) or any(
        word in lower for word in ("unsupported", "not supported", "not available", "cannot find")
    ):
        return ImageError(
            f"{name} is in a variant of its format that is not read here ({reason}): {_CONVERT}.",
            "unsupported format",
        )
    kind = "truncated" if isinstance(error, EOFError) or "truncated" in lower else "damaged"
    return ImageError(f"{name} is {kind} ({type(error).__name__}: {reason}): {_AGAIN}.", kind)


def _unidentified(file: BinaryIO, name: str) -> ImageError:
    """The error for a file whose first bytes no format plugin of Pillow knows."""
    file.seek(0)
    head = file.read(512)
    for offset, first, what, is_picture in _SIGNATURES:
        if head[offset:].startswith(first):
            if is_picture:
                text = f"{name} is {what}, which is not read here: {_CONVERT}."
                return ImageError(text, "unsupported format")
            text = f"{name} is not an image but {what}: remove it from the data set."
            return ImageError(text, "not an image")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        text = f"{name} is an SVG drawing, which is not read here: {_CONVERT}."
        return ImageError(text, "unsupported format")
    if head.startswith(_COMMON):
        return ImageError(f"{name} is damaged (its header cannot be read): {_AGAIN}.", "damaged")
    what = ", but a web page" if text.startswith((b"<!doctype", b"<html")) else ""
    return ImageError(f"{name} is not an image{what}: {_AGAIN}.", "not an image")


def read_picture(source: Any) -> Image.Image:
    """A picture in any of the forms that the package takes, as upright 8-bit RGB.

    Args:
        source: a path, a PIL image, a uint8 array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or a
            uint8 tensor (3, H, W), (1, H, W) or (H, W).

    Raises:
        InputError: anything else, in words; ImageError: an image that cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        return open_rgb(Path(source))
    if isinstance(source, Image.Image):
        try:
            return to_rgb(source)
        except Stopped:
            raise
        except Exception as error:  # of a file that PIL has opened but not decoded yet
            if isinstance(error, ImageError):
                raise
            name = getattr(source, "filename", "") or "the image"
            raise _explained(error, io.BytesIO(), str(name)) from error
    if isinstance(source, torch.Tensor):
        pixels = source.detach().cpu()
        if pixels.dtype == torch.bfloat16:
            pixels = pixels.float()
        pixels = pixels.numpy()
        if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4):
            pixels = pixels.transpose(1, 2, 0)  # (C, H, W) to (H, W, C)
    elif isinstance(source, np.ndarray):
        pixels = source
    else:
        raise InputError(
            f"a picture must be a PIL image, a path, or a uint8 array (H, W, 3), but one is a "
            f"{type(source).__name__}."
        )
    if pixels.dtype != np.uint8:
        raise InputError(
            f"the pixels of an array must be uint8 in [0, 255], but are {pixels.dtype}: scale and "
            "round them, and do not normalise them."
        )
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if 0 in pixels.shape or not (
        pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    ):
        raise InputError(
            f"an array must be one picture (H, W, 3) or (H, W), but has shape {pixels.shape}."
        )
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return image if image.mode == "RGB" else to_rgb(image)
