"""Figures of samples and of speed: what they draw, without looking at pixels."""

import matplotlib
import numpy as np
from PIL import Image

from mlvpt import plots

matplotlib.use("Agg")


def test_prediction_grid_names_what_was_found_missed_and_wrongly_claimed():
    images = [Image.new("RGB", (8, 8))] * 2
    targets = np.array([[1, 1, 0, -1], [0, 0, 0, 1]])
    probabilities = np.array([[0.9, 0.1, 0.8, 0.9], [0.2, 0.1, 0.3, 0.5]])
    figure = plots.prediction_grid(images, targets, probabilities, class_names=["a", "b", "c", "d"])
    texts = [[text.get_text() for text in ax.texts] for ax in figure.axes[:2]]
    assert texts == [["found a", "missed b", "wrong c"], ["found d", "missed –", "wrong –"]]


def test_speed_figure_has_a_bar_per_case_form_and_panel_in_units_of_the_plain_form():
    row = {"model": "vit_small_patch16_224", "side": 224, "prompts": 30, "batch_size": 16}
    row["device"] = "AMD EPYC, AVX2, 1 thread"
    for what in ("step", "inference"):
        row |= {f"{what}_prefix_over_plain": 0.5, f"{what}_prefix_over_unprompted": 2.0}
    row |= {"step_plain_mb": 4, "step_prefix_mb": 2, "step_unprompted_mb": 1}
    figure = plots.speed_figure([row, {**row, "side": 448}])
    for ax in figure.axes:
        assert [bar.get_width() for bar in ax.patches] == [0.5, 0.5, 0.25, 0.25]
    assert figure.axes[0].get_yticklabels()[1].get_text() == "small, 448 px, P = 30, B = 16"
    figure = plots.speed_figure([row, {**row, "device": "AMD EPYC, AVX-512, 1 thread"}])
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert [name.rsplit(", ", 1)[1] for name in names] == ["AVX2", "AVX-512"]


def test_heads_memory_draws_the_step_and_the_tensor_it_does_without_by_number_of_classes():
    rows = [
        {"classes": k, "step_mb": mb, "full_tensor_mb": 6.0 * k} for k, mb in ((9, 7.0), (2, 5.0))
    ]
    step, literal = plots.heads_memory(rows).lines
    assert step.get_xydata().tolist() == [[2, 5], [9, 7]]
    assert literal.get_xydata().tolist() == [[2, 12], [9, 54]]
