"""Figures of label statistics: how often classes occur, and what their partners do to them."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from mlvpt.labels import check_counts
from mlvpt.plots.groups import names_of
from mlvpt.plots.style import BLUE, GREY, ORANGE, axes, style


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
        ax = axes(7, 0.24 * len(images) + 0.6)
        bars = ax.barh([names[k] for k in order], images[order], color=BLUE, height=0.72)
        ax.bar_label(bars, [f"{100 * images[k] / n_images:.1f}%" for k in order], padding=3)
        ax.invert_yaxis()
        ax.margins(x=0.09, y=0.01)
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel(f"images with the class, of {n_images:,}")
    return ax


def partner_effect(pairs: Sequence[Mapping], class_names: Sequence[str]) -> Axes:
    """Mean probability of an absent class, without and with its usual partner in the image.

    Args:
        pairs: the `pairs` of `mlvpt.metrics.induced_false_positives`.
        class_names: K names.
    """
    pairs = sorted(
        pairs,
        key=lambda p: p["probability_with_partner"] - p["probability_without_partner"],
        reverse=True,
    )
    rows = [f"{class_names[p['label']]}, seeing {class_names[p['partner']]}" for p in pairs]
    without = [100 * p["probability_without_partner"] for p in pairs]
    with_partner = [100 * p["probability_with_partner"] for p in pairs]
    with style():
        ax = axes(7, 0.26 * len(rows) + 1.1)
        ax.hlines(rows, without, with_partner, color=GREY, linewidth=1.5, zorder=1)
        ax.scatter(without, rows, color=BLUE, marker="o", s=36, label="partner absent", zorder=2)
        ax.scatter(
            with_partner, rows, color=ORANGE, marker="D", s=36, label="partner present", zorder=2
        )
        ax.invert_yaxis()
        ax.set_xlim(left=0)
        ax.set_xlabel("mean probability given to a class that is absent (%)")
        ax.grid(axis="y", alpha=0.3)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax
