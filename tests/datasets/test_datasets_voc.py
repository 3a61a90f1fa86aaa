"""VOC: miniature devkits, and the real VOC2007 label files where they are at hand."""

import csv
from pathlib import Path

import numpy as np
import pytest
from layouts import VOC_CLASSES, make_voc

from mlvpt.datasets import export, load_scenes, load_voc
from mlvpt.errors import InputError

REPOSITORY = Path(__file__).parents[2]
REAL = REPOSITORY.parent / "shared" / "data" / "voc2007"
COUNTS = REPOSITORY / "mlvpt" / "data" / "voc2007_trainval_cooccurrence.csv"
needs_real = pytest.mark.skipif(not REAL.exists(), reason="no real VOC2007 label files here")


def expected(labels: np.ndarray, difficult: int) -> np.ndarray:
    return np.where(labels == 1, 1, np.where(labels == 0, difficult, 0))


def without_label_files(root: Path) -> None:
    for path in (root / "VOCdevkit/VOC2007/ImageSets/Main").glob("*_*.txt"):
        if path.stem != "test_shifted":  # a split
            path.unlink()


@pytest.fixture
def real_root(tmp_path: Path) -> Path:
    (tmp_path / "VOCdevkit").mkdir()
    (tmp_path / "VOCdevkit" / "VOC2007").symlink_to(REAL, target_is_directory=True)
    return tmp_path


@pytest.mark.parametrize("split", ["train", "val", "trainval", "test"])
@pytest.mark.parametrize("label_files", [True, False])
def test_label_files_and_annotations_give_the_same_targets(tmp_path, split, label_files):
    written = make_voc(tmp_path, label_files=label_files, images=False)
    dataset = load_voc(tmp_path, split)
    assert dataset.class_names == VOC_CLASSES
    np.testing.assert_array_equal(dataset.targets, expected(written[split], -1))


def test_difficult_negative_turns_every_ignored_label_into_0(tmp_path):
    written = make_voc(tmp_path, images=False)
    assert (written["test"] == 0).any()
    dataset = load_voc(tmp_path, "test", difficult="negative")
    np.testing.assert_array_equal(dataset.targets, expected(written["test"], 0))


def test_annotations_are_read_when_there_are_no_label_files(tmp_path):
    written = make_voc(tmp_path, year=2012, label_files=False, images=False)
    dataset = load_voc(tmp_path, "val", year=2012)
    np.testing.assert_array_equal(dataset.targets, expected(written["val"], -1))


def test_other_class_names_are_taken_from_the_files(tmp_path):
    names = ["a class", "dog_test", "train"]  # names that look like a set, or like two words
    make_voc(tmp_path, class_names=names, images=False)
    assert load_voc(tmp_path, "test").class_names == names
    without_label_files(tmp_path)
    assert load_voc(tmp_path, "test").class_names == names


def test_train_and_val_are_read_from_trainval_when_only_that_has_labels(tmp_path):
    written = make_voc(tmp_path, images=False)
    for name in VOC_CLASSES:
        for split in ("train", "val"):
            (tmp_path / f"VOCdevkit/VOC2007/ImageSets/Main/{name}_{split}.txt").unlink()
    for path in (tmp_path / "VOCdevkit/VOC2007/Annotations").glob("*.xml"):
        path.unlink()
    dataset = load_voc(tmp_path, "val")
    np.testing.assert_array_equal(dataset.targets, expected(written["val"], -1))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".JPG"])
def test_image_is_found_by_its_id(tmp_path, suffix):
    make_voc(tmp_path, suffix=suffix)
    dataset = load_voc(tmp_path, "train")
    assert dataset.image_path(3).name == f"{dataset.image_ids[3]}{suffix}"
    assert dataset[3][0].size == (40, 32)


def test_labels_load_without_images_and_opening_one_names_its_place(tmp_path):
    make_voc(tmp_path, images=False)
    dataset = load_voc(tmp_path, "train")
    place = tmp_path / "VOCdevkit/VOC2007/JPEGImages" / f"{dataset.image_ids[0]}.jpg"
    with pytest.raises(InputError, match=str(place)):
        dataset[0]


def test_missing_root_is_named_with_the_script_that_makes_it(tmp_path):
    with pytest.raises(InputError, match=r"VOCdevkit/VOC2012.*python data_prep/voc2012\.py"):
        load_voc(tmp_path, "train", year=2012)


def test_root_that_is_vocdevkit_itself_is_explained(tmp_path):
    make_voc(tmp_path, images=False)
    with pytest.raises(InputError, match="give the folder that holds it"):
        load_voc(tmp_path / "VOCdevkit")


@pytest.mark.parametrize("listed", [False, True])
def test_voc2012_test_says_that_its_labels_are_not_public(tmp_path, listed):
    make_voc(tmp_path, year=2012, sizes={"train": 3, "val": 3}, images=False)
    if listed:
        (tmp_path / "VOCdevkit/VOC2012/ImageSets/Main/test.txt").write_text("2008_000001\n")
    with pytest.raises(InputError, match="not public"):
        load_voc(tmp_path, "test", year=2012)


def test_unknown_split_is_named(tmp_path):
    make_voc(tmp_path, images=False)
    with pytest.raises(InputError, match=r"testing\.txt"):
        load_voc(tmp_path, "testing")


def test_lost_label_file_is_named_and_not_taken_for_a_smaller_data_set(tmp_path):
    make_voc(tmp_path, images=False)
    (tmp_path / "VOCdevkit/VOC2007/ImageSets/Main/dog_test.txt").unlink()
    with pytest.raises(InputError, match=r"dog_test\.txt is missing"):
        load_voc(tmp_path, "test")


@pytest.mark.parametrize("line", ["000001", "000001 2", "000001 yes"])
def test_damaged_line_is_named(tmp_path, line):
    make_voc(tmp_path, images=False)
    path = tmp_path / "VOCdevkit/VOC2007/ImageSets/Main/cat_train.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[3:]]))
    with pytest.raises(InputError, match=r"cat_train\.txt, line 3"):
        load_voc(tmp_path, "train")


def test_label_file_that_lacks_an_image_is_named(tmp_path):
    make_voc(tmp_path, images=False)
    path = tmp_path / "VOCdevkit/VOC2007/ImageSets/Main/cat_train.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(InputError, match=r"cat_train\.txt has no label for image 000000"):
        load_voc(tmp_path, "train")


def test_damaged_annotation_is_named(tmp_path):
    make_voc(tmp_path, label_files=False, images=False)
    path = tmp_path / "VOCdevkit/VOC2007/Annotations/000001.xml"
    path.write_text(path.read_text()[:40])
    with pytest.raises(InputError, match=r"000001\.xml is not valid XML"):
        load_voc(tmp_path, "train")


def test_unknown_option_is_refused(tmp_path):
    with pytest.raises(InputError, match="difficult"):
        load_voc(tmp_path, difficult="drop")


@pytest.mark.parametrize("label_files", [True, False])
def test_exported_scenes_load_back_identical(tmp_path, label_files):
    export.export_scenes(tmp_path, "voc", n_images=12)
    if not label_files:
        without_label_files(tmp_path)
    for split in ("train", "test_shifted"):
        scenes = load_scenes(split, n_images=12)
        dataset = load_voc(tmp_path, split)
        assert dataset.class_names == scenes.class_names
        assert dataset.image_ids == scenes.image_ids
        np.testing.assert_array_equal(dataset.targets, scenes.targets)
        np.testing.assert_array_equal(dataset.load_image(5), scenes.load_image(5))


@needs_real
@pytest.mark.parametrize(
    ("split", "n_images", "n_difficult", "n_images_with_difficult"),
    [("trainval", 5011, 607, 545), ("test", 4952, 619, 551)],
)
def test_real_voc2007_has_its_published_counts(
    real_root, split, n_images, n_difficult, n_images_with_difficult
):
    targets = load_voc(real_root, split).targets
    assert targets.shape == (n_images, 20)
    assert (targets == -1).sum() == n_difficult  # (image, class) pairs
    assert (targets == -1).any(axis=1).sum() == n_images_with_difficult
    assert (targets == 1).any(axis=1).all()  # so dropping images without a label drops none


@needs_real
def test_real_voc2007_halves_make_up_trainval(real_root):
    train, val, both = (load_voc(real_root, split) for split in ("train", "val", "trainval"))
    assert (len(train), len(val)) == (2501, 2510)
    assert sorted(train.image_ids + val.image_ids) == sorted(both.image_ids)
    assert (train.targets == 1).sum() + (val.targets == 1).sum() == (both.targets == 1).sum()


@needs_real
@pytest.mark.skipif(not COUNTS.exists(), reason="no shipped co-occurrence counts")
def test_real_voc2007_reproduces_the_shipped_cooccurrence_counts(real_root):
    dataset = load_voc(real_root, "trainval")
    positive = (dataset.targets == 1).astype(np.int64)
    rows = [row for row in csv.reader(COUNTS.open()) if row and not row[0].startswith("#")]
    names, shipped = rows[0][1:], np.array([row[1:] for row in rows[1:]], np.int64)
    assert dataset.class_names == names
    np.testing.assert_array_equal(positive.T @ positive, shipped)
