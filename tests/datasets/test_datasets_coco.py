"""COCO instances JSON: labels, empty images, damaged files."""

import json

import numpy as np
import pytest
from layouts import COCO_IDS, make_coco, save_image

from mlvpt.datasets import export, load_coco, load_coco_json, load_scenes
from mlvpt.datasets.coco import _read_json
from mlvpt.errors import InputError


@pytest.mark.parametrize("year", [2014, 2017])
@pytest.mark.parametrize("split", ["train", "val"])
def test_targets_say_which_classes_an_image_has(tmp_path, year, split):
    written = make_coco(tmp_path, year, images=False)
    dataset = load_coco(tmp_path, split, year)
    np.testing.assert_array_equal(dataset.targets, written[split])
    assert dataset.class_names == [f"thing {i}" for i in COCO_IDS]  # by category id


def test_empty_images_are_dropped_or_kept_as_asked(tmp_path):
    make_coco(tmp_path, sizes={"train": 5}, n_empty=2, images=False)
    assert len(load_coco(tmp_path)) == 5
    kept = load_coco(tmp_path, empty="keep")
    assert len(kept) == 7
    assert not kept.targets[5:].any()


@pytest.mark.parametrize("folder", ["val2014", "images/val2014"])
def test_images_are_found_in_either_folder(tmp_path, folder):
    make_coco(tmp_path, sizes={"val": 3})
    if folder != "val2014":
        (tmp_path / "images").mkdir()
        (tmp_path / "val2014").rename(tmp_path / folder)
    dataset = load_coco(tmp_path, "val")
    assert dataset.image_path(1) == tmp_path / folder / "COCO_val2014_000000000002.jpg"
    assert dataset[1][0].size == (40, 32)


def test_labels_load_without_images_and_opening_one_names_its_place(tmp_path):
    make_coco(tmp_path, images=False)
    dataset = load_coco(tmp_path)
    with pytest.raises(InputError, match=r"train2014/COCO_train2014_000000000001\.jpg"):
        dataset[0]


def test_missing_annotations_are_named_with_the_script_that_makes_them(tmp_path):
    with pytest.raises(InputError, match=r"instances_val2014\.json.*data_prep/coco2014\.py"):
        load_coco(tmp_path, "val")


def test_leaving_out_outlines_changes_nothing_else(tmp_path):
    content = {
        "annotations": [
            {"id": 1, "segmentation": [[1.5, -2e-3], [3, 4]], "bbox": [1, 2, 3, 4]},
            {"segmentation": {"counts": [1, 2], "size": [3, 4]}, "id": 2},
            {"id": 3, "segmentation": []},
            {"id": 4, "segmentation": {"counts": "P`k1", "size": [3, 4]}},
        ],
        "images": [{"file_name": 'a "segmentation": [1] b.jpg'}],
    }
    path = tmp_path / "a.json"
    for indent in (None, 2):
        path.write_text(json.dumps(content, indent=indent))
        read = _read_json(path)
        assert [a["id"] for a in read["annotations"]] == [1, 2, 3, 4]
        assert read["annotations"][0]["bbox"] == [1, 2, 3, 4]
        assert read["annotations"][1]["segmentation"]["size"] == [3, 4]
        assert read["images"] == content["images"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("categories"), "categories"),
        (lambda c: c["annotations"][0].pop("image_id"), "image_id"),
        (lambda c: c["annotations"][0].update(image_id=999), "999"),
        (lambda c: c["annotations"][0].update(category_id=12), "12"),
        (lambda c: c["images"].append(c["images"][0]), "two images with one id"),
    ],
)
def test_damaged_annotations_are_explained(tmp_path, change, message):
    make_coco(tmp_path, images=False)
    path = tmp_path / "annotations/instances_train2014.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"instances_train2014\.json.*{message}"):
        load_coco(tmp_path)


def test_cut_off_json_is_explained(tmp_path):
    make_coco(tmp_path, images=False)
    path = tmp_path / "annotations/instances_train2014.json"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="not valid JSON"):
        load_coco(tmp_path)


def test_own_annotations_load_with_their_own_classes(tmp_path):
    save_image(tmp_path / "my pictures" / "Äpfel 1.JPG")
    content = {
        "images": [{"id": 7, "file_name": "Äpfel 1.JPG"}],
        "categories": [{"id": 2, "name": "pear"}, {"id": 1, "name": "apple"}],
        "annotations": [{"image_id": 7, "category_id": 1}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(content), encoding="utf-8")
    dataset = load_coco_json(tmp_path / "labels.json", tmp_path / "my pictures")
    assert dataset.class_names == ["apple", "pear"]
    assert dataset.targets.tolist() == [[1, 0]]
    assert dataset[0][0].size == (40, 32)


def test_exported_scenes_load_back_identical(tmp_path):
    export.export_scenes(tmp_path, "coco", n_images=12)
    for split in ("train", "val"):
        scenes, dataset = load_scenes(split, n_images=12), load_coco(tmp_path, split)
        assert dataset.class_names == scenes.class_names
        assert dataset.image_ids == scenes.image_ids
        np.testing.assert_array_equal(dataset.targets, scenes.targets)
        np.testing.assert_array_equal(dataset.load_image(5), scenes.load_image(5))
