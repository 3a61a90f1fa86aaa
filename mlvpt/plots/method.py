"""The method on one page: from label statistics and an image to one probability per class."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from numpy.typing import ArrayLike

from mlvpt.grouping import cooccurrence_affinity, exclusion_affinity
from mlvpt.labels import LabelGroups
from mlvpt.plots.attention import view_of
from mlvpt.plots.style import RED, style

WIDTH, HEIGHT = 60, 93  # units of the drawing, which is high and narrow, as a phone is
EXPERTS, SHOWN = 2, 5  # prompt tokens drawn for each group, bars
PATCH_COLOR, BOX_COLOR, BAR_COLOR = "#D9D9D9", "#F3F3F3", "#4D4D4D"


def method_map(
    image: ArrayLike,
    counts: ArrayLike,
    groups: LabelGroups,
    probabilities: ArrayLike,
    present: Sequence[int] = (),
) -> Figure:
    """The diagram of ML-VPT, drawn from the counts, groups and probabilities of a trained model.

    From top to bottom: labels to affinities to groups; image to tokens, with prompt tokens for
    each group, through the frozen backbone; experts to probabilities.

    Args:
        image: (H, W, 3) or a PIL image.
        counts: (K, K) co-occurrence counts that the groups were made from.
        groups: with class names.
        probabilities: (K,) of the image, in [0, 1].
        present: classes that the image shows. Each has a bar; then come the most
            probable others, up to 5 bars, marked as not there.
    """
    with style():
        figure = plt.figure(figsize=(5, 5 * HEIGHT / WIDTH))
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set(xlim=(0, WIDTH), ylim=(0, HEIGHT), aspect="equal")
        ax.set_axis_off()
        _labels_to_groups(ax, counts, groups)
        _image_to_tokens(ax, image, groups)
        probabilities, present = np.asarray(probabilities), [int(k) for k in present]
        order = np.argsort(-probabilities, kind="stable").tolist()
        chosen = sorted(order, key=lambda k: k not in present)[: max(SHOWN, len(present))]
        shown = [k for k in order if k in chosen]
        _tokens_to_labels(ax, groups, probabilities, shown, present)
    return figure


def _labels_to_groups(ax: Axes, counts: ArrayLike, groups: LabelGroups) -> None:
    _heading(ax, 1, 90.5, "1  Group the labels, once, before training")
    _inset(ax, (1, 69, 14, 14), np.log1p(np.asarray(counts)), "Greys")
    _text(ax, 8, 66.8, "counts $C = Y^\\top Y$")
    for view, bottom, affinity, sign, meaning in (
        ("co", 78.5, cooccurrence_affinity(counts), "+", "occur together"),
        ("dc", 66.5, exclusion_affinity(counts), "-", "exclude each other"),
    ):
        members, color = view_of(groups, view)
        _arrow(ax, (15.8, 76 + np.sign(bottom - 70) * 1.5), (19.6, bottom + 4))
        _inset(ax, (20.4, bottom, 8, 8), affinity, sns.light_palette(color, as_cmap=True))
        _heading(ax, 33, bottom + 7, f"{view.upper()} groups:", color=color)
        _text(ax, 44.2, bottom + 7, meaning, ha="left", fontsize=8.5)
        _text(ax, 29.2, bottom + 6.3, f"$M^{sign}$", ha="left", fontsize=10)
        _arrow(ax, (29, bottom + 3), (32.6, bottom + 3))
        step = 26.4 / len(members)
        for group, shade in enumerate(_shades(groups, view)):
            left, text = 33 + group * step, " ".join(groups.class_names[k] for k in members[group])
            _box(ax, (left, bottom + 0.6, step - 0.7, 4.8), shade)
            bright = np.dot(shade[:3], (0.299, 0.587, 0.114)) > 0.5
            ink = "black" if bright else "white"
            _text(ax, left + (step - 0.7) / 2, bottom + 2.9, text, color=ink, fontsize=9.5)


def _image_to_tokens(ax: Axes, image: ArrayLike, groups: LabelGroups) -> None:
    _heading(ax, 1, 60, "2  Prompt a frozen Vision Transformer")
    inset = _inset(ax, (1, 41, 15, 15), np.asarray(image), None)
    height, width = np.asarray(image).shape[:2]
    inset.hlines(np.arange(1, 6) * height / 6 - 0.5, -0.5, width - 0.5, color="white", lw=0.6)
    inset.vlines(np.arange(1, 6) * width / 6 - 0.5, -0.5, height - 0.5, color="white", lw=0.6)
    _text(ax, 8.5, 38.8, "image, in patches")
    _arrow(ax, (16.8, 48.5), (20.2, 48.5))
    _box(ax, (21, 37.5, 38.4, 20), BOX_COLOR)
    _text(ax, 40, 55.4, "$L$ blocks, weights frozen")
    _text(ax, 40, 46.2, "$\\vdots$")
    for bottom in (50.6, 47.6, 41.6):
        ax.add_patch(plt.Rectangle((22, bottom), 2.2, 2.4, color="#8C8C8C"))
        x = 25
        for view in ("co", "dc"):
            for color in _shades(groups, view):
                for _ in range(EXPERTS):
                    ax.add_patch(plt.Rectangle((x, bottom), 0.85, 2.4, color=color, lw=0))
                    x += 1.05
                x += 0.2
            x += 0.35
        while x < 57.8:
            ax.add_patch(plt.Rectangle((x, bottom), 1, 2.4, color=PATCH_COLOR, ec="white", lw=0.4))
            x += 1.2
    for x, text in ((23.1, "cls"), (35, "trained prompts"), (53, "patches")):
        _text(ax, x, 39.4, text, fontsize=9.5)
    ax.plot([46, 46], [66.2, 63.4], color="0.45", linewidth=1.2)  # the groups own the prompts
    ax.plot([46, 50], [63.4, 63.4], color="0.45", linewidth=1.2)
    _arrow(ax, (50, 63.4), (50, 58))


def _tokens_to_labels(
    ax: Axes,
    groups: LabelGroups,
    probabilities: np.ndarray,
    shown: Sequence[int],
    present: Sequence[int],
) -> None:
    _heading(ax, 1, 32, "3  Mix the experts of each class's group")
    _arrow(ax, (36, 37), (36, 34.2))
    name, end = groups.class_names[shown[0]], 2 + 2.1 * EXPERTS
    for view, middle, partition in (("co", 22.5, groups.co), ("dc", 11, groups.dc)):
        color = _shades(groups, view)[partition[shown[0]]]
        for x in 2 + 2.1 * np.arange(EXPERTS):
            ax.add_patch(plt.Rectangle((x, middle - 1.9), 1.5, 3.8, color=color))
        _text(ax, 1.6, middle + 4, f"{view.upper()} experts for “{name}”", ha="left", fontsize=9.5)
        _arrow(ax, (end + 0.2, middle), (end + 3, middle))
        _box(ax, (end + 3.4, middle - 2.4, 8, 4.8), BOX_COLOR)
        _text(ax, end + 7.4, middle, "$\\sum_e a_e z_e$", fontsize=10)
        _arrow(ax, (end + 11.6, middle), (24.4, 16.75 + np.sign(middle - 15)))
    _text(ax, 1.6, 5, "a gate mixes them by weights $a_e$", ha="left", fontsize=9.5)
    _text(ax, 27, 16.75, "mean")
    _arrow(ax, (30.2, 16.75), (33.2, 16.75))
    for k, y in zip(shown, 26.5 - 19 * np.linspace(0, 1, len(shown)), strict=True):
        there = k in present or not present
        color = BAR_COLOR if there else RED
        _text(ax, 35.8, y, groups.class_names[k], ha="right", fontsize=10.5, color=color)
        ax.add_patch(plt.Rectangle((36.8, y - 1), 9, 2, color="#ECECEC"))
        ax.add_patch(plt.Rectangle((36.8, y - 1), 9 * probabilities[k], 2, color=color))
        _text(ax, 46.4, y, f"{100 * probabilities[k]:.0f}%", ha="left", color=color)
        if not there:
            _text(ax, 59.6, y, "not there", ha="right", fontsize=9.5, color=color)


def _text(ax: Axes, x: float, y: float, text: str, **look: Any) -> None:
    ax.text(x, y, text, **{"ha": "center", "va": "center", "fontsize": 10, **look})


def _heading(ax: Axes, x: float, y: float, text: str, **look: Any) -> None:
    _text(ax, x, y, text, **{"ha": "left", "weight": "bold", **look})


def _inset(ax: Axes, place: tuple, values: np.ndarray, cmap) -> Axes:
    inset = ax.inset_axes(place, transform=ax.transData)
    inset.imshow(values, cmap=cmap, interpolation="nearest")
    inset.set_xticks([])
    inset.set_yticks([])
    inset.spines[:].set_visible(False)
    return inset


def _box(ax: Axes, place: tuple[float, float, float, float], color: str) -> None:
    left, bottom, width, height = place
    look = "round,pad=0,rounding_size=0.9"
    ax.add_patch(FancyBboxPatch((left, bottom), width, height, look, facecolor=color, linewidth=0))


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "0.45", "shrinkB": 0})


def _shades(groups: LabelGroups, view: str) -> list:
    """One shade of the view's colour per group, dark enough to be told from grey."""
    return sns.light_palette(view_of(groups, view)[1], groups.n_groups + 2)[2:]
