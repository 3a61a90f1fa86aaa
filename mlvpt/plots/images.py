"""Pictures side by side, each under its labels."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mlvpt.plots.style import style


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
