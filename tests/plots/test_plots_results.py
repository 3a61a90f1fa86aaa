"""Figures of results show the numbers they are given."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from mlvpt.errors import InputError
from mlvpt.plots.results import result_curves

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_curves_pass_through_the_means_over_seeds():
    ax = result_curves({"mlvpt": {1.0: [0.5, 0.7], 0.0: [0.4]}}, "strength", "mAP")
    (line,) = ax.get_lines()
    assert line.get_xdata().tolist() == [0.0, 1.0]
    assert line.get_ydata() == pytest.approx([40, 60])


def test_methods_without_a_colour_of_their_own_get_different_ones():
    ax = result_curves({"a": {0: [0.1]}, "b": {0: [0.2]}}, "x", "y")
    first, second = ax.get_lines()
    assert first.get_color() != second.get_color()


def test_no_method_is_refused_with_one_sentence():
    with pytest.raises(InputError, match="nothing to draw"):
        result_curves({}, "x", "y")


def test_lines_are_named_at_their_ends_and_names_keep_apart():
    curves = {name: {0: [0.1 * n], 1: [0.5 + 0.001 * n]} for n, name in enumerate("abc")}
    ax = result_curves(curves, "x", "y")
    heights = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert list(heights) == ["a", "b", "c"]
    assert all(abs(height - 50) < 10 for height in heights.values())
    assert min(np.diff(list(heights.values()))) > 2
