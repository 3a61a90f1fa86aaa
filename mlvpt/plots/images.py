"""Pictures side by side: under their labels, or with what a model found and missed in each."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image

from mlvpt.plots.style import panels, style

FOUND, MISSED, WRONG = "#1b6e3a", "#8a5a00", "#a3123a"


def image_grid(
    images: Sequence, titles: Sequence[str] | None = None, n_columns: int = 6, side: float = 1.35
) -> Figure:
    """Small pictures in rows.

    Args:
        images: PIL images or (H, W, 3) arrays.
        titles: one line above each picture.
        n_columns: pictures in a row.
        side: of a picture, in inches.
    """
    with style():
        figure, shown = _pictures(images, min(n_columns, len(images)), side, side + 0.25)
        for ax, title in zip(shown, titles or (), strict=False):
            ax.set_title(title, fontsize=9)
    return figure


def prediction_grid(
    images: Sequence[Image.Image],
    targets: ArrayLike,
    probabilities: ArrayLike,
    *,
    class_names: Sequence[str],
) -> Figure:
    """Pictures in a grid; under each the labels found, missed and wrongly claimed at 0.5.

    Args:
        images: N pictures.
        targets: (N, K) in {1, 0, -1}; -1 is neither right nor wrong.
        probabilities: (N, K) in [0, 1].
        class_names: K names.
    """
    targets, claimed = np.asarray(targets), np.asarray(probabilities) >= 0.5
    with style():
        figure, shown = _pictures(images, 6, 1.75, 2.4)
        for ax, truth, claim in zip(shown, targets, claimed, strict=True):
            lines = (
                ("found", FOUND, claim & (truth == 1)),
                ("missed", MISSED, ~claim & (truth == 1)),
                ("wrong", WRONG, claim & (truth == 0)),
            )
            for number, (what, color, which) in enumerate(lines):
                names = ", ".join(class_names[k] for k in np.flatnonzero(which)) or "–"
                ax.text(
                    0,
                    -0.04 - 0.13 * number,
                    f"{what} {names}",
                    color=color,
                    fontsize=9,
                    va="top",
                    transform=ax.transAxes,
                )
    return figure


def _pictures(
    images: Sequence, n_columns: int, width: float, height: float
) -> tuple[Figure, list[Axes]]:
    """A figure of pictures in rows, each in so many inches, and the Axes of each."""
    n_rows = -(-len(images) // n_columns)
    figure, axes = panels(n_rows, n_columns, width * n_columns, height * n_rows)
    shown = list(axes[: len(images)])
    for ax, image in zip(shown, images, strict=True):
        ax.imshow(np.asarray(image))
    return figure, shown
