"""Figures of cost: time and memory as measured."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlvpt.plots.style import BLUE, GREY, axes, style

FORMS = {"prefix": BLUE, "unprompted": "#bdbdbd"}


def speed_figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """Bars per case: time of a training step, of inference, and peak memory of a step.

    Args:
        rows: of results/speed.jsonl, part "prompts". "unprompted" is inference in each panel: the
            floor that no prompted training step can reach. Names tell the vector unit where the
            rows are of several.
    """
    titles = ("time of a training step", "time of inference", "peak memory of a step")
    units = [_vector_unit(row) for row in rows]
    names = [
        f"{row['model'].split('_')[1]}, {row['side']} px, "
        f"P = {row['prompts']}, B = {row['batch_size']}" + (f", {unit}" if unit else "")
        for row, unit in zip(rows, units if len(set(units)) > 1 else [""] * len(rows), strict=True)
    ]
    height = np.arange(len(rows))
    with style():
        figure, panels = plt.subplots(
            1, 3, figsize=(9.4, 1.3 + 0.42 * len(rows)), sharey=True, layout="constrained"
        )
        ratios_by_panel = zip(*map(_ratios, rows), strict=True)
        for ax, label, ratios in zip(panels, titles, ratios_by_panel, strict=True):
            for number, (form, color) in enumerate(FORMS.items()):
                values = [ratio[number] for ratio in ratios]
                bars = ax.barh(height + 0.4 * (number - 0.5), values, 0.38, color=color, label=form)
                patch = {"facecolor": "white", "edgecolor": "none", "pad": 0.4}
                ax.bar_label(bars, fmt="%.2f", padding=2, fontsize=7, bbox=patch)
            ax.axvline(1, color=GREY, linewidth=1, linestyle="--", label="plain")
            ax.set_xlim(0, 1.12)
            ax.set_xlabel(label)
        panels[0].set_yticks(height, names)
        panels[0].invert_yaxis()
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def heads_memory(rows: Sequence[dict[str, Any]]) -> Axes:
    """Memory of a training step of one view's experts against the number of classes.

    Args:
        rows: of results/speed.jsonl, part "heads".
    """
    rows = sorted(rows, key=lambda row: row["classes"])
    classes = [row["classes"] for row in rows]
    with style():
        ax = axes(4.8, 3.2)
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
