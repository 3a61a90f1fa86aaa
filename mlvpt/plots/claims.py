"""The claim, pair by pair: what a partner in the picture does to the answers about a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mlvpt.errors import InputError
from mlvpt.plots.style import axes, method_color, style

ROW, LANE = 0.3, 0.2  # inches of a pair, and what the lanes of its methods share


def partner_differences(
    methods: Mapping[str, Sequence[Mapping[str, Any]]], pairs: Sequence[Mapping[str, Any]]
) -> Axes:
    """False positives that a partner adds: a dot per pair and method, last the mean of the pairs.

    Pairs are sorted by the mean of their dots. Dots are means over the runs of a method; the line
    through a dot spans its runs. The 95% interval of the mean reaches from the lowest end to the
    highest of its runs' intervals. Legible at 390 px.

    Args:
        methods: {name: one dict per run}, as `test_pairs` of a recorded run on photographs:
            FPR_difference as a fraction, its _interval and its _by_pair.
        pairs: the pairs in the order of those lists, with the names label and partner.

    Returns:
        The Axes; x is in percentage points, the zero is drawn.

    Raises:
        InputError: no method, a method without runs, or another number of pairs.
    """
    values = {
        name: 100 * np.array([run["FPR_difference_by_pair"] for run in runs], dtype=float)
        for name, runs in methods.items()
    }
    if not values or any(v.ndim != 2 or v.shape[1] != len(pairs) for v in values.values()):
        raise InputError(
            f"Each method needs runs with FPR_difference_by_pair, of {len(pairs)} pairs: give the "
            "test_pairs of recorded runs, and the pairs of the same study."
        )
    order = np.argsort(-np.mean([v.mean(axis=0) for v in values.values()], axis=0))
    with style():
        ax = axes(4.6, 1.1 + ROW * (len(pairs) + 2))
        ax.axvline(0, color="#666666", linewidth=1)
        ax.axhline(len(pairs), color="#bbbbbb", linewidth=0.8)
        for number, (name, runs) in enumerate(values.items()):
            look = {"color": method_color(name), "zorder": 3}
            lane = LANE / ROW * ((number + 0.5) / len(values) - 0.5)
            rows = np.arange(len(pairs)) + lane
            drawn = runs[:, order]
            ax.hlines(rows, drawn.min(axis=0), drawn.max(axis=0), linewidth=2.5, alpha=0.4, **look)
            ax.plot(drawn.mean(axis=0), rows, "o", markersize=5.5, label=name, **look)
            ends = 100 * np.array([run["FPR_difference_interval"] for run in methods[name]])
            row = len(pairs) + 1 + 2 * lane
            ax.hlines(row, ends[:, 0].min(), ends[:, 1].max(), linewidth=2.5, **look)
            ax.plot(
                100 * np.mean([run["FPR_difference"] for run in methods[name]]), row, "D", **look
            )
        names = [f"{pairs[p]['label']}, by {pairs[p]['partner']}" for p in order]
        ax.set_yticks([*range(len(pairs)), len(pairs) + 1], [*names, f"mean of {len(pairs)} pairs"])
        ax.set_ylim(len(pairs) + 1.8, -0.7)
        ax.set_xlabel("added by the partner (percentage points)")
        ax.grid(axis="x", alpha=0.3)
        ax.tick_params(axis="y", length=0)
        ax.legend(
            loc="lower right",
            bbox_to_anchor=(1, 2.2 / (len(pairs) + 2.5)),
            labelcolor="linecolor",
            handletextpad=0.2,
        )
    return ax
