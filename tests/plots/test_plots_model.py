"""Figures of prompts, attention, gates and strength: what is drawn, and the counts behind them."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch.utils.flop_counter import FlopCounterMode

from mlvpt.errors import InputError
from mlvpt.labels import LabelGroups
from mlvpt.plots import (
    CO_COLOR,
    DC_COLOR,
    attention_grid,
    gate_heatmap,
    label_attention_grid,
    prefix_figure,
    prompting_cost,
    strength_curves,
)
from mlvpt.plots.predictions import prediction_figure
from mlvpt.plots.prefix import COLORS
from mlvpt.prompts import PromptedViT

NAMES = ["cup", "car", "fork", "bus"]
GROUPS = LabelGroups([0, 1, 0, 1], [0, 0, 1, 1], 2, NAMES)
PICTURE = Image.new("RGB", (48, 32), "grey")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def maps(views=2, groups=2):
    return np.random.default_rng(0).random((views, groups, 4, 6))


def heat_of(ax):
    return np.asarray(ax.images[0].get_array())  # the picture lies over it


def pictures(figure):
    return [ax for ax in figure.axes if ax.images]


@pytest.mark.parametrize(
    ("batch", "prompts", "width", "depth", "size"),
    [(2, 5, 24, 3, 32), (1, 1, 12, 1, 16), (3, 8, 24, 2, 24)],
)
def test_the_cost_is_what_pytorch_counts(batch, prompts, width, depth, size):
    vit = VisionTransformer(
        img_size=size, patch_size=8, embed_dim=width, depth=depth, num_heads=2, num_classes=0
    )
    model, images = PromptedViT(vit, prompts), torch.zeros(batch, 3, size, size)
    n_patches = (size // 8) ** 2
    cost = prompting_cost(batch, 1 + n_patches, prompts, width, depth)
    forms = {"plain": model.forward_plain, "prefix": model.forward, "no prompts": vit}
    for form, forward in forms.items():
        with FlopCounterMode(display=False) as counter:
            forward(images)
        embedding = batch * n_patches * 3 * 64 * width
        assert sum(cost[form].values()) == counter.get_total_flops() // 2 - embedding


def test_prompts_cost_nothing_where_there_are_none():
    cost = prompting_cost(4, 10, 0, 8, 3)
    assert cost["plain"] == cost["no prompts"]
    assert cost["prefix"]["prompts"] == 0


def test_the_prefix_figure_shows_what_is_left_out_for_prompts_and_in_the_last_block():
    boxes = {}
    for ax in prefix_figure().axes:
        patches = [p for p in ax.patches if isinstance(p, FancyBboxPatch)]
        boxes[ax.get_title().replace("\n", " ")] = [to_hex(p.get_facecolor()) for p in patches]
    never, once = to_hex(COLORS["never"]), to_hex(COLORS["once"])
    assert set(boxes["plain form, every block"]) == {to_hex(COLORS["image"])}
    assert boxes["prefix form, blocks 1 to L − 1"].count(never) == 4
    assert boxes["prefix form, blocks 1 to L − 1"].count(once) == 3
    assert boxes["prefix form, block L"].count(never) == 4


def test_the_prefix_figure_writes_the_cost_beside_each_bar():
    figure = prefix_figure()
    texts = [text.get_text().strip() for text in figure.axes[-1].texts]
    assert texts[-3:] == ["20.2 billion, 100%", "16.5 billion, 82%", "17.4 billion, 86%"]


def test_every_group_has_a_map_titled_with_its_classes():
    figure = attention_grid(PICTURE, maps(), GROUPS)
    titles = [ax.get_title() for ax in pictures(figure)]
    assert titles[1:3] == ["CO 0: cup, fork", "CO 1: car, bus"]
    assert titles[3:5] == ["DC 0: cup, car", "DC 1: fork, bus"]


def test_attention_maps_are_drawn_as_given_and_on_one_scale():
    attention = maps()
    axes = pictures(attention_grid(PICTURE, attention, GROUPS))
    np.testing.assert_array_equal(heat_of(axes[2]), attention[0, 1])
    np.testing.assert_array_equal(heat_of(axes[3]), attention[1, 0])
    shown = [ax.images[0] for ax in axes[1:]]
    assert {image.get_clim() for image in shown} == {(0, attention.max())}
    assert {tuple(image.get_extent()) for image in shown} == {(-0.5, 47.5, 31.5, -0.5)}


def draw_for_prediction(attention):
    labels = {"cup": 0.9, "bus": 0.6}
    return prediction_figure(PICTURE, labels, class_names=NAMES, groups=GROUPS, attention=attention)


@pytest.mark.parametrize(
    "draw", [lambda maps: attention_grid(PICTURE, maps, GROUPS), draw_for_prediction]
)
def test_a_group_that_looks_nowhere_has_no_colour(draw):
    attention = maps()
    attention[1, 0] = 0
    drawn = [ax.images[0] for ax in pictures(draw(attention)) if len(ax.images) == 2]
    colors = [image.cmap(image.norm(image.get_array()))[..., :3] for image in drawn]
    colorful = [np.ptp(color, axis=-1).max() for color in colors]
    assert colorful[2] == 0
    assert min(colorful[0], colorful[1], colorful[3]) > 0.5


def test_the_picture_stays_visible_where_attention_is_strongest():
    picture = Image.new("L", (48, 32))
    picture.paste(255, (0, 0, 24, 32))
    figure = attention_grid(picture.convert("RGB"), np.ones((2, 2, 4, 6)), GROUPS)
    figure.canvas.draw()
    ax = pictures(figure)[1]
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    box = ax.get_window_extent()
    y = pixels.shape[0] - int((box.y0 + box.y1) / 2)
    left, right = (pixels[y, int(box.x0 + share * box.width)].sum() for share in (0.25, 0.75))
    assert left > 2 * right


def test_maps_of_a_prediction_are_drawn_as_given_and_on_one_scale():
    attention = maps()
    figure = draw_for_prediction(attention)
    drawn = [ax.images[0] for ax in pictures(figure) if len(ax.images) == 2]
    np.testing.assert_array_equal(drawn[1].get_array(), attention[0, 1])
    assert {image.get_clim() for image in drawn} == {(0, attention.max())}
    assert "attention on a patch" in [ax.get_xlabel() for ax in figure.axes]


def test_prediction_without_groups_has_no_maps():
    figure = prediction_figure(PICTURE, {}, class_names=NAMES)
    assert len(figure.axes) == 2


def test_groups_with_a_class_in_the_picture_stand_out():
    axes = pictures(attention_grid(PICTURE, maps(), GROUPS, present=[2]))
    colors = [ax.title.get_color() for ax in axes]
    assert axes[0].get_title() == "fork"
    assert (colors[1], colors[4]) == (CO_COLOR, DC_COLOR)
    assert colors[2] == colors[3] == "#595959"


def test_long_groups_are_shortened_and_say_by_how_much():
    many = LabelGroups([0] * 9, [0] * 9, 1, [f"class{k}" for k in range(9)])
    axes = pictures(attention_grid(PICTURE, maps(2, 1), many))
    assert axes[1].get_title() == "CO 0: class0 +8"


def test_attention_of_a_single_view_needs_its_name():
    assert len(pictures(attention_grid(PICTURE, maps(1), GROUPS, views=["dc"]))) == 3
    with pytest.raises(InputError, match="does not fit 2 views of 2 groups"):
        attention_grid(PICTURE, maps(1), GROUPS)


def test_label_maps_are_framed_where_the_class_is():
    attention = maps(2, 3)
    boxes = [(0, 0, 8, 8), (10, 4, 20, 30), (40, 0, 48, 32)]
    axes = pictures(label_attention_grid(PICTURE, attention, ["a", "b", "c"], boxes))
    (frame,) = [p for p in axes[1].patches if isinstance(p, Rectangle)]
    assert (*frame.get_xy(), frame.get_width(), frame.get_height()) == (9.5, 3.5, 10, 26)
    np.testing.assert_array_equal(heat_of(axes[5]), attention[1, 2])


def test_label_maps_that_do_not_fit_their_titles_are_refused():
    with pytest.raises(InputError, match="3 titles"):
        label_attention_grid(PICTURE, maps(2, 2), ["a", "b", "c"])


def test_gates_move_with_their_class_into_the_order_of_the_groups():
    gates = np.random.default_rng(0).dirichlet(np.ones(3), size=4)
    ax = gate_heatmap(gates, GROUPS, "co")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cup", "fork", "car", "bus"]
    drawn = np.asarray(ax.collections[0].get_array()).reshape(4, 3)
    np.testing.assert_array_equal(drawn, gates[[0, 2, 1, 3]])
    assert ax.collections[0].get_clim() == (0, 1)


def test_gates_of_a_batch_are_averaged():
    gates = np.random.default_rng(0).dirichlet(np.ones(3), size=(5, 4))
    drawn = gate_heatmap(torch.tensor(gates), GROUPS, "dc").collections[0].get_array()
    np.testing.assert_allclose(np.asarray(drawn).reshape(4, 3), gates.mean(0))


@pytest.mark.parametrize(
    ("shape", "view", "message"),
    [((3, 2), "co", "do not fit 4 classes"), ((4, 2), "mean", 'must be "co" or "dc"')],
)
def test_gates_that_cannot_be_drawn_are_refused(shape, view, message):
    with pytest.raises(InputError, match=message):
        gate_heatmap(np.full(shape, 0.5), GROUPS, view)


RECORDS = [
    {"variant": "mlvpt, 0", "seed": 0, "drop": 0.1, "induced": None},
    {"variant": "mlvpt, 1", "seed": 0, "drop": 0.2, "induced": 0.1},
    {"variant": "mlvpt, 1", "seed": 1, "drop": 0.4, "induced": 0.2},
    {"variant": "other, 1", "seed": 0, "drop": 0.9, "induced": 0.9},
]


def test_strength_curves_show_means_over_seeds_in_percent():
    ax = strength_curves(RECORDS, "drop", "drop", {"mlvpt": "ML-VPT"})
    (line,) = ax.lines
    strengths, values = (np.asarray(data, dtype=float) for data in line.get_data())
    np.testing.assert_allclose(strengths, [0, 1])
    np.testing.assert_allclose(values, [10, 30])
    assert ax.get_ylabel() == "drop (%)"
    assert [text.get_text() for text in ax.texts] == ["ML-VPT"]


def test_names_of_lines_that_end_together_stand_apart():
    records = [
        {"variant": f"{name}, {s}", "seed": 0, "drop": 0.1 * (s + shift)}
        for name, shift in (("mlvpt", 0), ("vpt_deep", 1e-4))
        for s in (0, 1)
    ]
    ax = strength_curves(records, "drop", "drop", {"mlvpt": "ML-VPT", "vpt_deep": "VPT-deep"})
    ax.figure.canvas.draw()
    low, high = (text.get_window_extent() for text in ax.texts)
    assert low.y1 <= high.y0 + 1


def test_strengths_where_a_measure_does_not_exist_are_left_out():
    ax = strength_curves(RECORDS, "induced", "induced", {"mlvpt": "ML-VPT"})
    assert list(ax.get_xticks()) == [1]


def test_a_measure_that_no_record_has_is_refused():
    with pytest.raises(InputError, match="'height'"):
        strength_curves(RECORDS, "height", "height", {"mlvpt": "ML-VPT"})
