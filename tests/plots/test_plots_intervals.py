"""Dots stand where their values are, and their intervals end where they should."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from mlvpt.errors import InputError
from mlvpt.plots import interval_dots

matplotlib.use("Agg")
ROWS = {
    "chance": {"VOC2007": (0.01, -0.01, 0.02), "Clothing": (-0.02, -0.03, -0.01)},
    "one group": {"Clothing": (0.03, 0.02, 0.05)},
}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_a_dot_stands_at_its_value_in_points_between_the_ends_of_its_interval():
    ax = interval_dots(ROWS, "points", zero=True)
    voc, clothing = ax.containers
    assert voc.lines[0].get_xdata() == pytest.approx([1])
    assert clothing.lines[0].get_xdata() == pytest.approx([-2, 3])
    (segments,) = (lines.get_segments() for lines in clothing.lines[2])
    assert np.array(segments)[:, :, 0] == pytest.approx(np.array([[-3, -1], [2, 5]]))


def test_names_stand_from_top_to_bottom_and_series_lie_apart():
    ax = interval_dots(ROWS, "points")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["chance", "one group"]
    low, high = ax.get_ylim()
    assert low > high
    voc, clothing = (container.lines[0].get_ydata()[0] for container in ax.containers)
    assert -0.5 < voc < 0 < clothing < 0.5


def test_one_series_needs_no_name():
    ax = interval_dots({"ML-VPT": {"": (0.5, 0.4, 0.6)}}, "mAP (%)")
    assert ax.get_legend() is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"chance": {}}, "nothing to draw"),
        ({"chance": {name: (0, 0, 0) for name in "abcd"}}, "at most 3"),
    ],
)
def test_too_little_and_too_much_is_refused(rows, message):
    with pytest.raises(InputError, match=message):
        interval_dots(rows, "points")
