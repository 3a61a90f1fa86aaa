"""What a command is going to write: nothing of the user's is replaced unasked."""

import contextlib
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

from mlvpt.errors import InputError
from mlvpt.files.writing import is_special, stream_of


class Outputs:
    """What a command is going to write, refused before the work where it would destroy something.

    Args:
        inputs: files that the command reads.
    """

    def __init__(self, inputs: Iterable[str | Path] = ()) -> None:
        self._inputs = [Path(path) for path in inputs]
        self._targets: dict[Path, str] = {}

    def add(
        self, path: str | Path | None, what: str, *, own: Callable[[Path], bool] | None = None
    ) -> None:
        """Add a file to write; None: the option was not given.

        Args:
            path: the file, or a pipe, a device or "-".
            what: what the message calls it, such as "--csv".
            own: for a file that the user did not name: whether one that exists already was
                written by this package, so that it may be replaced.

        Raises:
            InputError: it is an input of the command, another output, a folder, a file of the
                user's that was not asked to be replaced, or cannot be written at all.
        """
        if path is None:
            return
        path = Path(path)
        stream = stream_of(path)
        try:
            special = stream is None and is_special(path)
            target = Path(f"/dev/fd/{stream}") if stream is not None else path.resolve()
        except (OSError, RuntimeError, ValueError) as error:  # too long, a circle of links, ...
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{what}: {path} cannot be written ({reason}).") from None
        if target in self._targets:
            raise InputError(
                f"{what} and {self._targets[target]} name one file, {path}: give each its own."
            )
        self._targets[target] = what
        if stream is not None or special:
            return
        parent = next(folder for folder in target.parents if folder.exists())
        if not parent.is_dir():
            raise InputError(f"{what}: {parent} is a file, and a folder is needed for {path}.")
        if target.exists():
            state = target.stat()
            if (state.st_dev, state.st_ino) in self._inputs_on_disk:
                raise InputError(f"{what}: {path} is read by this command: name another file.")
            if own is not None and not own(target):
                raise InputError(
                    f"{what}: {path} exists and was not written by this package: move it, or "
                    "choose another place."
                )

    @cached_property
    def _inputs_on_disk(self) -> set[tuple[int, int]]:
        """Device and inode of each input."""
        known = set()
        for path in self._inputs:
            with contextlib.suppress(OSError, ValueError):
                state = path.stat()
                known.add((state.st_dev, state.st_ino))
        return known


def output_to_standard(*paths: str | Path | None) -> bool:
    """Whether one of these outputs goes to standard output, which then holds nothing else."""
    return any(path is not None and stream_of(path) == 1 for path in paths)
