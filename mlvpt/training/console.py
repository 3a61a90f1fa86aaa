"""A run at the terminal: its progress bar or lines, tables, and the signals that stop it."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from tqdm.notebook import tqdm as notebook_tqdm

from mlvpt.errors import Stopped


class Progress:
    """A bar over the images of all epochs.

    Args:
        shown: False says nothing at all.
        total: images of all epochs.
        folder: of the run.

    Attributes:
        start: images before this process, where the run was resumed; set it before entering.

    Use it as a context manager; the bar appears on entering.
    """

    def __init__(self, shown: bool, total: int, folder: Path) -> None:
        self.shown, self.total, self.folder = shown, total, folder
        # tqdm.auto is the notebook's bar inside a notebook
        in_notebook = issubclass(tqdm, notebook_tqdm)
        self.as_bar = shown and (sys.stderr.isatty() or in_notebook)
        self.start = 0
        self._note: dict[str, str] = {}
        self._bar: Any = None

    def __enter__(self) -> "Progress":
        self._bar = tqdm(
            total=self.total,
            initial=self.start,
            disable=not self.as_bar,
            unit="img",
            unit_scale=True,
            desc=self.folder.name,
            dynamic_ncols=True,
        )
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.close()

    def advance(self, images: int, loss: float | None) -> None:
        """A step is done; `loss` is the epoch's mean so far, None where it is not known yet."""
        if self.as_bar:
            if loss is not None:
                self._note["loss"] = f"{loss:.4f}"
            self._bar.set_postfix(self._note, refresh=False)
            self._bar.update(images)

    def epoch(self, line: dict[str, Any], epochs: int) -> None:
        """An epoch is done; `line` is what metrics.jsonl gets."""
        self._note = {
            "epoch": f"{line['epoch']}/{epochs}",
            "val mAP": f"{100 * line['val_mAP']:.2f}",
        }
        if self.as_bar:
            self._bar.set_postfix(self._note)
        else:
            self.write(
                f"epoch {line['epoch']}/{epochs}  loss {line['loss']:.4f}  "
                f"val mAP {100 * line['val_mAP']:.2f}  {line['images_per_second']:.0f} img/s"
            )

    def write(self, text: str) -> None:
        """Print without breaking the bar."""
        if self.shown:
            tqdm.write(text, file=sys.stderr)


def layout(
    rows: Sequence[Sequence[str]], markdown: bool = False, words: Sequence[int] = (0,)
) -> str:
    """Rows of cells as the text of a table.

    Args:
        rows: the head, then the lines; cells are text.
        markdown: Markdown; else columns two spaces apart, as wide as their widest cell.
        words: columns that are aligned left; the others hold numbers, aligned right.

    Example:
        >>> print(layout([["method", "mAP"], ["ML-VPT", "88.1"], ["VPT", "9.5"]]))
        method   mAP
        ML-VPT  88.1
        VPT      9.5
    """
    if markdown:
        head, *lines = rows
        rule = ["---" if i in words else "---:" for i in range(len(head))]
        return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *lines))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = (
        [f"{cell:{'<' if i in words else '>'}{widths[i]}}" for i, cell in enumerate(row)]
        for row in rows
    )
    return "\n".join("  ".join(row).rstrip() for row in cells)


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
