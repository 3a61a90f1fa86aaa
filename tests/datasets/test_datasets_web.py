"""NUS-WIDE and Visual Genome: lists, missing images, class lists: one given, one of our own."""

import json

import numpy as np
import pytest
from layouts import NUSWIDE_CONCEPTS, make_nuswide, make_visual_genome

from mlvpt.datasets import load_nuswide, load_vg256, load_visual_genome
from mlvpt.datasets.visual_genome import is_test_image, vg256_name
from mlvpt.errors import InputError


@pytest.mark.parametrize("split", ["train", "test"])
def test_nuswide_targets_follow_its_lists(tmp_path, split):
    written = make_nuswide(tmp_path)
    dataset = load_nuswide(tmp_path, split)
    assert dataset.class_names == NUSWIDE_CONCEPTS
    np.testing.assert_array_equal(dataset.targets, written[split])
    assert dataset.image_ids[1].startswith("zoo/0001_")
    assert dataset[1][0].size == (40, 32)


def test_nuswide_flat_layout_is_found_as_well(tmp_path):
    written = make_nuswide(tmp_path, images=False)
    for file_name in ("TrainImagelist.txt", "TestImagelist.txt"):
        (tmp_path / "ImageList" / file_name).rename(tmp_path / file_name)
    (tmp_path / "ConceptsList" / "Concepts81.txt").rename(tmp_path / "Concepts81.txt")
    (tmp_path / "Groundtruth" / "TrainTestLabels").rename(tmp_path / "TrainTestLabels")
    dataset = load_nuswide(tmp_path, "train", missing="keep")
    np.testing.assert_array_equal(dataset.targets, written["train"])


def test_nuswide_missing_images_are_counted_named_and_left_out(tmp_path):
    written = make_nuswide(tmp_path)
    gone = load_nuswide(tmp_path, "train").image_ids[2:4]
    for name in gone:
        (tmp_path / "Flickr" / name).unlink()
    with pytest.warns(UserWarning, match=rf"2 of 12 .*{gone[0]}, {gone[1]}.*left out"):
        dataset = load_nuswide(tmp_path, "train")
    np.testing.assert_array_equal(dataset.targets, np.delete(written["train"], [2, 3], axis=0))


def test_nuswide_without_any_image_says_how_to_get_them(tmp_path):
    make_nuswide(tmp_path, images=False)
    with pytest.raises(InputError, match=r"12 of 12 .*data_prep/nuswide\.py"):
        load_nuswide(tmp_path, "train")
    assert len(load_nuswide(tmp_path, "train", missing="keep")) == 12


def test_nuswide_images_without_a_label_are_dropped_or_kept(tmp_path):
    make_nuswide(tmp_path, images=False)
    for path in (tmp_path / "Groundtruth/TrainTestLabels").glob("*_Test.txt"):
        path.write_text("0\n" + path.read_text().split("\n", 1)[1])
    assert len(load_nuswide(tmp_path, "test", missing="keep")) == 9
    assert len(load_nuswide(tmp_path, "test", missing="keep", empty="keep")) == 10


def test_nuswide_damaged_label_is_ignored_and_named(tmp_path):
    make_nuswide(tmp_path, images=False)
    path = tmp_path / "Groundtruth/TrainTestLabels/Labels_lake_Train.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], "-1130179", *lines[5:]]) + "\n")  # as in the release
    with pytest.warns(UserWarning, match=r"Labels_lake_Train\.txt.*line 5: '-1130179'"):
        dataset = load_nuswide(tmp_path, "train", missing="keep")
    column = dataset.targets[:, NUSWIDE_CONCEPTS.index("lake")]
    assert column[4] == -1
    assert (np.delete(column, 4) >= 0).all()


def test_nuswide_list_and_labels_of_different_lengths_are_refused(tmp_path):
    make_nuswide(tmp_path, images=False)
    path = tmp_path / "Groundtruth/TrainTestLabels/Labels_lake_Train.txt"
    path.write_text(path.read_text() + "1\n")
    with pytest.raises(InputError, match="13 labels but the image list has 12"):
        load_nuswide(tmp_path, "train", missing="keep")


def test_nuswide_missing_list_is_named(tmp_path):
    with pytest.raises(InputError, match=r"ConceptsList/Concepts81\.txt.*data_prep/nuswide\.py"):
        load_nuswide(tmp_path)


def test_visual_genome_takes_the_names_of_most_images(tmp_path):
    written = make_visual_genome(tmp_path, images=False)
    dataset = load_visual_genome(tmp_path, "all", n_classes=20, empty="keep")
    counts = dict(zip((f"name {k}" for k in range(300)), written.sum(axis=0), strict=True))
    expected = sorted(counts, key=lambda name: (-counts[name], name))[:20]
    assert dataset.class_names == sorted(expected)
    columns = [int(name.split()[1]) for name in dataset.class_names]
    np.testing.assert_array_equal(dataset.targets, written[:, columns])


def test_visual_genome_splits_share_classes_and_no_image(tmp_path):
    make_visual_genome(tmp_path, images=False)
    train, test = (load_visual_genome(tmp_path, split) for split in ("train", "test"))
    assert train.class_names == test.class_names
    assert len(train.class_names) == 256
    assert not set(train.image_ids) & set(test.image_ids)
    assert len(train) + len(test) == 40


def test_visual_genome_tests_on_a_tenth_of_its_images():
    assert np.mean([is_test_image(i) for i in range(1, 108_078)]) == pytest.approx(0.1, abs=0.001)


def test_visual_genome_images_are_found_in_both_folders(tmp_path):
    make_visual_genome(tmp_path, n_images=4)
    dataset = load_visual_genome(tmp_path, "all", n_classes=300)
    assert [dataset.image_path(i).parent.name for i in (0, 1)] == ["VG_100K", "VG_100K_2"]
    assert dataset[1][0].size == (40, 32)


def test_visual_genome_drops_or_keeps_images_without_a_class(tmp_path):
    make_visual_genome(tmp_path, images=False)
    kept = load_visual_genome(tmp_path, "all", n_classes=1, empty="keep")
    dropped = load_visual_genome(tmp_path, "all", n_classes=1)
    assert len(kept) == 40
    assert len(dropped) == kept.targets.sum()


@pytest.mark.parametrize("n_classes", [0, 301])
def test_visual_genome_refuses_more_classes_than_names(tmp_path, n_classes):
    make_visual_genome(tmp_path, images=False)
    with pytest.raises(InputError, match="1 to 300"):
        load_visual_genome(tmp_path, n_classes=n_classes)


def test_visual_genome_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"image_data\.json.*data_prep/visual_genome\.py"):
        load_visual_genome(tmp_path)
    make_visual_genome(tmp_path, images=False)
    (tmp_path / "objects.json").write_text(json.dumps([{"image_id": 1}])[:-3])
    with pytest.raises(InputError, match=r"objects\.json is not valid JSON"):
        load_visual_genome(tmp_path)


def write_genome(root, objects, classes):
    """{image id: names of its objects} and {class: synonyms} as the files of VG256."""
    listed = [
        {"image_id": i, "objects": [{"names": [name, "alias"]} for name in names] + [{"names": []}]}
        for i, names in objects.items()
    ]
    (root / "objects.json").write_text(json.dumps(listed))
    (root / "vg256.json").write_text(json.dumps(classes))


def test_vg256_takes_classes_and_synonyms_from_the_list_in_its_order(tmp_path):
    objects = {7: ["Man", "tall dogs."], 3: ["puppy"], 5: ["kite"], 4: ["dog", "two dogs"]}
    write_genome(tmp_path, objects, {"person": ["man", "men"], "dog": ["dog", "dogs", "puppy"]})
    dataset = load_vg256(tmp_path, "all")
    assert dataset.class_names == ["person", "dog"]
    assert dataset.image_ids == ["3", "4", "7"]  # sorted, and 5 has no class
    np.testing.assert_array_equal(dataset.targets, [[0, 1], [0, 1], [1, 1]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (" Small Brown  Dog. ", "dog"),
        ("baby dog", "baby dog"),
        ("small baby dog", "small baby dog"),
        ("Orange", "orange"),
        ("t  shirt", "t  shirt"),
        (" . ", ""),
    ],
)
def test_vg256_takes_colours_and_sizes_before_a_name_away_and_nothing_else(name, expected):
    assert vg256_name(name) == expected


def test_vg256_gives_a_name_that_two_classes_list_to_the_later_one(tmp_path):
    write_genome(
        tmp_path, {1: ["grass field"]}, {"grass": ["grass field"], "field": ["grass field"]}
    )
    np.testing.assert_array_equal(load_vg256(tmp_path, "all").targets, [[0, 1]])


def test_vg256_tests_on_the_last_three_tenths_of_the_published_permutation(tmp_path):
    objects = {i: ["dog"] for i in range(30, 10, -1)} | {1: ["nothing of the list"]}
    write_genome(tmp_path, objects, {"dog": ["dog"]})
    train, test = (load_vg256(tmp_path, split) for split in ("train", "test"))
    order = np.random.RandomState(1).permutation(20)
    assert test.image_ids == [str(11 + i) for i in sorted(order[14:])]
    assert train.image_ids == [str(11 + i) for i in sorted(order[:14])]


def test_vg256_finds_its_images_in_both_folders(tmp_path):
    make_visual_genome(tmp_path, n_images=4)
    dataset = load_vg256(tmp_path, "all")
    assert [dataset.image_path(i).parent.name for i in (0, 1)] == ["VG_100K", "VG_100K_2"]


def test_vg256_without_its_class_list_says_where_to_find_it_and_what_to_take_instead(tmp_path):
    make_visual_genome(tmp_path, images=False)
    (tmp_path / "vg256.json").unlink()
    with pytest.raises(InputError, match=r"MLC-PAT.*/vg256\.json,.*visual_genome") as refused:
        load_vg256(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no valid JSON"),
        ("[]", "must be a mapping"),
        ('{"dog": "dog"}', "dog must be a list, not 'dog'"),
        ('{"dog": ["doggerel"]}', "no image"),
    ],
)
def test_vg256_refuses_a_class_list_that_is_none(tmp_path, text, message):
    make_visual_genome(tmp_path, images=False)
    (tmp_path / "vg256.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_vg256(tmp_path)


@pytest.mark.parametrize("load", [load_nuswide, load_visual_genome])
@pytest.mark.parametrize("option", [{"split": "val"}, {"empty": "yes"}])
def test_unknown_option_is_refused(tmp_path, load, option):
    with pytest.raises(InputError, match=next(iter(option))):
        load(tmp_path, **option)
