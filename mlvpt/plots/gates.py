"""Heat map of the gates: the weight of every expert for every class of its group."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from mlvpt.errors import InputError
from mlvpt.labels import LabelGroups, check_class_names
from mlvpt.plots.style import SEQUENTIAL, group_colors, style


def gate_heatmap(
    gates: ArrayLike,
    groups: LabelGroups,
    view: str = "co",
    class_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Gate weights, classes in rows ordered by group, experts in columns.

    Expert 0 of one group and expert 0 of another are different prompts: compare within the white
    lines.

    Args:
        gates: (K, E), or (B, K, E), which is averaged over the images; rows sum to 1.
        groups: the model's label groups, of the same K classes.
        view: "co" or "dc": the partition to order by.
        class_names: K names; by default those of the groups, or else the class indices.
        ax: where to draw; by default a new figure.

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
    names = check_class_names(class_names, len(gates)) or groups.class_names
    names = names or tuple(str(k) for k in range(len(gates)))
    partition = getattr(groups, view)
    order = np.argsort(partition, kind="stable")
    n_classes, n_experts = gates.shape
    with style():
        if ax is None:
            height = np.interp(n_classes, [10, 20, 80], [3.6, 5.2, 14.0])
            size = (2.4 + 0.7 * n_experts, height)
            ax = plt.subplots(figsize=size, layout="constrained")[1]
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
        for number, color in enumerate(group_colors(groups.n_groups)):
            rows = np.flatnonzero(partition[order] == number)
            x, start, stop = 1.03 * n_experts, rows[0] + 0.1, rows[-1] + 0.9
            ax.plot([x, x], [start, stop], color=color, linewidth=4, clip_on=False)
            ax.text(1.07 * n_experts, (start + stop) / 2, str(number), va="center", fontsize=8)
        ax.tick_params(length=0, labelsize=np.interp(n_classes, [20, 80], [9, 6.5]))
        ax.tick_params(axis="y", rotation=0)
        ax.set(xlabel="expert of the group", ylabel="class", title=f"{view.upper()} gates")
    return ax
