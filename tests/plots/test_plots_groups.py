"""Figures of groups: what is drawn, read back from the Axes."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb

from mlvpt.datasets.shipped import label_statistics
from mlvpt.errors import InputError
from mlvpt.grouping import cooccurrence_affinity
from mlvpt.labels import LabelGroups
from mlvpt.plots import (
    CO_COLOR,
    DC_COLOR,
    affinity_heatmap,
    group_colors,
    group_graph,
    method_color,
    style,
)

NAMES = ["cup", "car", "fork", "bus"]
AFFINITY = np.array(
    [[0, 0.1, 0.9, 0], [0.1, 0, 0, 0.8], [0.9, 0, 0, 0.2], [0, 0.8, 0.2, 0]], dtype=float
)
GROUPS = LabelGroups([0, 1, 0, 1], [0, 0, 1, 1], 2, NAMES)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def tick_names(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def drawn_edges(ax):
    return next(item for item in ax.collections if isinstance(item, LineCollection))


@pytest.mark.parametrize(
    ("view", "expected"),
    [("co", ["cup", "fork", "car", "bus"]), ("dc", ["cup", "car", "fork", "bus"])],
)
def test_heatmap_orders_classes_by_group_and_moves_values_with_them(view, expected):
    ax = affinity_heatmap(AFFINITY, GROUPS, view)
    assert tick_names(ax) == expected
    drawn = np.ma.filled(ax.collections[0].get_array().reshape(4, 4), 0)
    order = [NAMES.index(name) for name in expected]
    np.testing.assert_array_equal(drawn, AFFINITY[np.ix_(order, order)])


def test_heatmap_separates_the_groups_and_labels_its_colours():
    ax = affinity_heatmap(AFFINITY, GROUPS, "dc")
    lines = [item for item in ax.collections if isinstance(item, LineCollection)]
    assert [line.get_segments()[0][0].max() for line in lines] == [2, 2]
    assert ax.collections[0].colorbar.ax.get_ylabel() == "DC affinity"


def test_heatmap_without_groups_keeps_the_order_and_numbers_the_classes():
    assert tick_names(affinity_heatmap(AFFINITY)) == ["0", "1", "2", "3"]


def test_heatmaps_draw_where_they_are_told():
    figure, axes = plt.subplots(1, 2)
    assert affinity_heatmap(AFFINITY, GROUPS, ax=axes[0]) is axes[0]
    assert group_graph(AFFINITY, GROUPS.co, ax=axes[1]) is axes[1]
    assert plt.get_fignums() == [figure.number]


def test_every_class_is_named_on_both_axes_also_with_eighty():
    statistics = label_statistics("coco2014")
    affinity = cooccurrence_affinity(statistics.counts)
    ax = affinity_heatmap(affinity, class_names=statistics.class_names)
    assert tuple(tick_names(ax)) == statistics.class_names
    assert len(ax.get_xticklabels()) == 80


def test_graph_draws_the_strongest_edges_in_the_colours_of_their_groups():
    edges = drawn_edges(group_graph(AFFINITY, GROUPS.co, NAMES, n_edges=3))
    widths, colors = edges.get_linewidths(), edges.get_colors()[:, :3]
    assert len(widths) == 3
    assert (np.diff(widths) > 0).all()  # weakest first: fork-bus, car-bus, cup-fork
    np.testing.assert_allclose(colors[1:], [to_rgb(group_colors(2)[g]) for g in (1, 0)])
    assert colors[0].tolist() not in [list(to_rgb(color)) for color in group_colors(2)]


def test_graph_keeps_all_edges_as_strong_as_the_last_and_none_of_zero():
    equal = np.ones((4, 4)) - np.eye(4)
    assert len(drawn_edges(group_graph(equal, GROUPS.co, n_edges=1)).get_segments()) == 6
    assert len(drawn_edges(group_graph(AFFINITY, GROUPS.co)).get_segments()) == 4


def test_graph_without_edges_still_names_the_classes():
    ax = group_graph(np.zeros((4, 4)), GROUPS.co, NAMES)
    assert [text.get_text() for text in ax.texts] == ["cup", "fork", "car", "bus"]


@pytest.mark.parametrize("name", ["voc2007", "coco2014"])
def test_names_around_the_graph_do_not_overlap(name):
    statistics = label_statistics(name)
    n_classes = len(statistics.class_names)
    ax = group_graph(statistics.counts, np.arange(n_classes) % 5, statistics.class_names)
    ax.figure.canvas.draw()
    places = np.array([text.get_position() for text in ax.texts])
    pixels = ax.transData.transform(places)
    gaps = np.linalg.norm(pixels - np.roll(pixels, 1, axis=0), axis=1)
    heights = [text.get_fontsize() * ax.figure.dpi / 72 for text in ax.texts]
    assert len(ax.texts) == n_classes
    assert (gaps > heights).all()  # names point outwards: their feet are where they are closest


def test_style_changes_nothing_outside_its_block():
    before = dict(plt.rcParams)
    with style():
        assert plt.rcParams["savefig.bbox"] == "tight"
    affinity_heatmap(AFFINITY)
    assert dict(plt.rcParams) == before


def test_colours_of_views_groups_and_methods_are_distinct():
    assert CO_COLOR != DC_COLOR
    assert len(set(group_colors(8))) == 8
    assert len(set(group_colors(25))) == 25
    methods = ["ML-VPT", "VPT-deep", "VPT-shallow", "Linear probe", "Full fine-tuning", "E2VPT"]
    assert len({method_color(name) for name in [*methods, "GateVPT", "something else"]}) == 8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: affinity_heatmap(np.zeros((2, 3))), r"\(K, K\)"),
        (lambda: affinity_heatmap(AFFINITY, view="both"), '"co" or "dc"'),
        (lambda: affinity_heatmap(np.zeros((3, 3)), GROUPS), "do not fit 3 classes"),
        (lambda: affinity_heatmap(AFFINITY, class_names=["a"]), "1 class names"),
        (lambda: group_graph(AFFINITY, [0, 1]), "group number of each of 4"),
        (lambda: group_graph(AFFINITY, [0, 1, 0, -1]), "group number of each of 4"),
    ],
)
def test_unusable_input_is_refused_in_words(call, message):
    with pytest.raises(InputError, match=message):
        call()
