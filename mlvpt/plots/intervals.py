"""Dots with intervals, one line a name: what a difference is worth, at a glance."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from mlvpt.errors import InputError
from mlvpt.plots.style import BLUE, GREEN, GREY, MARKERS, ORANGE, axes, style

COLORS = (BLUE, ORANGE, GREEN)


def interval_dots(
    rows: Mapping[str, Mapping[str, tuple[float, float, float]]],
    x_label: str,
    zero: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """A line per name, and on it a dot with its interval for each series.

    Series are named above the figure in their colours. Legible at 390 px.

    Args:
        rows: {name: {series: (value, low, high)}}, fractions, drawn from top to bottom; a name may
            lack a series. Of one series nothing is named.
        x_label: of the horizontal axis, which is in percent or points.
        zero: the values are differences: draw a line at 0.
        ax: where to draw; a new figure if None.

    Raises:
        InputError: there is no dot to draw, or there are more than three series.
    """
    series = list(dict.fromkeys(name for found in rows.values() for name in found))
    if not series:
        raise InputError("There is nothing to draw: give at least one name with one value.")
    if len(series) > len(COLORS):
        raise InputError(f"Draw at most {len(COLORS)} series; there are {len(series)}.")
    with style():
        ax = axes(4.4, 0.9 + len(rows) * (0.14 + 0.13 * len(series)), ax)
        if zero:
            ax.axvline(0, color=GREY, linewidth=1)
        step = 0.66 / len(series)
        for number, name in enumerate(series):
            drawn = [
                (row, *rows[line][name]) for row, line in enumerate(rows) if name in rows[line]
            ]
            row, value, low, high = np.array(drawn, dtype=float).T
            ax.errorbar(
                100 * value,
                row + step * (number - (len(series) - 1) / 2),
                xerr=100 * np.array([value - low, high - value]),
                fmt=MARKERS[number],
                color=COLORS[number],
                markersize=5,
                linewidth=1.2,
                capsize=2.5,
                label=name,
            )
        ax.set_yticks(range(len(rows)), list(rows))
        ax.set_ylim(len(rows) - 0.4, -0.6)  # from top to bottom, also where axes are shared
        ax.set_xlabel(x_label)
        ax.grid(axis="x", alpha=0.3)
        if len(series) > 1:
            ax.legend(
                loc="lower center",
                bbox_to_anchor=(0.5, 1.0),
                ncols=len(series),
                labelcolor="linecolor",
                handletextpad=0.2,
                columnspacing=1.2,
                borderaxespad=0.2,
            )
    return ax
