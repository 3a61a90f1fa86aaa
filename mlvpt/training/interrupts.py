"""How a run ends early: by a signal, or by a loss that is not a number."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlvpt.errors import Stopped


class StopSignals:
    """SIGINT and SIGTERM while a run is going on.

    Within `deferred()` a first signal only sets `received`, for the loop to act on after its step;
    outside, and on a second signal, `Stopped` is raised at once.

    Args:
        kept: gives the sentence about what is kept.
    """

    def __init__(self, kept: Callable[[], str]) -> None:
        self.kept = kept
        self.received: int | None = None
        self._deferring = False

    @contextmanager
    def installed(self) -> Iterator["StopSignals"]:
        """Handle the signals inside the block; the handlers before are put back after it."""
        if threading.current_thread() is not threading.main_thread():
            yield self  # only the main thread may set handlers; its own remain
            return
        before = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside the block a signal waits for the loop."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    def stop(self) -> Stopped:
        """The exception for the signal received; exit codes as shells give them."""
        number = self.received or signal.SIGTERM  # or by the signal of another process
        return Stopped(f"stopped by {signal.Signals(number).name}; {self.kept()}", 128 + number)

    def _handle(self, number: int, _frame: object) -> None:
        again = self.received is not None
        self.received = number
        if again or not self._deferring:
            raise self.stop()
