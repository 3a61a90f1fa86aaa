"""Curves of recorded runs: means over seeds, with their spread."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from mlvpt.errors import InputError
from mlvpt.plots.style import MARKERS, axes, line_colors, style


def result_curves(
    curves: Mapping[str, Mapping[float, Sequence[float]]],
    x_label: str,
    y_label: str,
    ax: Axes | None = None,
) -> Axes:
    """A line per method through the means, with a band of one standard deviation.

    A line is named at its right end; names keep apart from each other.

    Args:
        curves: {method: {x: one fraction per seed}}.
        x_label, y_label: of the axes; y is drawn in percent.
    """
    if not curves or not all(curves.values()):
        raise InputError("There is nothing to draw: give at least one method with one point.")
    with style():
        ax, colors, ends = axes(4.4, 3.0, ax), line_colors(list(curves)), []
        for number, (method, points) in enumerate(curves.items()):
            color, (x, mean, std) = colors[number], _means(points)
            ends.append((mean[-1], method, color))
            ax.plot(x, mean, marker=MARKERS[number % len(MARKERS)], color=color, label=method)
            ax.fill_between(x, mean - std, mean + std, color=color, alpha=0.15, linewidth=0)
        _name_lines(ax, ends)
        ax.set_xlabel(x_label)
        ax.set_ylabel(f"{y_label} (%)")
        ax.grid(alpha=0.3)
    return ax


def _name_lines(ax: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write each name (y, name, color) right of the axes, at its line's end or the next place."""
    low, high = ax.get_ylim()
    inches = ax.figure.get_figheight() * ax.get_position().height
    gap = (high - low) * 0.17 / inches  # a line of 9 points, in units of the axis
    ends = sorted(ends)
    places = np.array([y for y, *_ in ends])
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    places[-1] = min(places[-1], high)
    for i in range(len(places) - 2, -1, -1):
        places[i] = min(places[i], places[i + 1] - gap)
    for place, (_, name, color) in zip(places, ends, strict=True):
        at = {"va": "center", "transform": ax.get_yaxis_transform()}
        ax.text(1.02, place, name, color=color, fontsize=9, **at)


def strength_curves(
    records: Sequence[Mapping],
    measure: str,
    label: str,
    names: Mapping[str, str],
    ax: Axes | None = None,
) -> Axes:
    """A measure against the strength of the planted structure, drawn as `result_curves` draws.

    Args:
        records: of the study "strength": `variant` is "method, strength", and `measure` a
            fraction, or None where it does not exist.
        measure: key of the records, such as "test_shifted_mAP".
        label: of the vertical axis; the unit, percent, is added.
        names: what to draw and what to call it, by method.

    Raises:
        InputError: no record has the measure.
    """
    curves: dict[str, dict[float, list[float]]] = {}
    for record in records:
        method, strength = record["variant"].split(", ")
        if method in names and record.get(measure) is not None:
            points = curves.setdefault(names[method], {})
            points.setdefault(float(strength), []).append(record[measure])
    if not curves:
        raise InputError(f"No record of these methods has {measure!r}.")
    shown = {name: curves[name] for name in names.values() if name in curves}
    ax = result_curves(shown, "strength of the planted structure", label, ax)
    ax.set_xticks(sorted({strength for points in shown.values() for strength in points}))
    return ax


def _means(points: Mapping[float, Sequence[float]]) -> np.ndarray:
    """(3, n): places in order, and mean and standard deviation of their fractions, in percent."""
    values = [(x, 100 * np.asarray(points[x], dtype=float)) for x in sorted(points)]
    rows = [(x, v.mean(), v.std(ddof=1) if len(v) > 1 else 0.0) for x, v in values]
    return np.array(rows, dtype=float).T
