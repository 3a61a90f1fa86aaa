"""Files that a command leaves, and files that the package reads back.

Writing: a file is whole or not there, nothing of the user's is replaced unasked, and what is no
regular file is written to, not replaced. Reading: JSON is checked against a schema.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
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
        if stream_of(path) is not None or _is_special(path):
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


def _is_special(path: Path) -> bool:
    """Whether a pipe or a device has this name; what can only be refused is refused."""
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
            special = stream is None and _is_special(path)
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


def read_json(path: str | Path, what: str, schema: Any = object) -> Any:
    """Read a JSON file and check it; `what` names it in errors, as "the model's configuration".

    Args:
        path: the file.
        what: what it holds.
        schema: see `check_schema`.

    Raises:
        InputError: the file is missing, is not JSON, has a key twice, or does not fit the schema;
            names the key.
    """
    path = Path(path)
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {what} is read from it.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {what} is in it.") from None
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} holds no valid JSON ({reason}): {what} cannot be read.") from None
    wrong = check_schema(content, schema)
    if wrong:
        raise InputError(f"{path} was damaged or edited ({wrong}): restore {what}.")
    return content


def parse_json(text: str) -> Any:
    """What JSON text holds.

    Raises:
        ValueError: it is no JSON, holds NaN or infinity, or a key stands twice.
    """
    return json.loads(text, object_pairs_hook=_without_twins, parse_constant=_refuse_constant)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice")
        found[key] = value
    return found


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    None: "null",
    object: "anything",
}


def check_schema(value: Any, schema: Any, key: str = "") -> str | None:
    """What is wrong with a value that was read from JSON, or None.

    Args:
        value: the value.
        schema: str, int, float (any finite number), bool, None or object (anything); [S] is a
            list of S; {str: S} maps any text to S; {"a": S, "b?": S} has the key a and perhaps b,
            and may have others; a tuple is a choice.
        key: of the value, for the message.

    Example:
        >>> check_schema({"co": [0, "x"]}, {"co": [int], "names?": [str]})
        "co[1] must be a whole number, not 'x'"
        >>> check_schema({}, {"co": [int]})
        'the key co is missing'
    """
    if isinstance(schema, tuple):
        wrong = [check_schema(value, each, key) for each in schema]
        if None in wrong:
            return None
        deep = [w for w in wrong if not w.startswith(f"{key or 'it'} must be")]
        return deep[0] if deep else _wrong(value, schema, key)
    if isinstance(schema, list) and isinstance(value, list):
        wrong = (check_schema(v, schema[0], f"{key}[{i}]") for i, v in enumerate(value))
        return next(filter(None, wrong), None)
    if isinstance(schema, Mapping) and isinstance(value, Mapping):
        if str in schema:
            schema = dict.fromkeys(value, schema[str])
        for name, each in schema.items():
            inner = f"{key}.{name.rstrip('?')}".lstrip(".")
            if name.rstrip("?") not in value and name not in value:
                if not name.endswith("?"):
                    return f"the key {inner} is missing"
                continue
            wrong = check_schema(value.get(name, value.get(name.rstrip("?"))), each, inner)
            if wrong:
                return wrong
        return None
    return None if _is(value, schema) else _wrong(value, schema, key)


def _is(value: Any, kind: Any) -> bool:
    if kind is object or kind is None:
        return kind is object or value is None
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and -math.inf < value < math.inf
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(kind, type) and isinstance(value, kind)


def _wrong(value: Any, schema: Any, key: str) -> str:
    return f"{key or 'it'} must be {_words(schema)}, not {shortened(value)}"


def _words(schema: Any) -> str:
    if isinstance(schema, tuple):
        return " or ".join(_words(each) for each in schema)
    if isinstance(schema, (list, Mapping)):
        return "a list" if isinstance(schema, list) else "a mapping"
    return WORDS[schema]


def shortened(value: Any) -> str:
    """A value as text of one line, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python prints no numbers of more than 4300 digits
        text = f"a very long {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:56]} ..."


def sha256_of_json(content: Any) -> str:
    """SHA-256 of a value as JSON has it, whatever the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sha256_of_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
