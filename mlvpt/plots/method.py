"""The method on one page: from label statistics and an image to one probability per class."""

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
from mlvpt.plots.style import style

WIDTH, HEIGHT = 100, 55  # units of the drawing
PATCH_COLOR, BOX_COLOR = "#D9D9D9", "#F3F3F3"


def method_map(
    image: ArrayLike,
    counts: ArrayLike,
    groups: LabelGroups,
    probabilities: ArrayLike,
    experts_per_group: int = 2,
    n_shown: int = 5,
) -> Figure:
    """The diagram of ML-VPT, drawn from the counts, groups and probabilities of a trained model.

    Upper row: labels to affinities to groups. Lower row: image to tokens, with prompt tokens for
    each group, through the frozen backbone to the experts and the probabilities.

    Args:
        image: (H, W, 3) or a PIL image.
        counts: (K, K) co-occurrence counts that the groups were made from.
        groups: with class names.
        probabilities: (K,) of the image, in [0, 1].
        experts_per_group: E, prompt tokens drawn for each group.
        n_shown: bars drawn, the most probable classes.
    """
    with style():
        figure = plt.figure(figsize=(10.4, 10.4 * HEIGHT / WIDTH))
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set(xlim=(0, WIDTH), ylim=(3.5, 3.5 + HEIGHT), aspect="equal")
        ax.set_axis_off()
        _labels_to_groups(ax, counts, groups)
        _image_to_tokens(ax, image, groups, experts_per_group)
        _tokens_to_labels(ax, groups, experts_per_group, np.asarray(probabilities), n_shown)
    return figure


def _labels_to_groups(ax: Axes, counts: ArrayLike, groups: LabelGroups) -> None:
    _heading(ax, 0, 56.5, "1  Group the labels, once, before training")
    _inset(ax, (1, 35, 17, 17), np.log1p(np.asarray(counts)), "Greys")
    _text(ax, 9.5, 33, "counts $C = Y^\\top Y$")
    _arrow(ax, (19, 46.5), (24.5, 49))
    _arrow(ax, (19, 41), (24.5, 38.5))
    for view, bottom, affinity, sign, meaning in (
        ("co", 45, cooccurrence_affinity(counts), "+", "occur\ntogether"),
        ("dc", 34, exclusion_affinity(counts), "-", "exclude\neach other"),
    ):
        members, color = view_of(groups, view)
        _inset(ax, (25.5, bottom, 9, 9), affinity, sns.light_palette(color, as_cmap=True))
        _text(ax, 36, bottom + 5.7, f"$M^{sign}$", ha="left", fontsize=12)
        _text(ax, 36, bottom + 2.2, meaning, ha="left", fontsize=9)
        _arrow(ax, (50, bottom + 4.1), (56.8, bottom + 4.1))
        _text(ax, 53.2, bottom + 5.2, "spectral\nclustering", va="bottom", fontsize=8)
        _heading(ax, 58, bottom + 8, f"{view.upper()} groups", color=color)
        step = 41 / len(members)
        for group, shade in enumerate(_shades(groups, view)):
            left, text = 58 + group * step, " ".join(groups.class_names[k] for k in members[group])
            _box(ax, (left, bottom + 1.8, step - 1.2, 4.6), shade)
            bright = np.dot(shade[:3], (0.299, 0.587, 0.114)) > 0.5
            ink = "black" if bright else "white"
            _text(ax, left + (step - 1.2) / 2, bottom + 4, text, color=ink, fontsize=10)


def _image_to_tokens(ax: Axes, image: ArrayLike, groups: LabelGroups, n_experts: int) -> None:
    _heading(ax, 0, 29.5, "2  Prompt a frozen Vision Transformer")
    inset = _inset(ax, (1, 8, 17, 17), np.asarray(image), None)
    height, width = np.asarray(image).shape[:2]
    inset.hlines(np.arange(1, 6) * height / 6 - 0.5, -0.5, width - 0.5, color="white", lw=0.6)
    inset.vlines(np.arange(1, 6) * width / 6 - 0.5, -0.5, height - 0.5, color="white", lw=0.6)
    _text(ax, 9.5, 6, "image, cut into patches")
    _arrow(ax, (19, 16.5), (23, 16.5))
    _box(ax, (24, 5.5, 30, 21), BOX_COLOR)
    _text(ax, 39, 24.5, "$L$ blocks, weights frozen")
    _text(ax, 39, 12.8, "$\\vdots$")
    for bottom in (18.6, 14.4, 8.2):
        ax.add_patch(plt.Rectangle((25.2, bottom), 2, 3, color="#8C8C8C"))
        x = 27.8
        for view in ("co", "dc"):
            for color in _shades(groups, view):
                for _ in range(n_experts):
                    ax.add_patch(plt.Rectangle((x, bottom), 0.75, 3, color=color, lw=0))
                    x += 0.95
                x += 0.2
            x += 0.35
        while x < 52.4:
            ax.add_patch(plt.Rectangle((x, bottom), 1.0, 3, color=PATCH_COLOR, ec="white", lw=0.4))
            x += 1.15
    for x, text in ((26.2, "cls"), (35.5, "trained prompts"), (48.5, "patches")):
        _text(ax, x, 6.8, text, fontsize=8.5)
    for x in (63, 84):  # the groups say whose prompts they are
        ax.plot([x, x], [33.2, 31.7], color="0.45", linewidth=1.2)
    ax.plot([46, 84], [31.7, 31.7], color="0.45", linewidth=1.2)
    _arrow(ax, (46, 31.7), (46, 27))


def _tokens_to_labels(
    ax: Axes, groups: LabelGroups, n_experts: int, probabilities: np.ndarray, n_shown: int
) -> None:
    _heading(ax, 58, 29.5, "3  Mix the experts of each class's group")
    _arrow(ax, (55, 16.5), (57.5, 16.5))
    shown = np.argsort(-probabilities, kind="stable")[:n_shown]
    name, end = groups.class_names[shown[0]], 59 + 2.1 * n_experts
    for view, middle, partition in (("co", 21.5, groups.co), ("dc", 11.5, groups.dc)):
        color = _shades(groups, view)[partition[shown[0]]]
        for x in 59 + 2.1 * np.arange(n_experts):
            ax.add_patch(plt.Rectangle((x, middle - 1.7), 1.5, 3.4, color=color))
        _text(ax, 59, middle + 3, f"{view.upper()} group of “{name}”", ha="left", fontsize=8.5)
        _arrow(ax, (end + 0.2, middle), (end + 3.2, middle))
        _box(ax, (end + 4, middle - 2.2, 7.2, 4.4), BOX_COLOR)
        _text(ax, end + 7.6, middle, "$\\sum_e a_e z_e$", fontsize=9)
        _arrow(ax, (end + 11.6, middle), (78.6, 16.5 + 0.5 * np.sign(middle - 16.5)))
    _text(ax, 59, 6.8, "gates $a$ and experts, per class", ha="left", fontsize=8)
    _text(ax, 80.9, 16.5, "mean", fontsize=9)
    _arrow(ax, (83.2, 16.5), (86.4, 16.5))
    for k, y in zip(shown, 22.5 - 16 * np.linspace(0, 1, len(shown)), strict=True):
        _text(ax, 88, y, groups.class_names[k], ha="right", fontsize=9)
        ax.add_patch(plt.Rectangle((88.8, y - 0.9), 6.2, 1.8, color="#ECECEC"))
        ax.add_patch(plt.Rectangle((88.8, y - 0.9), 6.2 * probabilities[k], 1.8, color="#4D4D4D"))
        _text(ax, 95.5, y, f"{100 * probabilities[k]:.0f}%", ha="left", fontsize=9)


def _text(ax: Axes, x: float, y: float, text: str, **look: Any) -> None:
    ax.text(x, y, text, **{"ha": "center", "va": "center", **look})


def _heading(ax: Axes, x: float, y: float, text: str, **look: Any) -> None:
    _text(ax, x, y, text, ha="left", weight="bold", **look)


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
