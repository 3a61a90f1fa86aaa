"""Figures of label statistics and label groups."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from mlvpt.errors import InputError
from mlvpt.labels import LabelGroups, check_affinity, check_class_names
from mlvpt.plots.style import SEQUENTIAL, axes, group_colors, style

VIEW_LABELS = {"co": "CO affinity", "dc": "DC affinity"}


def affinity_heatmap(
    affinity: ArrayLike,
    groups: LabelGroups | None = None,
    view: str = "co",
    class_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Affinity between classes, ordered by group, with white lines between the groups.

    Args:
        affinity: (K, K), symmetric; the diagonal is left blank.
        groups: LabelGroups that give the order; without them classes keep theirs.
        view: "co" or "dc": the partition to order by and the label of the colour bar.
        class_names: K names; by default those of the groups, or else the class indices.

    Raises:
        InputError: `affinity` is no such matrix, the groups or names do not fit it, unknown view.
    """
    affinity = check_affinity(affinity)
    if view not in VIEW_LABELS:
        raise InputError(f'The view must be "co" or "dc", but is {view!r}.')
    n_classes = len(affinity)
    partition = np.zeros(n_classes, dtype=int) if groups is None else getattr(groups, view)
    if len(partition) != n_classes:
        raise InputError(f"Groups of {len(partition)} classes do not fit {n_classes} classes.")
    names = names_of(class_names or (groups and groups.class_names), n_classes)
    order = np.argsort(partition, kind="stable")
    with style():
        side = np.interp(n_classes, [10, 20, 80], [4.5, 6.5, 12.0])
        ax = axes(side * 1.12, side, ax)
        ordered = [names[k] for k in order]
        sns.heatmap(
            affinity[np.ix_(order, order)],
            mask=np.eye(n_classes, dtype=bool),
            cmap=SEQUENTIAL,
            square=True,
            ax=ax,
            xticklabels=ordered,
            yticklabels=ordered,
            cbar_kws={"shrink": 0.75, "pad": 0.04, "label": VIEW_LABELS[view]},
        )
        ax.tick_params(length=0, labelsize=np.interp(n_classes, [20, 80], [9, 6.5]))
        ax.tick_params(axis="x", rotation=90)
        ax.tick_params(axis="y", rotation=0)
        borders = np.flatnonzero(np.diff(partition[order])) + 1
        ax.hlines(borders, 0, n_classes, color="white", linewidth=2.5)
        ax.vlines(borders, 0, n_classes, color="white", linewidth=2.5)
        if groups is not None:
            ax.set_title(f"{view.upper()} groups")
            mark_groups(ax, partition[order], n_classes, 0.015)
    return ax


def group_graph(
    affinity: ArrayLike,
    partition: ArrayLike,
    class_names: Sequence[str] | None = None,
    ax: Axes | None = None,
    n_edges: int | None = None,
) -> Axes:
    """The strongest affinities as a graph: classes on a ring, group by group.

    An edge inside a group has the colour of the group, one between groups is grey; its width
    grows with the affinity. On a ring the labels of 80 classes do not collide.

    Args:
        affinity: (K, K), symmetric.
        partition: (K,) group of each class, for instance `groups.co`.
        class_names: K names; by default the class indices.
        n_edges: edges drawn, the strongest, and all that equal the last of them; by default 3 K.
            Zero affinities are not drawn.

    Raises:
        InputError: `affinity` is no such matrix, or the partition or names do not fit it.
    """
    affinity, partition = check_affinity(affinity), np.asarray(partition)
    n_classes = len(affinity)
    if partition.shape != (n_classes,) or partition.dtype.kind not in "iu" or partition.min() < 0:
        raise InputError(
            f"The partition must give the group number of each of {n_classes} classes."
        )
    names = names_of(class_names, n_classes)
    order = np.argsort(partition, kind="stable")
    colors = group_colors(int(partition.max()) + 1)
    i, j = _strongest_edges(affinity, 3 * n_classes if n_edges is None else n_edges)
    turn = np.linspace(0, 2 * np.pi, n_classes, endpoint=False)
    place = np.empty((n_classes, 2))
    place[order] = np.column_stack([np.cos(turn), np.sin(turn)])
    with style():
        if ax is None:
            side = np.interp(n_classes, [20, 80], [7.5, 11.0])
            ax = plt.subplots(figsize=(side, side))[1]
        strength = affinity[i, j]
        weakest, span = (strength[0], np.ptp(strength)) if len(i) else (0, 0)
        inside = zip(partition[i], partition[i] == partition[j], strict=True)
        lines = LineCollection(
            np.stack([place[i], place[j]], axis=1),
            linewidths=0.4 + 3.0 * (strength - weakest) / (span or 1),
            colors=[colors[group] if same else "#C4C4C4" for group, same in inside],
            alpha=0.75,
        )
        ax.add_collection(lines)
        ax.scatter(
            *place.T,
            s=np.interp(n_classes, [20, 80], [130, 50]),
            c=[colors[group] for group in partition],
            edgecolors="white",
            linewidths=0.8,
            zorder=2,
        )
        for k in order:
            _label_outwards(ax, place[k], names[k], np.interp(n_classes, [20, 80], [10, 8]))
        handles = [
            Line2D([], [], marker="o", linestyle="", color=color, label=f"group {number}")
            for number, color in enumerate(colors)
        ]
        ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.98, 1.0))
        ax.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal")  # room for the names
        ax.set_axis_off()
    return ax


def _strongest_edges(affinity: np.ndarray, n_edges: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (i, j) of greatest affinity, weakest first: the strong ones are drawn on top.

    Pairs as strong as the last one are all kept: of classes never seen together, a cut would
    show those that happen to be listed first.
    """
    i, j = np.triu_indices(len(affinity), k=1)
    strength = affinity[i, j]
    weakest = np.sort(strength)[::-1][:n_edges][-1:]
    chosen = np.flatnonzero((strength >= weakest) & (strength > 0))
    chosen = chosen[np.argsort(strength[chosen], kind="stable")]
    return i[chosen], j[chosen]


def _label_outwards(ax: Axes, place: np.ndarray, name: str, size: float) -> None:
    angle = np.degrees(np.arctan2(place[1], place[0]))
    left = abs(angle) > 90  # keep the text upright on the left half
    ax.text(
        *(1.045 * np.asarray(place)),
        name,
        rotation=angle + 180 if left else angle,
        rotation_mode="anchor",
        ha="right" if left else "left",
        va="center",
        fontsize=size,
    )


def mark_groups(ax: Axes, ordered: np.ndarray, width: int, gap: float) -> None:
    """A coloured bar with its number beside each group, the colours of `group_graph`.

    Args:
        ax: of a heatmap with a row for each class, group by group.
        ordered: (K,) group of each row.
        width: number of columns.
        gap: between heatmap and bar, in widths.
    """
    x = width * (1 + gap)
    for number, color in enumerate(group_colors(int(ordered.max()) + 1)):
        rows = np.flatnonzero(ordered == number)
        start, stop = rows[0] + 0.1, rows[-1] + 0.9
        look = {"linewidth": 4, "clip_on": False, "solid_capstyle": "butt"}
        ax.plot([x, x], [start, stop], color=color, **look)
        ax.text(width * (1 + gap * 7 / 3), (start + stop) / 2, str(number), va="center", fontsize=8)


def names_of(class_names: Sequence[str] | None, n_classes: int) -> tuple[str, ...]:
    """The names after a check, or the indices as text."""
    names = check_class_names(class_names, n_classes)
    return names or tuple(str(k) for k in range(n_classes))
