"""Figures of cost: time and memory as measured, and multiplications as the image grows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlvpt.plots.prefix import prompting_cost
from mlvpt.plots.style import BLUE, GREY, ORANGE, style

FORMS = {"prefix": BLUE, "unprompted": "#bdbdbd"}


def speed_figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """Bars per case: time of a training step, of inference, and peak memory of a step.

    Args:
        rows: of results/speed.jsonl, part "prompts". "unprompted" is inference in each panel: the
            floor that no prompted training step can reach. Names tell the vector unit where the
            rows are of several.
    """
    panels = ("time of a training step", "time of inference", "peak memory of a step")
    units = [_vector_unit(row) for row in rows]
    names = [
        f"{row['model'].split('_')[1]}, {row['side']} px, "
        f"P = {row['prompts']}, B = {row['batch_size']}" + (f", {unit}" if unit else "")
        for row, unit in zip(rows, units if len(set(units)) > 1 else [""] * len(rows), strict=True)
    ]
    height = np.arange(len(rows))
    with style():
        figure, axes = plt.subplots(
            1, 3, figsize=(9.4, 1.3 + 0.42 * len(rows)), sharey=True, layout="constrained"
        )
        for ax, label, ratios in zip(
            axes, panels, zip(*map(_ratios, rows), strict=True), strict=True
        ):
            for number, (form, color) in enumerate(FORMS.items()):
                values = [ratio[number] for ratio in ratios]
                bars = ax.barh(height + 0.4 * (number - 0.5), values, 0.38, color=color, label=form)
                patch = {"facecolor": "white", "edgecolor": "none", "pad": 0.4}
                ax.bar_label(bars, fmt="%.2f", padding=2, fontsize=7, bbox=patch)
            ax.axvline(1, color=GREY, linewidth=1, linestyle="--", label="plain")
            ax.set_xlim(0, 1.12)
            ax.set_xlabel(label)
        axes[0].set_yticks(height, names)
        axes[0].invert_yaxis()
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def heads_memory(rows: Sequence[dict[str, Any]], ax: Axes | None = None) -> Axes:
    """Memory of a training step of one view's experts against the number of classes.

    Args:
        rows: of results/speed.jsonl, part "heads".
        ax: where to draw; None makes a figure.
    """
    rows = sorted(rows, key=lambda row: row["classes"])
    classes = [row["classes"] for row in rows]
    with style():
        if ax is None:
            ax = plt.subplots(figsize=(4.8, 3.2), layout="constrained")[1]
        ax.plot(classes, [row["step_mb"] for row in rows], "o-", color=BLUE, label="a whole step")
        literal = [row["full_tensor_mb"] for row in rows]
        ax.plot(classes, literal, "s--", color=GREY, label="one (B, K, E, D) tensor")
        ax.set(xscale="log", yscale="log", xlabel="classes", ylabel="megabytes")
        ax.legend()
    return ax


def _vector_unit(row: dict[str, Any]) -> str:
    """As the name of a processor has it: "AMD EPYC, AVX-512, 2 threads"."""
    return next((part for part in row["device"].split(", ") if part.startswith("AVX")), "")


def _ratios(row: dict[str, Any]) -> list[tuple[float, float]]:
    """(prefix, unprompted) over plain of each panel; of times, medians over turns."""
    times = [
        (row[f"{what}_prefix_over_plain"], row[f"{what}_prefix_over_unprompted"])
        for what in ("step", "inference")
    ]
    plain, *others = (row[f"step_{form}_mb"] for form in ("plain", *FORMS))
    return [*((ours, ours / over) for ours, over in times), tuple(mb / plain for mb in others)]


def cost_by_size(
    sides: Sequence[int] = range(112, 673, 112),
    patch: int = 16,
    n_prompts: int = 30,
    width: int = 768,
    n_blocks: int = 12,
    marked: Sequence[int] = (224, 448),
) -> Axes:
    """Multiplications of a forward pass per image against the side of the image.

    Args:
        sides: of square images, in pixels.
        patch: side of a patch in pixels.
        n_prompts, width, n_blocks: see `prompting_cost`; by default ML-VPT on ViT-B/16.
        marked: sides whose cost is written beside the curve; the first is the reference.
    """

    def billions(side: int) -> float:
        n_tokens = (side // patch) ** 2 + 1
        cost = prompting_cost(1, n_tokens, n_prompts, width, n_blocks)["prefix"]
        return sum(cost.values()) / 1e9

    with style():
        ax = plt.subplots(figsize=(5.6, 3.4), layout="constrained")[1]
        ax.plot(sides, [billions(side) for side in sides], marker="o", color=BLUE, label="ML-VPT")
        first = marked[0]
        linear = [billions(first) * (side / first) ** 2 for side in sides]
        ax.plot(
            sides,
            linear,
            color=ORANGE,
            linestyle="--",
            label=f"in proportion to the area, from {first} px",
        )
        for side in marked:
            ax.annotate(
                f"{billions(side):.0f} at {side} px",
                (side, billions(side)),
                xytext=(-8, 8),
                textcoords="offset points",
                ha="right",
            )
        ax.set_xlabel("side of the image (pixels)")
        ax.set_ylabel("multiplications per image (billion)")
        ax.set_xticks(list(sides))
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
        ax.legend(loc="upper left")
    return ax
