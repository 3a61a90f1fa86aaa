"""Figures of results show the numbers they are given."""

import matplotlib
import matplotlib.pyplot as plt
import pytest

from mlvpt.errors import InputError
from mlvpt.plots.results import (
    map_against_parameters,
    paired_differences,
    result_curves,
)
from mlvpt.studies.statistics import summarise

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def rows() -> list[dict]:
    values = {
        "mlvpt": (0.80, 0.82, 0.81),
        "vpt_deep": (0.70, 0.73, 0.73),
        "linear": (0.6, 0.6, 0.6),
    }
    return [
        {
            "variant": variant,
            "seed": seed,
            "test_mAP": value,
            "test_shifted_mAP": value - 0.1,
            "trained_parameters": 1000 * len(variant),
            "seconds": 1.0,
        }
        for variant, found in values.items()
        for seed, value in enumerate(found)
    ]


def test_curves_pass_through_the_means_over_seeds():
    ax = result_curves({"mlvpt": {1.0: [0.5, 0.7], 0.0: [0.4]}}, "strength", "mAP")
    (line,) = ax.get_lines()
    assert line.get_xdata().tolist() == [0.0, 1.0]
    assert line.get_ydata() == pytest.approx([40, 60])


def test_methods_without_a_colour_of_their_own_get_different_ones():
    ax = result_curves({"a": {0: [0.1]}, "b": {0: [0.2]}}, "x", "y")
    first, second = ax.get_lines()
    assert first.get_color() != second.get_color()


def test_every_method_is_named_at_its_number_of_parameters():
    ax = map_against_parameters(summarise(rows()))
    places = {c.get_label(): c.lines[0].get_xydata()[0] for c in ax.containers}
    assert places["mlvpt"] == pytest.approx((5000, 81))
    assert [text.get_text() for text in ax.get_legend().texts] == list(places)
    assert ax.get_xscale() == "log"


def test_paired_differences_leave_out_the_base_and_mark_what_is_beyond_chance():
    noisy = [{"variant": "noisy", "seed": s, "test_mAP": v} for s, v in enumerate((0.9, 0.7, 0.82))]
    ax = paired_differences(summarise([*rows(), *noisy], "mlvpt"))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["vpt_deep", "linear", "noisy"]
    markers = [line for line in ax.get_lines() if line.get_marker() == "o"]
    assert markers[0].get_xdata()[0] == pytest.approx(-9)
    filled = [matplotlib.colors.to_hex(m.get_markerfacecolor()) != "#ffffff" for m in markers]
    assert filled == [True, True, False]


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: map_against_parameters([]), "no results"),
        (lambda: map_against_parameters(summarise(rows()), measure="CF1"), "has no CF1"),
        (lambda: result_curves({}, "x", "y"), "nothing to draw"),
        (lambda: paired_differences(summarise(rows())), "nothing to compare"),
    ],
)
def test_missing_results_are_refused_with_one_sentence(attempt, message):
    with pytest.raises(InputError, match=message):
        attempt()
