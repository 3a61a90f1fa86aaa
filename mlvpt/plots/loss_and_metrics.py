"""Figures of losses and metrics: loss curves, precision and recall, thresholds."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import nn

from mlvpt.metrics import average_precision
from mlvpt.plots.style import BLUE, GREEN, GREY, ORANGE, axes, group_colors, style

LINES = ("-", "--", "-.", ":")


def loss_curves(losses: Mapping[str, nn.Module], target: int = 0) -> Figure:
    """Loss of one entry, and its gradient, against the probability that the model gives.

    Args:
        losses: {name: loss of (logits, targets)}.
        target: 1 or 0, the label of the entry.
    """
    probability = np.linspace(0.01, 0.99, 99)
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.1), layout="constrained")
        colors = group_colors(len(losses))
        for number, (name, loss) in enumerate(losses.items()):
            logits = torch.logit(torch.tensor(probability, dtype=torch.float32))
            logits.requires_grad_(True)
            label = torch.tensor([target])
            values = torch.stack([loss(logit[None], label) for logit in logits])
            (gradient,) = torch.autograd.grad(values.sum(), logits)
            look = {"color": colors[number], "linestyle": LINES[number % len(LINES)]}
            left.plot(probability, values.detach(), label=name, **look)
            right.plot(probability, gradient.abs(), **look)
        kind = "present" if target else "absent"
        for ax, quantity in ((left, "loss"), (right, "gradient, absolute value")):
            ax.set_xlabel(f"probability p of a class that is {kind}")
            ax.set_ylabel(quantity)
            ax.grid(alpha=0.3)
        left.set_ylim(0, 3)
        left.legend()
    return figure


def precision_recall(targets: ArrayLike, scores: ArrayLike) -> Figure:
    """One class: how the three definitions of average precision read the same ranking.

    Args:
        targets: (N,) of 1 and 0.
        scores: (N,), all different.
    """
    targets, scores = np.asarray(targets), np.asarray(scores)
    hits = targets[np.argsort(-scores, kind="stable")] == 1
    recall = np.cumsum(hits) / hits.sum()
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    ceiling = np.maximum.accumulate(precision[::-1])[::-1]
    points = np.linspace(0, 1, 11)
    at_points = np.array([ceiling[recall >= point - 1e-9].max(initial=0) for point in points])
    areas = {
        "area": (recall, precision, BLUE),
        "voc2010": (recall, ceiling, ORANGE),
        "voc2007": (points, at_points, GREEN),
    }
    with style():
        figure, panels = plt.subplots(1, 3, figsize=(9, 3), sharey=True, layout="constrained")
        for ax, (name, (x, y, color)) in zip(panels, areas.items(), strict=True):
            ax.plot(recall, precision, color=GREY, marker="o", markersize=4, linewidth=1)
            if name == "voc2007":
                ax.vlines(x, 0, y, color=color, linewidth=2.5)
                ax.plot(x, y, "s", color=color, markersize=5)
            else:
                ax.fill_between(
                    np.append(0, x), np.append(y[0], y), step="pre", color=color, alpha=0.4
                )
            value = average_precision(targets[:, None], scores[:, None], name).item()
            ax.set_title(f'"{name}": {100 * value:.1f}%')
            ax.set_xlabel("recall")
            ax.set(xlim=(-0.03, 1.03), ylim=(0, 1.05))
        panels[0].set_ylabel("precision")
    return figure


def threshold_curves(
    thresholds: ArrayLike, curves: Mapping[str, ArrayLike], marks: Mapping[str, float] | None = None
) -> Axes:
    """A metric against the threshold, one curve per model, in percent.

    Args:
        thresholds: (n,).
        curves: {name: (n,) fractions}.
        marks: {name: threshold} to mark on the curve of that name.
    """
    with style():
        ax = axes(6.2, 3.3)
        colors = group_colors(len(curves))
        for number, (name, values) in enumerate(curves.items()):
            percent = 100 * np.asarray(values)
            ax.plot(
                thresholds, percent, color=colors[number], linestyle=LINES[number % 4], label=name
            )
            if marks and name in marks:
                height = np.interp(marks[name], thresholds, percent)
                ax.plot(marks[name], height, "o", color=colors[number], markersize=7)
        ax.axvline(0.5, color=GREY, linewidth=1)
        ax.set_xlabel("threshold")
        ax.set_ylabel("OF1 (%)")
        ax.grid(alpha=0.3)
        ax.legend()
    return ax
