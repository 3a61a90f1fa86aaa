"""Heat map of the gates: the weight of every expert for every class of its group."""

from __future__ import annotations

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from mlvpt.errors import InputError
from mlvpt.labels import LabelGroups
from mlvpt.plots.groups import mark_groups, names_of
from mlvpt.plots.style import SEQUENTIAL, axes, style


def gate_heatmap(gates: ArrayLike, groups: LabelGroups, view: str = "co") -> Axes:
    """Gate weights, classes in rows ordered by group, experts in columns.

    Expert 0 of one group and expert 0 of another are different prompts: compare within the white
    lines.

    Args:
        gates: (K, E), or (B, K, E), which is averaged over the images; rows sum to 1.
        groups: the model's label groups, of the same K classes, with names or without.
        view: "co" or "dc": the partition to order by.

    Returns:
        The Axes. The colour scale is the same for every figure: 0 to 1.

    Raises:
        InputError: the gates do not fit the groups, or an unknown view.
    """
    gates = np.asarray(gates, dtype=np.float64)
    if gates.ndim == 3:
        gates = gates.mean(axis=0)
    if view not in ("co", "dc"):
        raise InputError(f'The view must be "co" or "dc", but is {view!r}.')
    if gates.ndim != 2 or len(gates) != groups.n_classes:
        raise InputError(
            f"Gates of shape {gates.shape} do not fit {groups.n_classes} classes: give (K, E) or "
            "(B, K, E)."
        )
    names = names_of(groups.class_names, len(gates))
    partition = getattr(groups, view)
    order = np.argsort(partition, kind="stable")
    n_classes, n_experts = gates.shape
    with style():
        height = np.interp(n_classes, [10, 20, 80], [3.6, 5.2, 14.0])
        ax = axes(2.4 + 0.7 * n_experts, height)
        sns.heatmap(
            gates[order],
            cmap=SEQUENTIAL,
            vmin=0,
            vmax=1,
            annot=n_classes <= 25,
            fmt=".2f",
            annot_kws={"size": 8.5},
            ax=ax,
            xticklabels=[str(e) for e in range(n_experts)],
            yticklabels=[names[k] for k in order],
            cbar_kws={"label": "gate weight", "shrink": 0.8, "pad": 0.12},
        )
        borders = np.flatnonzero(np.diff(partition[order])) + 1
        ax.hlines(borders, 0, n_experts, color="white", linewidth=4)
        mark_groups(ax, partition[order], n_experts, 0.03)
        ax.tick_params(length=0, labelsize=np.interp(n_classes, [20, 80], [9, 6.5]))
        ax.tick_params(axis="y", rotation=0)
        ax.set(xlabel="expert of the group", ylabel="class", title=f"{view.upper()} gates")
    return ax
