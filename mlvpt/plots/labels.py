"""Figures of label statistics: how often classes occur, and what their partners do to them."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from pandas import DataFrame

from mlvpt.labels import check_counts
from mlvpt.plots.groups import names_of
from mlvpt.plots.style import BLUE, GREY, ORANGE, style


def class_frequencies(
    counts: ArrayLike, n_images: int, class_names: Sequence[str] | None = None
) -> Axes:
    """In how many images each class occurs, most frequent first.

    Args:
        counts: (K, K) co-occurrence counts; the diagonal is drawn.
        n_images: N, for the share written beside each bar.
        class_names: K names; by default the class indices.
    """
    images = np.diag(check_counts(counts))
    names = names_of(class_names, len(images))
    order = np.argsort(-images, kind="stable")
    with style():
        ax = plt.subplots(figsize=(5, 0.26 * len(images) + 0.6), layout="constrained")[1]
        bars = ax.barh([names[k] for k in order], images[order], color=BLUE, height=0.72)
        ax.bar_label(bars, [f"{100 * images[k] / n_images:.1f}%" for k in order], padding=3)
        ax.invert_yaxis()
        ax.margins(x=0.14, y=0.01)
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel(f"images with the class, of {n_images:,}")
    return ax


def partner_effect(panels: Mapping[str, DataFrame], class_names: Sequence[str]) -> Figure:
    """Mean probability of an absent class, without and with its usual partner in the image.

    Args:
        panels: {title: table}, a row per pair of classes with the columns "partner" and "label"
            (class indices), "without" and "with" (mean probabilities in [0, 1]). The tables hold
            the same pairs; those of the first decide the order, the largest effect on top.
        class_names: K names.
    """
    first = next(iter(panels.values())).reset_index(drop=True)
    order = np.argsort((first["without"] - first["with"]).to_numpy(), kind="stable")
    rows = [f"{class_names[p.label]}, seeing {class_names[p.partner]}" for p in first.itertuples()]
    with style():
        figure, axes = plt.subplots(
            1,
            len(panels),
            figsize=(5, 0.24 * len(rows) + 1.1),
            layout="constrained",
            sharex=True,
            sharey=True,
            squeeze=False,
        )
        for ax, (title, table) in zip(axes.flat, panels.items(), strict=True):
            without, with_partner = (100 * table[c].to_numpy()[order] for c in ("without", "with"))
            names = [rows[k] for k in order]
            ax.hlines(names, without, with_partner, color=GREY, linewidth=1.5, zorder=1)
            ax.scatter(without, names, color=BLUE, marker="o", s=30, zorder=2)
            ax.scatter(with_partner, names, color=ORANGE, marker="D", s=30, zorder=2)
            ax.set_title(title, pad=24)
            ax.grid(axis="y", alpha=0.3)
        axes[0, 0].invert_yaxis()
        axes[0, 0].set_xlim(left=0)
        top, look = order[0], {"textcoords": "offset points", "va": "bottom", "fontsize": 10}
        for column, name, color, side in (
            ("without", "without", BLUE, "center"),
            ("with", "with partner", ORANGE, "right"),
        ):
            place = (100 * first[column][top], 0)
            axes[0, 0].annotate(name, place, (8, 7), color=color, ha=side, **look)
        figure.supxlabel("mean probability of an absent digit (%)", fontsize=10)
    return figure
