"""Pictures side by side: under their labels, or with what a model found and missed in each."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image

from mlvpt.plots.style import style

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
    n_columns = min(n_columns, len(images))
    n_rows = -(-len(images) // n_columns)
    with style():
        figure, axes = plt.subplots(
            n_rows,
            n_columns,
            figsize=(side * n_columns, (side + 0.25) * n_rows),
            squeeze=False,
            layout="constrained",
        )
        for axis in axes.flat:
            axis.set_axis_off()
        for index, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
            axis.imshow(np.asarray(image))
            if titles is not None:
                axis.set_title(titles[index], fontsize=9)
    return figure


def prediction_grid(
    images: Sequence[Image.Image],
    targets: ArrayLike,
    probabilities: ArrayLike,
    *,
    class_names: Sequence[str],
    threshold: float = 0.5,
    columns: int = 6,
) -> Figure:
    """Pictures in a grid; under each the labels found, missed and wrongly claimed.

    Args:
        images: N pictures.
        targets: (N, K) in {1, 0, -1}; -1 is neither right nor wrong.
        probabilities: (N, K) in [0, 1].
        class_names: K names.
        threshold: from this probability on a label counts as claimed.
        columns: pictures in a row.
    """
    targets, claimed = np.asarray(targets), np.asarray(probabilities) >= threshold
    rows = -(-len(images) // columns)
    with style():
        figure, axes = plt.subplots(
            rows, columns, figsize=(1.75 * columns, 2.4 * rows), squeeze=False, layout="constrained"
        )
        for ax in axes.flat:
            ax.set_axis_off()
        for ax, image, truth, claim in zip(axes.flat, images, targets, claimed, strict=False):
            ax.imshow(image)
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
