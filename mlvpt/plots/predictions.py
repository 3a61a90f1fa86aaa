"""A picture with its predicted labels and where the prompts of their groups look."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from mlvpt.labels import LabelGroups
from mlvpt.plots.style import CO_COLOR, DC_COLOR, style

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
    maps = [] if attention is None or groups is None else list(zip(views, attention, strict=True))
    columns = max([4, *(len(rows) for _, rows in maps)])
    with style():
        figure = Figure(figsize=(1.9 * columns, 3.2 + 2.1 * len(maps)), layout="constrained")
        heights = [1.6] + [1.0] * len(maps)
        grid = figure.add_gridspec(1 + len(maps), columns, height_ratios=heights)
        picture = figure.add_subplot(grid[0, : columns // 2])
        picture.imshow(image)
        picture.set_axis_off()
        _bars(figure.add_subplot(grid[0, columns // 2 :]), labels)
        for row, (view, per_group) in enumerate(maps, start=1):
            members = groups.co_members if view == "co" else groups.dc_members
            for group, weights in enumerate(per_group):
                names = [class_names[k] for k in members[group]]
                shown = [name for name in names if name in labels]
                axes = figure.add_subplot(grid[row, group])
                attention_overlay(image, weights, ax=axes)
                title = f"{view.upper()} {group}: {', '.join(shown) or 'no label here'}"
                colour = (CO_COLOR if view == "co" else DC_COLOR) if shown else "grey"
                axes.set_title(_shorten(title), fontsize=8, color=colour)
    return figure


def attention_overlay(image: Image.Image, weights: np.ndarray, *, ax: Axes) -> Axes:
    """The image under a heat map of attention weights.

    Args:
        image: the picture.
        weights: (h, w), not negative; the map is scaled to its own maximum.
        ax: where to draw.
    """
    peak = float(np.max(weights))
    heat = Image.fromarray((255 * weights / (peak if peak > 0 else 1.0)).astype(np.uint8))
    heat = np.asarray(heat.resize(image.size, Image.Resampling.BILINEAR)) / 255
    ax.imshow(image.convert("L"), cmap="gray")
    ax.imshow(heat, cmap="inferno", alpha=0.55, vmin=0, vmax=1)
    ax.set_axis_off()
    return ax


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


def _shorten(text: str, most: int = 26) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
