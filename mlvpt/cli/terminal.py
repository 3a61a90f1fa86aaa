"""Standard output and error whose failure costs nothing that was worked for.

A reader such as `head` that has seen enough ends the printing, not the work; a character that the
terminal lacks is printed as an escape. A disk that is full under `> FILE` is told at the end.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Patient:
    """A text stream that goes on without its reader.

    Args:
        stream: the stream, or None where the process was started without it.

    Attributes:
        failure: the error that printing met first, a reader that left aside; None: all is well.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.failure: OSError | None = None
        if getattr(stream, "errors", None) == "strict":
            with contextlib.suppress(AttributeError, ValueError):  # not every stream can change
                stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Print text, or do nothing when the reader is gone."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Hand on what is waiting, or do nothing when the reader is gone."""
        self._try("flush")

    def isatty(self) -> bool:
        """Whether a person is reading."""
        return self._stream is not None and self._stream.isatty()

    def _try(self, name: str, *words: str) -> None:
        if self._stream is None:
            return
        try:
            getattr(self._stream, name)(*words)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.failure = error
            self._silence()

    def _silence(self) -> None:
        """Drop what the stream still holds, so that Python does not fail at its exit."""
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        self._stream = None

    def __getattr__(self, name: str) -> Any:
        if self._stream is None:
            raise AttributeError(name)
        return getattr(self._stream, name)


@contextmanager
def patient_streams() -> Iterator[tuple[Patient, Patient]]:
    """A block in which printing cannot fail; gives the two streams."""
    before = sys.stdout, sys.stderr
    streams = Patient(sys.stdout), Patient(sys.stderr)
    sys.stdout, sys.stderr = streams
    try:
        yield streams
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before
