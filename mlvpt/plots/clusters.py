"""Figures of spectral clustering: the embedding it clusters, and an affinity in other orders."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mlvpt.errors import InputError
from mlvpt.plots.style import MARKERS, SEQUENTIAL, group_colors, style


def embedding_scatter(points: ArrayLike, partition: ArrayLike, class_names: Sequence[str]) -> Axes:
    """Classes as points of a spectral embedding, each named, one colour and mark per group.

    Args:
        points: (K, 2), the second and third coordinate: the first is the same for all classes.
        partition: (K,) group of each class.
        class_names: K names.

    Raises:
        InputError: the points are not (K, 2).
    """
    points, partition = np.asarray(points, dtype=float), np.asarray(partition)
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError(f"An embedding of shape (K, 2) is needed, not {points.shape}.")
    colors = group_colors(int(partition.max()) + 1)
    with style():
        ax = plt.subplots(figsize=(4.8, 3.6), layout="constrained")[1]
        middle = points[:, 0].mean()
        for point, group, name in zip(points, partition, class_names, strict=True):
            color, left = colors[group], point[0] > middle  # names point inwards
            ax.scatter(*point, color=color, marker=MARKERS[group % len(MARKERS)], s=70)
            ax.annotate(
                name,
                point,
                xytext=(-9 if left else 9, 0),
                textcoords="offset points",
                ha="right" if left else "left",
                va="center",
                color=color,
                fontsize=12,
            )
        ax.margins(0.12)
        ax.set_xlabel("second coordinate")
        ax.set_ylabel("third coordinate")
    return ax


def reordered_affinity(affinity: ArrayLike, panels: Mapping[str, Sequence[str]]) -> Figure:
    """One affinity in several orders, one below the other and on one scale.

    Each panel sorts the classes by their group, the largest group first, draws lines between the
    groups and names each beside its rows.

    Args:
        affinity: (K, K), symmetric; the diagonal is left blank.
        panels: {title: the group names of the K classes}.

    Raises:
        InputError: the names do not fit the affinity.
    """
    affinity = np.asarray(affinity, dtype=float)
    n_classes = len(affinity)
    values = np.ma.masked_array(affinity, np.eye(n_classes, dtype=bool))
    with style():
        figure, axes = plt.subplots(
            len(panels), 1, figsize=(4.8, 3.7 * len(panels)), layout="constrained", squeeze=False
        )
        for ax, (title, groups) in zip(axes.flat, panels.items(), strict=True):
            if len(groups) != n_classes:
                raise InputError(f"{len(groups)} group names do not fit {n_classes} classes.")
            sizes = {name: list(groups).count(name) for name in dict.fromkeys(groups)}
            names = sorted(sizes, key=sizes.get, reverse=True)
            order = sorted(range(n_classes), key=lambda k: names.index(groups[k]))
            drawn = ax.imshow(values[np.ix_(order, order)], cmap=SEQUENTIAL, vmin=0)
            ends = np.cumsum([sizes[name] for name in names])
            for end in ends[:-1] - 0.5:
                ax.axhline(end, color="white", linewidth=2)
                ax.axvline(end, color="white", linewidth=2)
            middles = ends - np.array([sizes[name] for name in names]) / 2 - 0.5
            ax.set_yticks(middles, names, fontsize=12)
            ax.set_xticks([])
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
            ax.set_title(title, fontsize=12)
        figure.colorbar(drawn, ax=axes, location="bottom", shrink=0.8, pad=0.02, label="affinity")
    return figure
