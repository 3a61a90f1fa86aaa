"""The figure of the claim draws the numbers of the recorded runs."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from mlvpt.errors import InputError
from mlvpt.plots.claims import partner_differences

matplotlib.use("Agg")
PAIRS = [
    {"label": "cup", "partner": "fork"},
    {"label": "car", "partner": "bus"},
    {"label": "fork", "partner": "cup"},
]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def run(by_pair, interval=(0.01, 0.04)):
    return {
        "FPR_difference": float(np.mean(by_pair)),
        "FPR_difference_interval": list(interval),
        "FPR_difference_by_pair": list(by_pair),
    }


METHODS = {
    "ML-VPT": [run([0.01, 0.05, -0.02]), run([0.03, 0.07, -0.02], (0.0, 0.03))],
    "linear probe": [run([0.02, 0.08, 0.0])],
}


def dots(ax, marker):
    return [line.get_xdata() for line in ax.get_lines() if line.get_marker() == marker]


def test_pairs_are_sorted_and_their_dots_are_means_over_the_runs():
    ax = partner_differences(METHODS, PAIRS)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["car, by bus", "cup, by fork", "fork, by cup", "mean of 3 pairs"]
    ours, probe = dots(ax, "o")
    np.testing.assert_allclose(ours, [6, 2, -2])
    np.testing.assert_allclose(probe, [8, 2, 0])


def test_the_mean_has_the_outermost_ends_of_its_runs_intervals():
    ax = partner_differences(METHODS, PAIRS)
    np.testing.assert_allclose(np.ravel(dots(ax, "D")), [2, 10 / 3])
    spans = [lines.get_segments() for lines in ax.collections]
    means = [segments[0][:, 0] for segments in spans if len(segments) == 1]
    np.testing.assert_allclose(means, [[0, 4], [1, 4]])


def test_the_line_through_a_dot_spans_the_runs():
    ax = partner_differences(METHODS, PAIRS)
    first = next(lines.get_segments() for lines in ax.collections if len(lines.get_segments()) == 3)
    np.testing.assert_allclose(first[0][:, 0], [5, 7])


def test_the_figure_fits_a_phone_and_names_its_methods():
    ax = partner_differences(METHODS, PAIRS)
    assert ax.figure.get_figwidth() <= 4.6
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(METHODS)


@pytest.mark.parametrize("methods", [{}, {"ML-VPT": []}, {"ML-VPT": [run([0.1])]}])
def test_runs_that_do_not_fit_the_pairs_are_refused(methods):
    with pytest.raises(InputError, match="of 3 pairs"):
        partner_differences(methods, PAIRS)
