"""Attention maps over their picture: where the prompts of every group, or class, look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
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
    figure, axes = _maps_beside_image(image, attention)
    for row, view in zip(axes, views, strict=True):
        row[0].set_title("shows " + ", ".join(names[k] for k in sorted(present)), fontsize=9)
        members, color = view_of(groups, view)
        for number, ax in enumerate(row[1:]):
            shown = bool(present & set(members[number]))
            ax.set_title(
                f"{view.upper()} {number}: {_names(names, members[number])}",
                fontsize=9,
                color=color if shown else "#595959",
                fontweight="bold" if shown else "normal",
            )
    return figure


def label_attention_grid(
    image: Image.Image,
    attention: ArrayLike,
    titles: Sequence[str],
    boxes: Sequence[tuple[int, int, int, int]] = (),
) -> Figure:
    """The image, and beside it one attention map per class, of the CO view and of the DC view.

    Args:
        image: the picture.
        attention: (2, n, h, w): the maps of n classes, in one common scale.
        titles: n titles.
        boxes: n boxes (x0, y0, x1, y1) in pixels, exclusive ends: where each class is; or
            none.

    Raises:
        InputError: the attention does not fit the titles and boxes.
    """
    attention = np.asarray(attention, dtype=np.float64)
    fits = attention.ndim == 4 and attention.shape[:2] == (2, len(titles))
    if not fits or len(boxes) not in (0, len(titles)):
        raise InputError(
            f"Attention of shape {attention.shape} does not fit 2 views, {len(titles)} titles and "
            f"{len(boxes)} boxes."
        )
    figure, axes = _maps_beside_image(image, attention)
    for axes_of_row, name in zip(axes, ("CO", "DC"), strict=True):
        axes_of_row[0].set_title(name, fontsize=10, fontweight="bold")
        for number, ax in enumerate(axes_of_row[1:]):
            ax.set_title(titles[number], fontsize=9)
            if len(boxes):
                x0, y0, x1, y1 = boxes[number]
                frame = (x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0
                ax.add_patch(Rectangle(*frame, fill=False, edgecolor="white", linewidth=1.5))
    return figure


def overlay(ax: Axes, image: Image.Image, weights: ArrayLike, peak: float) -> AxesImage:
    """One attention map over its picture in grey, patch by patch: nothing is smoothed.

    Args:
        ax: where to draw.
        image: the picture.
        weights: (h, w), not negative.
        peak: the weight drawn brightest. Give the largest of all maps of the picture: under its
            own maximum, the map of a group that looks nowhere would glow like any other.

    Returns:
        The map, for `colorbar`.
    """
    width, height = image.size
    ax.imshow(image.convert("L"), cmap="gray", vmin=0, vmax=255)
    ax.set_axis_off()
    return ax.imshow(
        weights,
        cmap=HEAT,
        alpha=0.6,
        vmin=0,
        vmax=peak,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )


def colorbar(figure: Figure, axes: Sequence[Axes], drawn: AxesImage) -> None:
    """The scale that all maps of a picture share, beside them."""
    label = "attention on a patch"
    figure.colorbar(drawn, ax=axes, shrink=0.7, pad=0.01, label=label, format="%.2g")


def view_of(groups: LabelGroups, view: str) -> tuple[list[list[int]], str]:
    """The classes of every group of a view, "co" or "dc", and the view's colour."""
    return (groups.co_members, CO_COLOR) if view == "co" else (groups.dc_members, DC_COLOR)


def _maps_beside_image(image: Image.Image, attention: np.ndarray) -> tuple[Figure, np.ndarray]:
    """The picture beside every row of (rows, n, h, w) maps: the Figure, and (rows, 1 + n) Axes."""
    n_rows, columns = len(attention), 1 + attention.shape[1]
    size = (1.75 * columns + 0.6, 2.1 * n_rows)
    with style():
        figure, axes = plt.subplots(
            n_rows, columns, figsize=size, squeeze=False, layout="constrained"
        )
        for row, maps in zip(axes, attention, strict=True):
            row[0].imshow(image)
            row[0].set_axis_off()
            for ax, weights in zip(row[1:], maps, strict=True):
                drawn = overlay(ax, image, weights, attention.max())
        colorbar(figure, axes, drawn)
    return figure, axes


def _names(names: Sequence[str], classes: Sequence[int], most: int = 16) -> str:
    """The names of a group, as many as fit above a map."""
    text = ""
    for done, k in enumerate(classes):
        longer = text + (", " if text else "") + names[k]
        if text and len(longer) > most:
            return f"{text} +{len(classes) - done}"
        text = longer
    return text
