"""Figures of spectral clustering: the embedding it clusters, and how partitions agree."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mlvpt.errors import InputError
from mlvpt.plots.style import MARKERS, axes, group_colors, style


def embedding_scatter(
    points: ArrayLike,
    partition: ArrayLike,
    class_names: Sequence[str],
    centres: ArrayLike | None = None,
) -> Axes:
    """Classes as points of a two-dimensional spectral embedding, one colour and mark per group.

    Args:
        points: (K, 2).
        partition: (K,) group of each class.
        class_names: K names.
        centres: (G, 2) k-means centres, drawn as crosses.

    Raises:
        InputError: the points are not (K, 2).
    """
    points, partition = np.asarray(points, dtype=float), np.asarray(partition)
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError(f"An embedding of shape (K, 2) is needed, not {points.shape}.")
    colors = group_colors(int(partition.max()) + 1)
    with style():
        ax = axes(6, 3.6)
        for group, color in enumerate(colors):
            mine = partition == group
            marker = MARKERS[group % len(MARKERS)]
            ax.scatter(*points[mine].T, color=color, marker=marker, s=60, label=f"group {group}")
        middle = points[:, 0].mean()
        flat = np.ptp(points[:, 0]) < 1e-6  # rounding is no spread: show one column
        height = np.argsort(np.argsort(points[:, 1]))
        for point, name, rank in zip(points, class_names, height, strict=True):
            # names point inwards, so that none leaves the axes; in one column, left and right
            left = rank % 2 == 1 if flat else point[0] > middle
            ax.annotate(
                name,
                point,
                xytext=(-8 if left else 8, 0),
                textcoords="offset points",
                ha="right" if left else "left",
                va="center",
            )
        if centres is not None:
            ax.scatter(*np.asarray(centres).T, color="black", marker="x", s=70, label="centre")
        ax.margins(0.12)
        if flat:
            ax.set_xlim(middle - 0.5, middle + 0.5)
        ax.set_xlabel("first coordinate")
        ax.set_ylabel("second coordinate")
        ax.legend(loc="best")
    return ax


def agreement_curves(
    taus: Sequence[float], agreement: Mapping[str, Mapping[str, Sequence[float]]]
) -> Figure:
    """Agreement of partitions (adjusted Rand index) against tau, panels two to a row.

    Args:
        taus: (n,) values of tau, the root that tempers the affinity.
        agreement: {panel title: {curve label: (n,) values}}.
    """
    with style():
        n_rows = -(-len(agreement) // 2)
        figure, panels = plt.subplots(
            n_rows,
            2,
            figsize=(7.4, 2.7 * n_rows + 0.4),
            sharex=True,
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        for ax, (title, curves) in zip(panels.flat, agreement.items(), strict=False):
            colors = group_colors(len(curves))
            for number, (label, values) in enumerate(curves.items()):
                ax.plot(
                    taus,
                    values,
                    color=colors[number],
                    marker=MARKERS[number % len(MARKERS)],
                    label=label,
                    markersize=5,
                )
            ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
            ax.set_title(title)
        for ax in panels[-1]:
            ax.set_xlabel("tau")
        for ax in panels[:, 0]:
            ax.set_ylabel("adjusted Rand index")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure
