"""Pictures with what was found, missed and wrongly claimed in each."""

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image

from mlvpt.plots.style import style

FOUND, MISSED, WRONG = "#1b6e3a", "#8a5a00", "#a3123a"


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
