"""The plain and the prefix form: what each computes and costs."""

from __future__ import annotations

from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch

from mlvpt.plots.style import BLUE, GREY, ORANGE, SKY, style

Work = Literal["image", "once", "never"]  # for every image; once for the whole batch; not at all

VIT_B = {"n_prompts": 30, "width": 768, "n_blocks": 12}  # ML-VPT on ViT-B/16
STEPS = ("norm", "queries", "keys", "values", "attention", "projection", "MLP")
ALL: tuple[Work, ...] = ("image",) * 7

# what is computed for (the prompts, the image tokens), in the order of STEPS
WORK: dict[str, tuple[tuple[Work, ...], tuple[Work, ...]]] = {
    "plain form, every block": (ALL, ALL),
    "prefix form, blocks 1 to L − 1": (
        ("once", "never", "once", "once", "never", "never", "never"),
        ALL,
    ),
    "prefix form, block L": (
        ("once", "once", "once", "once", "image", "image", "image"),
        ("image", "never", "image", "image", "never", "never", "never"),
    ),
}
COLORS = {"image": BLUE, "once": SKY, "never": "white"}
MEANING = {"image": "for every image", "once": "once for the whole batch", "never": "not at all"}


def prompting_cost(
    batch_size: int, n_tokens: int, n_prompts: int, width: int, n_blocks: int
) -> dict[str, dict[str, int]]:
    """Multiplications in the blocks of a ViT with deep prompts, forward, in matrix products alone.

    The MLP is four times as wide as the tokens.

    Norms, activations and the softmax are left out: they are linear in D, not quadratic.

    Args:
        batch_size: B, images.
        n_tokens: T, image tokens: patches, class token and registers.
        n_prompts: P, prompt tokens per block.
        width: D.
        n_blocks: L.

    Returns:
        {"plain" | "prefix" | "no prompts": {"image tokens": n, "prompts": n}} by whose queries,
        keys, values, projection and MLP they are; the product of attention belongs to the query.

    Example:
        >>> cost = prompting_cost(64, n_tokens=197, n_prompts=30, width=768, n_blocks=12)
        >>> round(sum(cost["prefix"].values()) / sum(cost["plain"].values()), 2)
        0.82
    """
    square, mlp = width**2, 8 * width**2
    keys = 2 * (n_tokens + n_prompts) * width  # one query with all keys, and the sum of values
    whole = 4 * square + mlp  # queries, keys, values, projection and MLP of one token
    last_image = batch_size * n_tokens * 2 * square
    last_prompts = n_prompts * (3 * square + batch_size * (keys + square + mlp))
    return {
        "plain": {
            "image tokens": n_blocks * batch_size * n_tokens * (whole + keys),
            "prompts": n_blocks * batch_size * n_prompts * (whole + keys),
        },
        "prefix": {
            "image tokens": (n_blocks - 1) * batch_size * n_tokens * (whole + keys) + last_image,
            "prompts": (n_blocks - 1) * n_prompts * 2 * square + last_prompts,
        },
        "no prompts": {
            "image tokens": n_blocks * batch_size * n_tokens * (whole + 2 * n_tokens * width),
            "prompts": 0,
        },
    }


def prefix_figure() -> Figure:
    """What the plain and the prefix form compute in every block, and what it costs.

    A column of boxes for prompts and one for image tokens per form and kind of block, a row per
    step, and one bar per form, of ML-VPT on ViT-B/16 at 224 pixels with 64 images. Legible at 390
    px.
    """
    batch_size = 64
    cost = prompting_cost(batch_size, 197, **VIT_B)
    with style():
        figure, panels = plt.subplot_mosaic(
            [[*WORK], ["cost"] * len(WORK)],
            figsize=(4.6, 5.6),
            height_ratios=(3, 1.4),
            layout="constrained",
        )
        for number, (title, columns) in enumerate(WORK.items()):
            _work_table(panels[title], columns, title, named=number == 0)
        handles = [
            Patch(facecolor=COLORS[work], edgecolor=GREY, label=text)
            for work, text in MEANING.items()
        ]
        figure.legend(
            handles=handles,
            loc="outside upper center",
            ncols=len(handles),
            title="computed …",
            fontsize=10,
            columnspacing=1.2,
            handlelength=1.2,
        )
        _cost_bars(panels["cost"], cost, batch_size)
    return figure


def _work_table(ax: Axes, columns: tuple[tuple[Work, ...], ...], title: str, named: bool) -> None:
    """Two columns of boxes, prompts beside image tokens, one box per step of the block."""
    for x, works in enumerate(columns):
        for y, work in enumerate(works):
            ax.add_patch(
                FancyBboxPatch(
                    (x + 0.1, y + 0.12),
                    0.8,
                    0.76,
                    boxstyle="round,pad=0,rounding_size=0.08",
                    facecolor=COLORS[work],
                    edgecolor=GREY,
                    linestyle=":" if work == "never" else "-",
                )
            )
    ax.set(xlim=(0, 2), ylim=(len(STEPS), 0))
    ax.set_title(title.replace(", ", ",\n"), fontsize=10)
    ax.set_xticks([0.5, 1.5], ["prompts", "image\ntokens"])
    ax.set_yticks(np.arange(len(STEPS)) + 0.5, STEPS if named else [""] * len(STEPS))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _cost_bars(ax: Axes, cost: dict[str, dict[str, int]], batch_size: int) -> None:
    """One bar per form: multiplications per image, image tokens and prompts apart."""
    names = ["plain", "prefix", "no prompts"]
    start = np.zeros(len(names))
    whole = sum(cost["plain"].values())
    for part, color in (("image tokens", BLUE), ("prompts", ORANGE)):
        sizes = np.array([cost[name][part] / batch_size / 1e9 for name in names])
        ax.barh(names, sizes, left=start, color=color, height=0.62)
        ax.text(start[0] + sizes[0] / 2, -0.62, part, ha="center", color=color, fontsize=10)
        start += sizes
    for y, name in enumerate(names):
        share = 100 * sum(cost[name].values()) / whole
        ax.text(start[y], y, f"  {start[y]:.1f} billion, {share:.0f}%", va="center", fontsize=9)
    ax.set(
        xlabel="multiplications per image, forward (billions)",
        xlim=(0, 1.6 * start.max()),
        ylim=(len(names) - 0.5, -1),
    )
    ax.set_xticks(range(0, 21, 5))
