"""Accuracy against cost: what each method, with prompts in so many blocks, reaches for its time."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from mlvpt.errors import InputError
from mlvpt.plots.style import MARKERS, axes, line_colors, style


def accuracy_against_cost(lines: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> Axes:
    """A point per method and number of prompted blocks; seconds are logarithmic.

    The number beside a point says in how many of the last blocks the method has prompts. Points of
    one method are joined in the order of their cost. Whiskers are one standard deviation over
    seeds. Legible at 390 px.

    Args:
        lines: of `summarise`, with test_mAP and seconds: the variant is a method, or "method, n"
            with prompts in the last n blocks ("deep": in all).
        names: what to call a method; others keep their name.

    Returns:
        The Axes; y is in percent.

    Raises:
        InputError: no lines, or one without test_mAP or seconds.
    """
    if not lines:
        raise InputError("There are no results to draw: make the runs first (mlvpt ablate).")
    for line in lines:
        if line.get("test_mAP") is None or not line.get("seconds", 0) > 0:
            raise InputError(f"{line['variant']} has no test_mAP or no seconds: leave it out.")
    methods: dict[str, list[Mapping[str, Any]]] = {}
    for line in sorted(lines, key=lambda line: line["seconds"]):
        methods.setdefault(line["variant"].split(", ")[0], []).append(line)
    with style():
        ax = axes(4.3, 5.2)
        ax.set_xscale("log")
        colors = line_colors(list(methods))
        for number, (method, points) in enumerate(methods.items()):
            ax.errorbar(
                [line["seconds"] for line in points],
                [100 * line["test_mAP"] for line in points],
                [100 * line["test_mAP_std"] for line in points],
                fmt=MARKERS[number % len(MARKERS)] + "-",
                color=colors[number],
                capsize=3,
                linewidth=1.2,
                markersize=6,
                label=names.get(method, method),
            )
            for line in points:  # named below, where the line that rises to the right is not
                n = line["variant"].partition(", ")[2].replace("deep", "all")
                place = line["seconds"], 100 * line["test_mAP"]
                ax.annotate(
                    n, place, (6, -12), textcoords="offset points", color=colors[number], fontsize=9
                )
        ax.margins(0.1)
        ax.set_xlabel("seconds per run")
        ax.set_ylabel("mAP on test (%)")
        ax.grid(alpha=0.3)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, labelcolor="linecolor")
    return ax
