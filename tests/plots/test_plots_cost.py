"""Accuracy against cost: every point where its numbers are, named, and legible on a phone."""

import itertools

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from mlvpt.errors import InputError
from mlvpt.plots.cost import accuracy_against_cost

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def lines():
    made = {
        "mlvpt, 1": (0.843, 80.0),
        "mlvpt, 3": (0.846, 190.0),
        "mlvpt, deep": (0.84, 1900.0),
        "vpt_deep, 1": (0.842, 75.0),
        "vpt_deep, 3": (0.8425, 180.0),
        "linear_probe": (0.839, 30.0),
        "query_head": (0.8425, 82.0),
    }
    return [
        {"variant": name, "test_mAP": mean, "test_mAP_std": 0.002, "seconds": seconds}
        for name, (mean, seconds) in made.items()
    ]


def test_points_stand_at_cost_and_accuracy_with_whiskers_of_one_standard_deviation():
    ax = accuracy_against_cost(lines(), {})
    assert ax.get_xscale() == "log"
    first = next(bars for bars in ax.containers if bars.get_label() == "mlvpt")
    assert first.lines[0].get_xydata()[:, 0].tolist() == [80, 190, 1900]
    assert first.lines[0].get_xydata()[:, 1] == pytest.approx([84.3, 84.6, 84.0])
    ends = first.lines[2][0].get_segments()[0][:, 1]
    assert ends == pytest.approx([84.1, 84.5])


def test_methods_are_named_in_the_legend_and_points_by_the_blocks_that_have_prompts():
    ax = accuracy_against_cost(lines(), {"mlvpt": "ML-VPT", "linear_probe": "linear probe"})
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert sorted(names) == ["ML-VPT", "linear probe", "query_head", "vpt_deep"]
    found = {(text.xy[0], text.get_text()) for text in ax.texts if text.get_text()}
    assert found == {(80, "1"), (190, "3"), (1900, "all"), (75, "1"), (180, "3")}


def test_no_two_texts_lie_on_each_other_and_none_leaves_the_picture():
    ax = accuracy_against_cost(lines(), {})
    figure = ax.figure
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    boxes.append(ax.get_legend().get_window_extent())
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    width, height = figure.get_size_inches() * figure.dpi
    assert all(box.x0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
    assert figure.get_figwidth() <= 4.5


def test_a_single_seed_has_no_whisker():
    ax = accuracy_against_cost([{**lines()[0], "test_mAP_std": np.nan}], {})
    assert not any(len(bar) for bar in ax.containers[0].lines[2][0].get_segments())


@pytest.mark.parametrize("broken", [[], [{"variant": "a", "seconds": 1.0}]])
def test_results_that_cannot_be_drawn_are_refused(broken):
    with pytest.raises(InputError):
        accuracy_against_cost(broken, {})
