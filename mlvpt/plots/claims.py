"""The claim, pair by pair: a class is easier to find where its partner is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from mlvpt.errors import InputError
from mlvpt.plots.style import GREY, axes, line_colors, style

ROW, LANE = 0.55, 0.24  # inches of a pair's name, and of each model's dumbbell under it


def exclusive_cooccur_dumbbells(
    models: Mapping[str, Mapping[str, Any]],
    class_names: Sequence[str] | None = None,
    n_pairs: int | None = None,
    matched: bool = False,
) -> Axes:
    """A dumbbell per pair: AP where the partner is (filled) and where it is not (hollow).

    The pair's name stands above its dumbbells, one per model. Thin lines are the intervals, where
    there are any. The last row is the mean over the pairs. Legible at 390 px.

    Args:
        models: one or two, {name: what `mlvpt.bias.claim` or `exclusive_and_cooccur_ap` returned};
            two must have the same pairs in the same order.
        class_names: K names, if the pairs hold indices.
        n_pairs: only the first so many, the most biased; the mean stays that of all pairs.
        matched: draw AP matched to the same share of positives, with which the two ends of one
            dumbbell can be compared; AP as it is compares models.

    Returns:
        The Axes; x is AP in percent.

    Raises:
        InputError: no model or more than two; two with different pairs; nothing to draw.
    """
    if not 1 <= len(models) <= 2:
        raise InputError(f"The figure shows one or two models, but {len(models)} were given.")
    ends = tuple(f"{kind}_AP{'_matched' if matched else ''}" for kind in ("cooccur", "exclusive"))
    named = [[(p["label"], p["partner"]) for p in found["pairs"]] for found in models.values()]
    if named[0] != named[-1]:
        raise InputError(
            "The two models were measured on different pairs: measure both on the pairs of one "
            "reference model."
        )
    drawn = [
        p
        for p in range(len(named[0]))
        if all(found["pairs"][p][end] is not None for found in models.values() for end in ends)
    ][:n_pairs]
    if not drawn:
        raise InputError("No pair has both AP, so there is nothing to draw.")
    rows = [
        (_title(named[0][p], class_names), [m["pairs"][p] for m in models.values()]) for p in drawn
    ]
    rows.append((f"mean of {len(named[0])} pairs", list(models.values())))
    colors = line_colors(list(models))
    step = ROW + LANE * (len(models) - 1)
    with style():
        ax = axes(4.3, 0.9 + step * len(rows))
        reach = [value for _, values in rows for one in values for value in _reach(one, ends)]
        low, high = max(0, 100 * min(reach) - 4), min(100, 100 * max(reach) + 4)
        for row, (title, values) in enumerate(rows):
            top = row * step
            mean = row == len(rows) - 1
            if mean:
                ax.axhline(top - 0.06, color="#bbbbbb", linewidth=0.8)
            ax.text(low, top + 0.13, title, va="center", weight="bold" if mean else "normal")
            for number, one in enumerate(values):
                _dumbbell(ax, top + 0.34 + LANE * number, one, ends, colors[number])
        ax.set_xlim(low, high)
        ax.set_ylim(len(rows) * step, -0.05)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.set_xlabel(f"average precision{', equal share of positives' if matched else ''} (%)")
        ax.grid(axis="x", alpha=0.3)
        ax.set_axisbelow(True)
        _legend(ax, models, colors)
    return ax


def _title(pair: tuple[Any, Any], class_names: Sequence[str] | None) -> str:
    label, partner = (
        each if class_names is None or isinstance(each, str) else class_names[each] for each in pair
    )
    return f"{label}, with and without {partner}"


def _reach(values: Mapping[str, Any], names: tuple[str, ...]) -> list[float]:
    """What must fit on the axis: both AP and the ends of their intervals."""
    reach = []
    for name in names:
        reach += [values[name], *(values.get(f"{name}_interval") or ())]
    return reach


def _dumbbell(
    ax: Axes, y: float, values: Mapping[str, Any], names: tuple[str, ...], color: str
) -> None:
    """A bar between the two AP; the intervals lie a little above and below it, as they overlap."""
    ends = [100 * values[name] for name in names]
    ax.plot(ends, [y, y], color=color, linewidth=4, alpha=0.3, solid_capstyle="round", zorder=2)
    for name, end, shift, fill in zip(names, ends, (-0.035, 0.035), (color, "white"), strict=True):
        interval = values.get(f"{name}_interval")
        if interval:
            ax.plot([100 * v for v in interval], [y + shift] * 2, color=color, lw=1, zorder=3)
        ax.plot(end, y, "o", color=color, markerfacecolor=fill, markersize=7, zorder=4)


def _legend(ax: Axes, models: Mapping[str, Any], colors: Sequence[str]) -> None:
    kinds = [
        plt.Line2D([], [], marker="o", ls="", color=GREY, markerfacecolor=fill, label=label)
        for label, fill in (("partner there", GREY), ("partner not there", "white"))
    ]
    names = [
        plt.Line2D([], [], color=color, linewidth=4, alpha=0.6, label=name)
        for name, color in zip(models, colors, strict=True)
    ]
    ax.figure.legend(handles=[*kinds, *names], loc="outside lower center", ncols=2)
