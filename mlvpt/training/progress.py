"""What a person sees of a run: a bar in a terminal or notebook, a line per epoch in a log."""

import sys
import warnings
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm


class Progress:
    """A bar over the images of all epochs, and TensorBoard if it is installed.

    Args:
        shown: False says nothing at all.
        total: images of all epochs.
        folder: of the run; TensorBoard's files go to tensorboard/ in it.

    Use it as a context manager; the bar appears on entering.
    """

    def __init__(self, shown: bool, total: int, folder: Path) -> None:
        self.shown, self.total, self.folder = shown, total, folder
        # tqdm.auto is the notebook's bar inside a notebook
        in_notebook = tqdm.__mro__[1].__module__.endswith("notebook")
        self.as_bar = shown and (sys.stderr.isatty() or in_notebook)
        self.start = 0
        self._note: dict[str, str] = {}
        self._bar: Any = None
        self._board: Any = None

    def start_at(self, images: int) -> None:
        """The run was resumed after so many images."""
        self.start = images

    def __enter__(self) -> "Progress":
        self._board = _tensorboard(self.folder) if self.shown else None
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
        if self._board is not None:
            self._board.close()

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
        if self._board is not None:
            for name in ("loss", "val_mAP", "lr", "images_per_second"):
                self._board.add_scalar(name, line[name], line["step"])

    def write(self, text: str) -> None:
        """Print without breaking the bar."""
        if self.shown:
            tqdm.write(text, file=sys.stderr)


def _tensorboard(folder: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
