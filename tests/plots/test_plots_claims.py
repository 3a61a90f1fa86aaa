"""The figure of the claim draws the numbers it is given."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from mlvpt.bias import claim
from mlvpt.errors import InputError
from mlvpt.plots.claims import exclusive_cooccur_dumbbells

matplotlib.use("Agg")
NAMES = ["cup", "fork", "car"]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def measured(seed, pairs=((0, 1), (1, 2)), n_resamples=30, class_names=NAMES):
    rng = np.random.default_rng(seed)
    targets = (np.random.default_rng(0).random((200, 3)) < 0.4).astype(int)
    probabilities = np.clip(0.6 * rng.random(targets.shape) + 0.4 * targets, 0, 1)
    return claim(
        targets, probabilities, pairs, class_names=class_names, n_resamples=n_resamples, seed=seed
    )


def dots(ax, filled):
    return [
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in ax.get_lines()
        if line.get_marker() == "o" and (line.get_markerfacecolor() != "white") == filled
    ]


@pytest.mark.parametrize("matched", [False, True])
def test_filled_dots_are_cooccur_ap_and_hollow_ones_exclusive_ap(matched):
    found = measured(1)
    ax = exclusive_cooccur_dumbbells({"ML-VPT": found}, matched=matched)
    for filled, name in ((True, "cooccur_AP"), (False, "exclusive_AP")):
        name += "_matched" * matched
        expected = [100 * values[name] for values in (*found["pairs"], found)]
        assert [x for x, _ in dots(ax, filled)] == pytest.approx(expected)


def test_every_pair_is_named_above_its_dumbbells_and_the_mean_comes_last():
    ax = exclusive_cooccur_dumbbells({"ML-VPT": measured(1), "VPT-deep": measured(2)})
    texts = [(text.get_text(), text.get_position()[1]) for text in ax.texts]
    assert [name for name, _ in texts] == [
        "cup, with and without fork",
        "fork, with and without car",
        "mean of 2 pairs",
    ]
    heights = [y for _, y in dots(ax, filled=True)]  # the axis points down
    for number, (_, y) in enumerate(texts):
        assert y < heights[2 * number] < heights[2 * number + 1]


def test_intervals_are_as_long_as_given_and_fit_on_the_axis():
    found = measured(1)
    ax = exclusive_cooccur_dumbbells({"ML-VPT": found})
    drawn = [tuple(line.get_xdata()) for line in ax.get_lines() if len(line.get_xdata()) == 2]
    low, high = ax.get_xlim()
    for name in ("cooccur_AP_interval", "exclusive_AP_interval"):
        ends = tuple(100 * value for value in found[name])
        assert any(other == pytest.approx(ends) for other in drawn)
        assert low < ends[0]
        assert ends[1] < high or high == 100


def test_two_models_are_told_apart_by_colour_and_named():
    ax = exclusive_cooccur_dumbbells({"one": measured(1), "other": measured(2)})
    colors = [line.get_color() for line in ax.get_lines() if line.get_marker() == "o"]
    assert len(set(colors)) == 2
    (legend,) = ax.figure.legends
    assert {"one", "other"} <= {text.get_text() for text in legend.texts}


def test_first_pairs_alone_are_drawn_with_the_mean_of_all():
    found = measured(1, class_names=None)
    ax = exclusive_cooccur_dumbbells({"ML-VPT": found}, class_names=NAMES, n_pairs=1)
    assert [text.get_text() for text in ax.texts] == [
        "cup, with and without fork",
        "mean of 2 pairs",
    ]
    assert dots(ax, filled=True)[-1][0] == pytest.approx(100 * found["cooccur_AP"])


def test_figure_without_intervals_is_drawn():
    ax = exclusive_cooccur_dumbbells({"ML-VPT": measured(1, n_resamples=0)})
    assert len(dots(ax, filled=False)) == 3


def test_figure_is_narrow_enough_for_a_phone():
    assert exclusive_cooccur_dumbbells({"ML-VPT": measured(1)}).figure.get_figwidth() <= 4.5


def test_models_that_cannot_be_compared_are_refused():
    with pytest.raises(InputError, match="different pairs"):
        exclusive_cooccur_dumbbells({"one": measured(1), "other": measured(2, ((1, 0), (1, 2)))})
    with pytest.raises(InputError, match="one or two models"):
        exclusive_cooccur_dumbbells({})
