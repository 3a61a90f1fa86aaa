"""Curves of one training run: step by step, and epoch by epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from mlvpt.errors import InputError
from mlvpt.plots.style import BLUE, GREY, MARKERS, ORANGE, line_colors, style


def step_curves(losses: Sequence[float], rates: Sequence[float], window: int = 10) -> Figure:
    """The loss of every step with its running mean, above the learning rate.

    Args:
        losses: one per step.
        rates: learning rate of the same steps.
        window: steps in the running mean.
    """
    if len(losses) != len(rates) or not 1 <= window <= len(losses):
        raise InputError("Give a loss and a learning rate for each step, and a window that fits.")
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    with style():
        figure, axes = plt.subplots(
            2, 1, figsize=(6.2, 3.8), sharex=True, height_ratios=(2, 1), layout="constrained"
        )
        steps = np.arange(1, len(losses) + 1)
        axes[0].plot(steps, losses, color=GREY, linewidth=0.7, alpha=0.7)
        axes[0].plot(steps[window - 1 :], smooth, color=BLUE, linewidth=1.8)
        axes[0].set_ylabel("loss")
        axes[0].set_ylim(bottom=0)
        axes[1].plot(steps, rates, color=ORANGE)
        axes[1].set_ylabel("learning rate")
        axes[1].set_xlabel("step")
        axes[1].set_ylim(bottom=0)
        for ax in axes:
            ax.grid(alpha=0.3)
    return figure


def training_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Training loss and mAP on val after every epoch, one line per run.

    Args:
        histories: {run: lines of its metrics.jsonl}.
    """
    if not histories or not all(histories.values()):
        raise InputError("There is nothing to draw: give runs with at least one epoch.")
    with style():
        figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.2), layout="constrained")
        colors = line_colors(list(histories))
        for number, (name, lines) in enumerate(histories.items()):
            marker = MARKERS[number % len(MARKERS)]
            look = {"marker": marker, "color": colors[number], "label": name}
            epochs = [line["epoch"] for line in lines]
            axes[0].plot(epochs, [line["loss"] for line in lines], **look)
            axes[1].plot(epochs, [100 * line["val_mAP"] for line in lines], **look)
            axes[0].set_xticks(epochs)
            axes[1].set_xticks(epochs)
        axes[0].set_ylabel("training loss")
        axes[0].set_ylim(bottom=0)
        axes[1].set_ylabel("mAP on val (percent)")
        for ax in axes:
            ax.set_xlabel("epoch")
            ax.grid(alpha=0.3)
        if len(histories) > 1:
            axes[1].legend()
    return figure
