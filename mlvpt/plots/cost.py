"""Accuracy against cost: what each method, with prompts in so many blocks, reaches for its time."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from mlvpt.errors import InputError
from mlvpt.plots.results import NAMES
from mlvpt.plots.style import GREY, MARKERS, axes, line_colors, style


def accuracy_against_cost(
    lines: Sequence[Mapping[str, Any]],
    names: Mapping[str, str] | None = None,
    measure: str = "test_mAP",
    cost: str = "seconds",
    cost_label: str = "seconds per run",
    ax: Axes | None = None,
) -> Axes:
    """A point per method and number of prompted blocks, named beside it; costs are logarithmic.

    The number in a name says in how many of the last blocks the method has prompts. Points of one
    method are joined in the order of their cost. Whiskers are one standard deviation
    over seeds. Legible at 390 px.

    Args:
        lines: of `summarise`: the variant is a method, or "method, n" with prompts in the last n
            blocks ("deep": in all).
        names: what to call a method; others keep their name.
        measure: fraction on the vertical axis.
        cost: key of the lines on the horizontal axis, above 0.
        cost_label: what to call it.
        ax: where to draw; a new figure if None.

    Returns:
        The Axes; y is in percent.

    Raises:
        InputError: no lines, or one without the measure or a cost.
    """
    if not lines:
        raise InputError("There are no results to draw: make the runs first (mlvpt ablate).")
    for line in lines:
        if line.get(measure) is None or not line.get(cost, 0) > 0:
            raise InputError(f"{line['variant']} has no {measure} or no {cost}: leave it out.")
    methods: dict[str, list[tuple[float, float, float, str]]] = {}
    for line in lines:
        method, _, n = line["variant"].partition(", ")
        std = line.get(f"{measure}_std", np.nan)
        point = (line[cost], 100 * line[measure], 0.0 if np.isnan(std) else 100 * std, n)
        methods.setdefault(method, []).append(point)
    with style():
        ax, colors = axes(4.3, 5.2, ax), line_colors(list(methods))
        ax.set_xscale("log")
        labels = []
        for number, (method, points) in enumerate(methods.items()):
            color = colors[number]
            points.sort()
            x, y, spread, _ = zip(*points, strict=True)
            ax.errorbar(
                x,
                y,
                yerr=spread,
                fmt=MARKERS[number % len(MARKERS)] + "-",
                color=color,
                capsize=3,
                linewidth=1.2,
                markersize=6,
            )
            title = (names or {}).get(method, method)
            labels += [(*point[:3], _label(title, point[3]), color) for point in points]
        ax.set_xlabel(cost_label)
        ax.set_ylabel(f"{NAMES.get(measure, measure)} (%)")
        ax.grid(alpha=0.3)
        ax.set_axisbelow(True)
        _fit(ax, methods)
        _place(ax, labels)
    return ax


def _label(title: str, n: str) -> str:
    """The name of a point: the method, and in how many of the last blocks it has prompts."""
    return f"{title} {'all' if n == 'deep' else n}".strip()


def _fit(ax: Axes, methods: Mapping[str, list[tuple[float, float, float, str]]]) -> None:
    """Limits with room for the whiskers and for names on either side."""
    points = np.array([point[:3] for found in methods.values() for point in found], dtype=float)
    low, high = np.log10(points[:, 0].min()), np.log10(points[:, 0].max())
    room = 0.25 * max(high - low, 0.5)
    ax.set_xlim(10 ** (low - room), 10 ** (high + room))
    bottom, top = (points[:, 1] - points[:, 2]).min(), (points[:, 1] + points[:, 2]).max()
    margin = 0.1 * max(top - bottom, 1.0)
    ax.set_ylim(bottom - margin, top + margin)


def _place(ax: Axes, labels: Sequence[tuple[float, float, float, str, str]]) -> None:
    """Write each name near its point (x, y, spread, name, color), where it covers least.

    A name that had to go further away is tied to its point by a thin line.
    """
    ax.figure.canvas.draw()  # sizes of names are known once there is a layout
    unit = ax.figure.dpi / 72  # pixels of a typographic point
    frame = ax.get_window_extent()
    points = ax.transData.transform([label[:2] for label in labels])
    ends = ax.transData.transform([(x, y + spread) for x, y, spread, *_ in labels])
    reach = np.maximum(ends[:, 1] - points[:, 1], 4 * unit)
    taken = [
        Bbox.from_extents(x - 5 * unit, y - up, x + 5 * unit, y + up)
        for (x, y), up in zip(points, reach, strict=True)
    ]
    along = [
        line.get_path().interpolated(40).transformed(ax.transData).vertices
        for line in ax.get_lines()
        if len(line.get_xdata()) > 1 and line.get_linestyle() == "-"
    ]
    joined = np.concatenate([np.empty((0, 2)), *along])
    for (x, y), (*place, _, name, color) in zip(points, labels, strict=True):
        text = ax.annotate(
            name,
            place,
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
            color=color,
        )
        text.set_in_layout(False)
        size = text.get_window_extent()
        best, least = None, np.inf
        for away in (7, 14, 24, 36, 50):
            for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False):
                right, up = np.cos(angle), np.sin(angle)
                dx = right * (away * unit + size.width / 2)
                dy = up * (away * unit + size.height / 2)
                box = Bbox.from_bounds(
                    x + dx - size.width / 2, y + dy - size.height / 2, size.width, size.height
                )
                covered = sum(_overlap(box, other) for other in taken)
                outside = size.width * size.height - _overlap(box, frame)
                crossed = ((joined >= box.min) & (joined <= box.max)).all(axis=1).sum()
                cost = 10 * covered + 20 * outside + 10 * crossed + 4 * away * unit
                if cost < least:
                    best, least = (dx, dy, box, away), cost
        dx, dy, box, away = best
        taken.append(box)
        text.set_position((dx / unit, dy / unit))
        if away > 14:
            ax.annotate(
                "",
                place,
                xytext=(dx * 0.75 / unit, (dy - np.sign(dy) * size.height / 2) / unit),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6},
            ).set_in_layout(False)


def _overlap(one: Bbox, other: Bbox) -> float:
    """Area that two boxes share, in square pixels."""
    shared = Bbox.intersection(one, other)
    return 0.0 if shared is None else shared.width * shared.height
