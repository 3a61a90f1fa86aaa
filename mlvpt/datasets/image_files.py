"""Finding files: folders that must be there, and image files whose exact name is not known.

Nothing here opens an image; a data set of labels alone can be built before its images arrive.
"""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from mlvpt.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".png", ".jpeg", ".JPG", ".PNG", ".JPEG")


def require(
    path: Path, what: str, script: str | None = None, remedy: str = "check the path"
) -> Path:
    """`path`, if it exists.

    Args:
        path: the file or folder that a loader reads.
        what: what it is, for the message: "the label files of VOC2007".
        script: the data_prep script that makes it, without `.py`; None where there is none.
        remedy: what to do instead, where there is no script.

    Raises:
        InputError: it does not exist; names the exact path and the script.
    """
    try:
        os.stat(path)
    except PermissionError as error:
        raise InputError(
            f"{what} should be at {path}, which may not be read ({error.strerror}): change its "
            "permissions or those of the folders above it."
        ) from error
    except (OSError, ValueError):  # ValueError: a null character in the path
        if script:
            remedy = f"make it with `python data_prep/{script}.py`, or correct the root folder"
        raise InputError(f"{what} should be at {path}, and nothing is there: {remedy}.") from None
    return path


def require_file(path: Path, what: str, remedy: str = "check the path") -> Path:
    """`path`, if it is a file; `remedy` is what to do if nothing is there.

    Raises:
        InputError: it does not exist, or is a folder.
    """
    if require(path, what, remedy=remedy).is_dir():
        raise InputError(f"{what} should be a file, and {path} is a folder: give the file itself.")
    return path


def first_existing(root: Path, candidates: Sequence[str]) -> Path:
    """The first of `candidates` that exists under `root`, else the first of them."""
    for candidate in candidates:
        if os.path.exists(root / candidate):
            return root / candidate
    return root / candidates[0]


def spelling_variants(path: str) -> list[str]:
    """Other spellings of a name: suffix in the other case, accents composed or decomposed."""
    folder, name = os.path.split(path)
    stem, suffix = os.path.splitext(name)
    names = [stem + suffix.upper(), stem + suffix.lower()]
    if not name.isascii():
        names += [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    return [os.path.join(folder, other) for other in dict.fromkeys(names) if other != name]


class ImageFiles(Sequence):
    """A sequence of image paths, each looked for only when it is asked for.

    Args:
        folders: where to look, in this order.
        names: N file names relative to a folder, or absolute.
        suffixes: endings to try after each name; ("",) where the names are complete.

    Item i is the first of folder/name+suffix that exists. Where none does, it is the first
    candidate, so that the error of opening it names the place where it belongs.
    """

    def __init__(
        self, folders: Sequence[Path], names: Sequence[str], suffixes: Sequence[str] = ("",)
    ) -> None:
        self.folders = [Path(folder) for folder in folders]
        self.names = list(names)
        self.suffixes = tuple(suffixes)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Path:
        return Path(self.find(index))

    def find(self, index: int) -> str:
        """The path of item `index`: strings, because a data set may have 100,000 of them."""
        name = self.names[index]
        candidates = [
            os.path.join(folder, name + end) for folder in self.folders for end in self.suffixes
        ]
        for candidate in candidates:
            if os.path.isfile(candidate):  # False, not an error, in a folder closed to us
                return candidate
        for candidate in candidates:
            for variant in spelling_variants(candidate):
                if os.path.isfile(variant):
                    return variant
        return candidates[0]
