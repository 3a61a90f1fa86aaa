"""The figures of the first chapters: what they draw, and what they refuse."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mlvpt import group_labels, label_statistics
from mlvpt.datasets import load_scenes
from mlvpt.errors import InputError
from mlvpt.grouping import cooccurrence_counts
from mlvpt.plots import (
    class_frequencies,
    embedding_scatter,
    image_grid,
    method_map,
    partner_effect,
    reordered_affinity,
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


def test_partner_effect_puts_the_strongest_pair_of_the_first_panel_first():
    pairs = pd.DataFrame(
        {"partner": [0, 1], "label": [1, 0], "without": [0.1, 0.1], "with": [0.2, 0.4]}
    )
    figure = partner_effect({"one": pairs, "two": pairs[::-1]}, ["keyboard", "mouse"])
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rows == ["keyboard, seeing mouse", "mouse, seeing keyboard"]
    assert [ax.get_title() for ax in figure.axes] == ["one", "two"]
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()


def test_every_point_of_an_embedding_is_named_in_the_colour_of_its_group():
    ax = embedding_scatter(np.eye(3)[:, :2], [0, 0, 1], ["a", "b", "c"])
    assert texts(ax) == ["a", "b", "c"]
    first, second, third = (text.get_color() for text in ax.texts)
    assert first == second != third


def test_an_embedding_of_three_coordinates_is_refused():
    with pytest.raises(InputError, match=r"\(K, 2\)"):
        embedding_scatter(np.zeros((4, 3)), [0] * 4, list("abcd"))


def test_an_affinity_is_reordered_by_group_the_largest_first_on_one_scale():
    affinity = np.arange(9.0).reshape(3, 3) + np.arange(9.0).reshape(3, 3).T
    figure = reordered_affinity(affinity, {"one": ["b", "a", "a"], "two": ["a", "a", "a"]})
    one, two = figure.axes[:2]
    assert [label.get_text() for label in one.get_yticklabels()] == ["a", "b"]
    assert one.images[0].get_array()[0, 1] == affinity[1, 2]
    assert one.images[0].get_clim() == two.images[0].get_clim()


def test_group_names_that_do_not_fit_the_affinity_are_refused():
    with pytest.raises(InputError, match="2 group names do not fit 3 classes"):
        reordered_affinity(np.zeros((3, 3)), {"one": ["a", "b"]})


def test_method_map_shows_the_groups_and_the_most_probable_classes():
    scenes = load_scenes("train", n_images=200)
    counts = cooccurrence_counts(scenes.targets)
    groups = group_labels(counts=counts, n_groups=4, class_names=scenes.class_names)
    probabilities = np.linspace(0.05, 0.95, 10)
    figure = method_map(scenes.load_image(0), counts, groups, probabilities)
    written = texts(figure.axes[0])
    for members in groups.co_members:
        assert " ".join(scenes.class_names[k] for k in members) in written
    assert [text for text in written if text.endswith("%")] == ["95%", "85%", "75%", "65%", "55%"]


def test_method_map_marks_what_is_reported_and_not_there():
    scenes = load_scenes("train", n_images=200)
    groups = group_labels(scenes.targets, n_groups=4, class_names=scenes.class_names)
    figure = method_map(
        scenes.load_image(0),
        cooccurrence_counts(scenes.targets),
        groups,
        np.linspace(0.05, 0.95, 10),
        present=[0, 1],
    )
    written = texts(figure.axes[0])
    assert [text for text in written if text.endswith("%")] == ["95%", "85%", "75%", "15%", "5%"]
    assert written.count("not there") == 3
