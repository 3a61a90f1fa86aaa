"""A picture with its predicted labels and where the prompts of their groups look."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from mlvpt.labels import LabelGroups
from mlvpt.plots.attention import colorbar, overlay, view_of
from mlvpt.plots.style import style

MOST_LABELS = 12  # bars that fit beside a picture


def prediction_figure(
    image: Image.Image,
    labels: Mapping[str, float],
    *,
    class_names: Sequence[str],
    groups: LabelGroups | None = None,
    attention: np.ndarray | None = None,
    views: Sequence[str] = ("co", "dc"),
) -> Figure:
    """The image, its labels as bars, and a row of attention maps for each view.

    All maps share one scale, up to the largest weight among them, which the colour bar shows.

    Args:
        image: the picture.
        labels: {class name: probability} of the predicted labels, most probable first.
        class_names: K names, in the order of the groups.
        groups: the model's label groups, for the titles of the maps.
        attention: (views, G, h, w) as `model.attention` gives for one image; None: no maps.
        views: the views in the order of `attention`.

    Returns:
        A Figure that belongs to no window; save it with `savefig`.
    """
    if attention is None or groups is None:
        views, attention = (), np.zeros((0, 0, 1, 1))
    n_rows, columns = 1 + len(views), max(4, attention.shape[1])
    peak = attention.max(initial=0)
    with style():
        figure = Figure(figsize=(1.9 * columns, 3.2 + 2.1 * len(views)), layout="constrained")
        grid = figure.add_gridspec(n_rows, columns, height_ratios=[1.6] + [1.0] * len(views))
        picture = figure.add_subplot(grid[0, : columns // 2])
        picture.imshow(image)
        picture.set_axis_off()
        _bars(figure.add_subplot(grid[0, columns // 2 :]), labels)
        axes = []
        for row, (view, maps) in enumerate(zip(views, attention, strict=True), start=1):
            members, color = view_of(groups, view)
            for group, weights in enumerate(maps):
                shown = [class_names[k] for k in members[group] if class_names[k] in labels]
                axes.append(figure.add_subplot(grid[row, group]))
                drawn = overlay(axes[-1], image, weights, peak)
                title = f"{view.upper()} {group}: {', '.join(shown) or 'no label here'}"
                axes[-1].set_title(_shorten(title), fontsize=8, color=color if shown else "grey")
        if axes:
            colorbar(figure, axes, drawn)
    return figure


def _bars(ax: Axes, labels: Mapping[str, float]) -> None:
    shown = list(labels.items())[:MOST_LABELS]
    names = [name for name, _ in shown]
    ax.barh(names, [100 * p for _, p in shown], color="0.45")
    ax.invert_yaxis()
    ax.set_xlim(0, 100)
    ax.set_xlabel("probability (%)")
    if not shown:
        ax.text(50, 0, "no label", ha="center", va="center")
        ax.set_yticks([])


def _shorten(text: str) -> str:
    return text if len(text) <= 26 else text[:25] + "…"
