"""Writing: a file is whole or not there; pipes and devices are written to, never replaced."""

import contextlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlvpt.errors import InputError

STANDARD = {"-": 1, "/dev/stdout": 1, "/dev/stderr": 2}  # names of streams of this process


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path for the content of `path`, which gets it when the block ends well.

    A reader sees the old file or the new one, never half of one. On any error, Ctrl-C and
    a full disk included, the old file stays and the temporary one is removed. A symbolic link
    stays one, and its target is written. An existing file keeps its mode, a new one has that of
    the umask. What is no regular file (a pipe, a device, or "-" for standard output) is not
    replaced: the content is written into it.

    Raises:
        InputError: a folder or a socket has this name.
        OSError: the file cannot be written; always with its name.
    """
    path = Path(path)
    with _named(path):
        if stream_of(path) is not None or is_special(path):
            with _streamed(path) as temporary:
                yield temporary
            return
        target = path.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        # a name may have 255 bytes, and the temporary one is to fit too
        short = target.name.encode()[:200].decode(errors="ignore")
        temporary = target.with_name(f".{short}.{os.getpid()}.tmp")
        try:
            temporary.unlink(missing_ok=True)
            temporary.touch()
            mode = stat.S_IMODE((target if target.exists() else temporary).stat().st_mode)
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())  # the rename must not reach the disk before the content
            with contextlib.suppress(PermissionError):  # on file systems without modes
                temporary.chmod(mode)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file, whole or not at all, see `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all, see `atomic_path`.

    Bytes of file names that are no text become escapes such as \\udcff, which JSON knows, too.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all, see `atomic_path`."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def stream_of(path: str | Path) -> int | None:
    """The number of the stream of this process that `path` names, as "-" or /dev/stdout does."""
    found = re.fullmatch(r"/(?:dev|proc/(?:self|\d+))/fd/(\d+)", str(path))
    return int(found[1]) if found else STANDARD.get(str(path))


def is_special(path: Path) -> bool:
    """Whether a pipe or a device has this name; folders, sockets and disks are refused."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a folder: name a file.")
    if stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
        raise InputError(f"{path} is a socket or a disk: name a file.")
    return not stat.S_ISREG(mode)


@contextmanager
def _streamed(path: Path) -> Iterator[Path]:
    """A temporary path whose content is written into a pipe, a device or a stream at the end."""
    number = stream_of(path)
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "content"
        yield temporary
        for stream in (sys.stdout, sys.stderr):
            if number is not None and stream is not None:
                stream.flush()  # what was printed before comes first
        target = path if number is None else os.dup(number)
        with temporary.open("rb") as source, open(target, "wb") as sink:
            shutil.copyfileobj(source, sink)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """A block whose OSError says which file it is about."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise
