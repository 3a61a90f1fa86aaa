"""How methods fare as the planted co-occurrence of scenes grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from mlvpt.errors import InputError
from mlvpt.plots.style import BROWN, SKY, method_color, style

MARKERS = "osD^vPX"  # methods stay apart without colour, too
ONE_VIEW = {"co_only": SKY, "dc_only": BROWN}  # variants of ML-VPT, which are no methods


def strength_curves(
    records: Sequence[Mapping],
    measure: str,
    label: str,
    names: Mapping[str, str],
    ax: Axes | None = None,
) -> Axes:
    """One line per method: a measure against the strength of the structure, in percent.

    Points are means over seeds, bars one standard deviation; points of one strength stand side by
    side.

    Args:
        records: of the study "strength": `variant` is "method, strength", and `measure` a
            fraction, or None where it does not exist.
        measure: key of the records, such as "test_shifted_mAP".
        label: of the vertical axis; the unit, percent, is added.
        names: what to draw and what to call it, by method, in the order of the legend.
        ax: where to draw; by default a new figure.

    Returns:
        The Axes.

    Raises:
        InputError: no record has the measure.
    """
    values: dict[str, dict[float, list[float]]] = {}
    for record in records:
        method, strength = record["variant"].split(", ")
        if method in names and record.get(measure) is not None:
            values.setdefault(method, {}).setdefault(float(strength), []).append(record[measure])
    if not values:
        raise InputError(f"No record of these methods has {measure!r}.")
    with style():
        ax = plt.subplots(figsize=(5.2, 3.6), layout="constrained")[1] if ax is None else ax
        drawn = [method for method in names if method in values]
        for place, method in enumerate(drawn):
            strengths = np.array(sorted(values[method]))
            points = [100 * np.array(values[method][strength]) for strength in strengths]
            ax.errorbar(
                strengths + 0.012 * (place - (len(drawn) - 1) / 2),
                [point.mean() for point in points],
                [point.std(ddof=1) if len(point) > 1 else 0 for point in points],
                color=ONE_VIEW.get(method, method_color(method)),
                marker=MARKERS[place % len(MARKERS)],
                capsize=2.5,
                markersize=5,
                linewidth=1.4,
                label=names[method],
            )
        ax.set(xlabel="strength of the planted structure", ylabel=f"{label} (%)")
        ax.set_xticks(sorted({strength for each in values.values() for strength in each}))
        ax.legend()
    return ax
