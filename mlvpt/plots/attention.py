"""Attention maps over their picture: where the prompts of every group look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike
from PIL import Image, ImageOps

from mlvpt.errors import InputError
from mlvpt.labels import LabelGroups
from mlvpt.plots.style import CO_COLOR, DC_COLOR, panels

HEAT = LinearSegmentedColormap.from_list("attention", ["white", "#ffd23f", "#e8590c"])
DARKEST = 0.3  # grey of what is black in the picture: its patch still shows a colour
COLUMNS = 3  # maps in a row of `attention_grid`: legible on a phone


def attention_grid(
    image: Image.Image,
    attention: ArrayLike,
    groups: LabelGroups,
    present: Iterable[int] = (),
    views: Sequence[str] = ("co", "dc"),
) -> Figure:
    """The image, and one attention map per group, three pictures in a row.

    All maps share one scale, so that a group that looks nowhere in particular stays grey.

    Args:
        image: the picture.
        attention: (views, G, h, w), as `MLVPT.attention` gives for one image.
        groups: the model's label groups, of the same G.
        present: indices of the classes in the picture; they are named above it, and groups that
            hold one of them are titled in the colour of their view, these classes first.
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
    n_maps = len(views) * groups.n_groups
    figure, axes = _panels(image, -(-(n_maps + 1) // COLUMNS), COLUMNS)
    axes[0].imshow(image)
    axes[0].set_title(_names("", names, sorted(present)) or "the picture", fontsize=9)
    each = [(view, number) for view in views for number in range(groups.n_groups)]
    maps = attention.reshape(n_maps, *attention.shape[2:])
    for ax, (view, number), weights in zip(axes[1:], each, maps, strict=False):
        drawn = overlay(ax, image, weights, attention.max())
        members, color = view_of(groups, view)
        first = sorted(members[number], key=lambda k: k not in present)
        shown = bool(present & set(first))
        ax.set_title(
            _names(f"{view.upper()} {number}: ", names, first),
            fontsize=9,
            color=color if shown else "#595959",
            fontweight="bold" if shown else "normal",
        )
    colorbar(figure, axes, drawn)
    return figure


def overlay(ax: Axes, image: Image.Image, weights: ArrayLike, peak: float) -> AxesImage:
    """One attention map under its picture in grey, patch by patch: nothing is smoothed.

    The picture lies over the colours like ink: it darkens them and hides none of its own lines.

    Args:
        ax: where to draw.
        image: the picture.
        weights: (h, w), not negative.
        peak: the weight drawn in the strongest colour. Give the largest of all maps of the
            picture: under its own maximum, the map of a group that looks nowhere would glow like
            any other.

    Returns:
        The map, for `colorbar`.
    """
    width, height = image.size
    grey = np.asarray(ImageOps.autocontrast(image.convert("L"), cutoff=0.5)) / 255
    ink = np.zeros((height, width, 4))
    ink[..., 3] = (1 - DARKEST) * (1 - grey)  # colour times grey, as transparent black
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    drawn = ax.imshow(weights, cmap=HEAT, vmin=0, vmax=peak, extent=extent)
    ax.imshow(ink, extent=extent)
    ax.set_axis_off()
    return drawn


def colorbar(figure: Figure, axes: Sequence[Axes], drawn: AxesImage) -> None:
    """The scale that all maps of a picture share, below them."""
    figure.colorbar(
        drawn,
        ax=list(axes),
        location="bottom",
        shrink=0.6,
        aspect=30,
        pad=0.02,
        label="attention on a patch",
        format="%.2g",
    )


def view_of(groups: LabelGroups, view: str) -> tuple[list[list[int]], str]:
    """The classes of every group of a view, "co" or "dc", and the view's colour."""
    return (groups.co_members, CO_COLOR) if view == "co" else (groups.dc_members, DC_COLOR)


def _panels(image: Image.Image, n_rows: int, n_columns: int) -> tuple[Figure, np.ndarray]:
    """A Figure for pictures of the image's shape, 4.6 inches wide, and its (n,) Axes."""
    height = n_rows * (4.6 / n_columns * image.height / image.width + 0.22) + 0.6
    return panels(n_rows, n_columns, 4.6, height)


def _names(text: str, names: Sequence[str], classes: Sequence[int]) -> str:
    """The text and the names of a group, as many as fit above a map, 18 letters."""
    for done, k in enumerate(classes):
        longer = text + (", " if done else "") + names[k]
        if done and len(longer) > 18:
            return f"{text} +{len(classes) - done}"
        text = longer
    return text
