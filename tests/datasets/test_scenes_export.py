"""Scenes written in the layouts of VOC and COCO, and read back by the loaders of real data."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from mlvpt.datasets import export_scenes, load_coco, load_scenes, load_voc
from mlvpt.datasets.scenes import SPLIT_SIZES
from mlvpt.errors import InputError

SIZES = dict.fromkeys(SPLIT_SIZES, 6)


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    return export_scenes(tmp_path_factory.mktemp("voc") / "new folder", "voc", n_images=6)


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return export_scenes(tmp_path_factory.mktemp("coco"), "coco", n_images=6)


@pytest.mark.parametrize("split", list(SIZES))
def test_voc_layout_loads_back_with_identical_targets_ids_and_pixels(voc, split):
    expected = load_scenes(split, SIZES[split])
    loaded = load_voc(voc, split)
    np.testing.assert_array_equal(loaded.targets, expected.targets)
    assert loaded.class_names == expected.class_names
    assert loaded.image_ids == expected.image_ids
    for index in range(len(expected)):
        np.testing.assert_array_equal(loaded.load_image(index), expected.load_image(index))


@pytest.mark.parametrize("split", list(SIZES))
def test_coco_layout_loads_back_with_identical_targets_ids_and_pixels(coco, split):
    expected = load_scenes(split, SIZES[split])
    loaded = load_coco(coco, split)
    np.testing.assert_array_equal(loaded.targets, expected.targets)
    assert loaded.class_names == expected.class_names
    assert loaded.image_ids == expected.image_ids
    for index in range(len(expected)):
        np.testing.assert_array_equal(loaded.load_image(index), expected.load_image(index))


def test_voc_trainval_is_train_then_val(voc):
    parts = [load_scenes(split, SIZES[split]).targets for split in ("train", "val")]
    np.testing.assert_array_equal(load_voc(voc, "trainval").targets, np.concatenate(parts))


def test_voc_boxes_count_from_one_and_include_both_ends(voc):
    base = voc / "VOCdevkit" / "VOC2007"
    dataset = load_scenes("test", SIZES["test"])
    objects = ElementTree.parse(base / "Annotations" / "test_000003.xml").findall("object")
    read = [
        (int(item.findtext("name")), *(int(edge.text) for edge in item.find("bndbox")))
        for item in objects
    ]
    assert read == [(k, x0 + 1, y0 + 1, x1, y1) for k, x0, y0, x1, y1 in dataset.boxes(3)]
    assert {item.findtext("difficult") for item in objects} == {"0"}


def test_coco_boxes_are_corner_width_and_height(coco):
    content = json.loads((coco / "annotations" / "instances_test2014.json").read_text())
    read = [
        (a["category_id"] - 1, *a["bbox"]) for a in content["annotations"] if a["image_id"] == 4
    ]
    boxes = load_scenes("test", SIZES["test"]).boxes(3)
    assert read == [(k, x0, y0, x1 - x0, y1 - y0) for k, x0, y0, x1, y1 in boxes]
    assert len({a["id"] for a in content["annotations"]}) == len(content["annotations"])


def test_pycocotools_reads_the_annotations(coco):
    pycocotools = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    api = pycocotools.COCO(str(coco / "annotations" / "instances_val2014.json"))
    assert len(api.getImgIds()) == SIZES["val"]


def test_exporting_again_with_the_same_settings_completes_what_is_missing(tmp_path):
    arguments = {"layout": "voc", "n_images": 3}
    root = export_scenes(tmp_path / "out", **arguments)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    lost = root / "VOCdevkit" / "VOC2007" / "JPEGImages" / "val_000001.png"
    lost.unlink()
    export_scenes(root, **arguments)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    export_scenes(tmp_path / "out", n_images=2)
    with pytest.raises(InputError, match="other settings"):
        export_scenes(tmp_path / "out", n_images=2, seed=1)


def test_a_folder_with_something_else_in_it_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not empty"):
        export_scenes(tmp_path, n_images=2)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layout": "yolo"}, "no layout 'yolo': use one of voc, coco"),
        ({"n_images": 0}, "n_images is 0"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        export_scenes(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="is a file"):
        export_scenes(tmp_path / "out", n_images=2)
