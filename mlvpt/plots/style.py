"""Style of every figure: colours that stay apart for colour-blind readers, on white.

Figures have a white face with a small margin around them. On a dark page the book's style sheet
turns the lightness of charts over and leaves pictures as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, PINK, GREY, YELLOW, SKY = sns.color_palette(
    "colorblind"
).as_hex()

CO_COLOR, DC_COLOR = BLUE, ORANGE
SEQUENTIAL = "mako_r"  # light is little: prints well, monotone in lightness
MARKERS = "osD^vP*Xh<>"  # lines and points stay apart without colour, too

# by the name of the method, in lower case letters and digits alone
METHOD_COLORS = {
    "mlvpt": BLUE,
    "vptdeep": ORANGE,
    "vptshallow": YELLOW,
    "linearprobe": GREY,
    "fullfinetuning": RED,
    "gatevpt": GREEN,
    "e2vpt": PURPLE,
}

STYLE = {
    "figure.facecolor": "white",
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "savefig.facecolor": "white",
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.1,
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "font.size": 10,
    "legend.frameon": False,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}


@contextmanager
def style() -> Iterator[None]:
    """The look of the figures made, and saved, inside the block; nothing outside it changes.

    Example:
        >>> with style():
        ...     plt.rcParams["axes.spines.top"]
        False
    """
    with plt.rc_context(STYLE):
        try:
            yield
        finally:
            # A notebook's backend turns interactive with its first figure; leaving the context
            # would turn it back, and no later figure would be shown.
            interactive = plt.isinteractive()
    matplotlib.interactive(interactive)


def axes(width: float, height: float, ax: Axes | None = None) -> Axes:
    """The Axes given, or those of a new figure of so many inches."""
    return plt.subplots(figsize=(width, height), layout="constrained")[1] if ax is None else ax


def panels(n_rows: int, n_columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A figure of so many inches for pictures, and its Axes in one row, without frames."""
    with style():
        figure, grid = plt.subplots(
            n_rows, n_columns, figsize=(width, height), squeeze=False, layout="constrained"
        )
    for ax in grid.flat:
        ax.set_axis_off()
    return figure, grid.ravel()


def method_color(name: str, other: str = "#444444") -> str:
    """The colour of a method, the same in every figure; `other` for one without its own.

    Example:
        >>> method_color("ML-VPT") == method_color("mlvpt")
        True
    """
    return METHOD_COLORS.get(re.sub(r"[^a-z0-9]", "", name.lower()), other)


def line_colors(names: Sequence[str]) -> list[str]:
    """A colour for each name: the method's own, or else one by its place."""
    return [method_color(*pair) for pair in zip(names, group_colors(len(names)), strict=True)]


def group_colors(n_groups: int) -> list[str]:
    """One hex colour for each of the groups; ten are safe for colour-blind readers."""
    return sns.color_palette("colorblind" if n_groups <= 10 else "husl", n_groups).as_hex()
