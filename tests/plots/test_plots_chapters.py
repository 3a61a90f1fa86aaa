"""The figures of the first chapters: what they draw, and what they refuse."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from mlvpt import group_labels, label_statistics
from mlvpt.datasets import load_scenes
from mlvpt.errors import InputError
from mlvpt.grouping import cooccurrence_counts
from mlvpt.plots import (
    agreement_curves,
    class_frequencies,
    cost_by_size,
    embedding_scatter,
    image_grid,
    method_map,
    partner_effect,
    prompting_cost,
    style,
)

mpl.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_style_leaves_a_notebook_interactive():
    mpl.interactive(False)
    with style():
        mpl.interactive(True)  # what a notebook's backend does with its first figure
    assert mpl.is_interactive()
    mpl.interactive(False)


def test_frequencies_are_sorted_and_written_beside_the_bars():
    voc = label_statistics("voc2007")
    ax = class_frequencies(voc.counts, voc.n_images, voc.class_names)
    assert [label.get_text() for label in ax.get_yticklabels()][:2] == ["person", "car"]
    assert texts(ax)[0] == "40.1%"


def test_image_grid_fills_rows_and_leaves_the_rest_empty():
    figure = image_grid([np.zeros((4, 4, 3))] * 5, list("abcde"), n_columns=3)
    assert [len(ax.images) for ax in figure.axes] == [1, 1, 1, 1, 1, 0]
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "c", "d", "e", ""]


def test_partner_effect_puts_the_strongest_pair_first():
    pair = {"probability_without_partner": 0.1, "probability_with_partner": 0.2}
    pairs = [
        {**pair, "partner": 0, "label": 1},
        {**pair, "partner": 1, "label": 0, "probability_with_partner": 0.4},
    ]
    ax = partner_effect(pairs, ["keyboard", "mouse"])
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows == ["keyboard, seeing mouse", "mouse, seeing keyboard"]


def test_a_constant_coordinate_is_drawn_as_one_column_not_as_its_rounding():
    points = np.array([[0.4, 1.0], [0.4 + 1e-15, 0.5], [0.4, -1.0]])
    left, right = embedding_scatter(points, [0, 0, 1], ["a", "b", "c"]).get_xlim()
    assert right - left == pytest.approx(1)


def test_an_embedding_of_three_coordinates_is_refused():
    with pytest.raises(InputError, match=r"\(K, 2\)"):
        embedding_scatter(np.zeros((4, 3)), [0] * 4, list("abcd"))


def test_agreement_curves_have_a_panel_per_data_set():
    panels = {name: {"2 groups": [1.0, 0.5]} for name in ("voc", "coco")}
    figure = agreement_curves([1, 2], panels)
    assert [ax.get_title() for ax in figure.axes] == ["voc", "coco"]


def test_method_map_shows_the_groups_and_the_most_probable_classes():
    scenes = load_scenes("train", n_images=200)
    counts = cooccurrence_counts(scenes.targets)
    groups = group_labels(counts=counts, n_groups=4, class_names=scenes.class_names)
    probabilities = np.linspace(0.05, 0.95, 10)
    figure = method_map(scenes.load_image(0), counts, groups, probabilities, n_shown=3)
    written = texts(figure.axes[0])
    for members in groups.co_members:
        assert " ".join(scenes.class_names[k] for k in members) in written
    assert [text for text in written if text.endswith("%")] == ["95%", "85%", "75%"]


def test_cost_by_size_grows_faster_than_the_area():
    ax = cost_by_size()
    cost, in_proportion = (line.get_ydata() for line in ax.lines)
    expected = sum(prompting_cost(1, 197, 30, 768, 12)["prefix"].values()) / 1e9
    assert cost[1] == pytest.approx(expected)
    assert cost[3] > in_proportion[3] == pytest.approx(4 * cost[1])
    assert texts(ax)[0] == f"{expected:.0f} at 224 px"
