"""Where the prompts of every group look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from PIL import Image

from mlvpt.errors import InputError
from mlvpt.labels import LabelGroups
from mlvpt.plots.style import CO_COLOR, DC_COLOR, style

HEAT = "inferno"  # bright is much, on a grey picture


def attention_grid(
    image: Image.Image,
    attention: ArrayLike,
    groups: LabelGroups,
    present: Iterable[int] = (),
    views: Sequence[str] = ("co", "dc"),
) -> Figure:
    """The image, and beside it one attention map per group, one row per view.

    All maps share one scale, so that a group that looks nowhere in particular is dark.

    Args:
        image: the picture.
        attention: (views, G, h, w), as `MLVPT.attention` gives for one image.
        groups: the model's label groups, of the same G.
        present: indices of the classes in the picture; they are named above it, and groups that
            hold one of them are titled in the colour of their view.
        views: the views in the order of `attention`.

    Returns:
        The Figure.

    Raises:
        InputError: the attention does not fit the groups and views.
    """
    attention = np.asarray(attention, dtype=np.float64)
    if attention.ndim != 4 or attention.shape[:2] != (len(views), groups.n_groups):
        raise InputError(
            f"Attention of shape {attention.shape} does not fit {len(views)} views of "
            f"{groups.n_groups} groups: give model.attention(images)[i]."
        )
    names = groups.class_names or tuple(str(k) for k in range(groups.n_classes))
    present = {int(k) for k in present}
    members = {"co": groups.co_members, "dc": groups.dc_members}
    colors = {"co": CO_COLOR, "dc": DC_COLOR}
    with style():
        columns = 1 + groups.n_groups
        figure, axes = plt.subplots(
            len(views),
            columns,
            figsize=(1.75 * columns + 0.6, 2.1 * len(views)),
            squeeze=False,
            layout="constrained",
        )
        for row, view, maps in zip(axes, views, attention, strict=True):
            row[0].imshow(image)
            row[0].set_title("shows " + ", ".join(names[k] for k in sorted(present)), fontsize=9)
            for number, ax in enumerate(row[1:]):
                classes = members[view][number]
                drawn = _overlay(ax, image, maps[number], attention.max())
                ax.set_title(
                    f"{view.upper()} {number}: {_names(names, classes)}",
                    fontsize=9,
                    color=colors[view] if present & set(classes) else "#595959",
                    fontweight="bold" if present & set(classes) else "normal",
                )
        for ax in axes.flat:
            ax.set_axis_off()
        figure.colorbar(
            drawn, ax=axes, shrink=0.7, pad=0.01, label="attention on a patch", format="%.2g"
        )
    return figure


def label_attention_grid(
    image: Image.Image,
    attention: ArrayLike,
    titles: Sequence[str],
    boxes: Sequence[tuple[int, int, int, int]] = (),
    rows: Sequence[str] = ("CO", "DC"),
) -> Figure:
    """The image, and beside it one attention map per class, one row per view.

    Args:
        image: the picture.
        attention: (views, n, h, w): the maps of n classes, in one common scale.
        titles: n titles.
        boxes: n boxes (x0, y0, x1, y1) in pixels, exclusive ends: where each class is. None: no
            frames.
        rows: names of the views.

    Returns:
        The Figure.

    Raises:
        InputError: the attention does not fit the titles, boxes and rows.
    """
    attention = np.asarray(attention, dtype=np.float64)
    fits = attention.ndim == 4 and attention.shape[:2] == (len(rows), len(titles))
    if not fits or len(boxes) not in (0, len(titles)):
        raise InputError(
            f"Attention of shape {attention.shape} does not fit {len(rows)} rows, {len(titles)} "
            f"titles and {len(boxes)} boxes."
        )
    with style():
        columns = 1 + len(titles)
        figure, axes = plt.subplots(
            len(rows),
            columns,
            figsize=(1.75 * columns + 0.6, 2.1 * len(rows)),
            squeeze=False,
            layout="constrained",
        )
        for axes_of_row, name, maps in zip(axes, rows, attention, strict=True):
            axes_of_row[0].imshow(image)
            axes_of_row[0].set_title(name, fontsize=10, fontweight="bold")
            for number, ax in enumerate(axes_of_row[1:]):
                drawn = _overlay(ax, image, maps[number], attention.max())
                ax.set_title(titles[number], fontsize=9)
                if len(boxes):
                    x0, y0, x1, y1 = boxes[number]
                    frame = (x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0
                    ax.add_patch(Rectangle(*frame, fill=False, edgecolor="white", linewidth=1.5))
        for ax in axes.flat:
            ax.set_axis_off()
        figure.colorbar(
            drawn, ax=axes, shrink=0.7, pad=0.01, label="attention on a patch", format="%.2g"
        )
    return figure


def _overlay(ax: Axes, image: Image.Image, weights: np.ndarray, peak: float):
    """The picture in grey under the weights (h, w), patch by patch: nothing is smoothed."""
    width, height = image.size
    ax.imshow(image.convert("L"), cmap="gray", vmin=0, vmax=255)
    return ax.imshow(
        weights,
        cmap=HEAT,
        alpha=0.6,
        vmin=0,
        vmax=peak,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )


def _names(names: Sequence[str], classes: Sequence[int], most: int = 16) -> str:
    """The names of a group, as many as fit above a map."""
    text = ""
    for done, k in enumerate(classes):
        longer = text + (", " if text else "") + names[k]
        if text and len(longer) > most:
            return f"{text} +{len(classes) - done}"
        text = longer
    return text
