"""data_prep/clothing.py on a miniature in the layout of Clothing Co-Parsing."""

import csv
import importlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mlvpt.datasets import load_manifest

NAMES = ["null", "bag", "coat", "hair", "skin", "t-shirt", "tie"]
# photograph: label numbers; the first two have a map of pixels, the others tags
LABELS = {
    "0001": [0, 1, 2, 4],
    "0002": [0, 5],
    "0003": [1, 3],
    "0004": [6],
    "0005": [2, 5],
    "0006": [0],
}


@pytest.fixture
def clothing(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "data_prep"))
    module = importlib.import_module("clothing")
    monkeypatch.setattr(module, "MIN_IMAGES", 2)
    monkeypatch.setattr(module, "N_TEST", 2)
    known = {"train": {"images": 4, "image files missing": 0}, "test": {"images": 2}}
    monkeypatch.setattr(module, "KNOWN", known)
    return module


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "clothing-co-parsing"
    for name in ("photos", "annotations/pixel-level", "annotations/image-level"):
        (folder / name).mkdir(parents=True)
    savemat(folder / "label_list.mat", {"label_list": np.array([NAMES], dtype=object)})
    for number, (stem, labels) in enumerate(LABELS.items()):
        Image.new("RGB", (8, 12)).save(folder / f"photos/{stem}.jpg")
        if number < 2:
            pixels = np.resize(np.array(labels, np.uint8), (12, 8))
            savemat(folder / f"annotations/pixel-level/{stem}.mat", {"groundtruth": pixels})
        else:
            tags = np.array(labels, np.uint8)[:, None]  # (n, 1)
            savemat(folder / f"annotations/image-level/{stem}.mat", {"tags": tags})
    return tmp_path


def rows(root):
    with open(root / "clothing-co-parsing" / "labels.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_labels_come_from_pixels_and_tags_and_rare_ones_and_no_clothes_are_left_out(clothing, root):
    assert clothing.main(["--root", str(root)]) == 0
    assert {row["path"]: row["labels"] for row in rows(root)} == {
        "photos/0001.jpg": "bag;coat",
        "photos/0002.jpg": "t-shirt",
        "photos/0003.jpg": "bag",
        "photos/0004.jpg": "",
        "photos/0005.jpg": "coat;t-shirt",
        "photos/0006.jpg": "",
    }


def test_manifest_is_read_by_the_package_with_the_same_classes_in_both_splits(clothing, root):
    clothing.main(["--root", str(root)])
    path = root / "clothing-co-parsing" / "labels.csv"
    train, test = (load_manifest(path, split=split) for split in ("train", "test"))
    assert train.class_names == test.class_names
    assert list(train.class_names) == ["bag", "coat", "t-shirt"]
    assert (len(train), len(test)) == (4, 2)
    assert train[0][0].size == (8, 12)


def test_counts_are_compared_and_the_split_is_the_same_every_time(clothing, root, capsys):
    assert clothing.main(["--root", str(root)]) == 0
    assert "images: 4 (as published)" in capsys.readouterr().out
    first = rows(root)
    assert clothing.main(["--root", str(root)]) == 0
    assert rows(root) == first


def test_split_is_taken_from_another_manifest_if_asked(clothing, root):
    other = root / "other.csv"
    splits = ["val", "test", "train", "train", "train", "val"]
    lines = [f"elsewhere/{stem}.JPG,x,{s}" for stem, s in zip(LABELS, splits, strict=True)]
    other.write_text("\n".join(["path,labels,split", *lines]))
    assert clothing.main(["--root", str(root), "--split-from", str(other)]) == 0
    assert [row["split"] for row in rows(root)] == splits


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,split\nphotos/0001.jpg,train\n", "no split for 5 of 6 photographs, such as 0002"),
        ("path,labels\nphotos/0001.jpg,bag\n", "needs the columns path and split"),
    ],
)
def test_split_file_that_does_not_fit_is_explained(clothing, root, capsys, text, words):
    (root / "other.csv").write_text(text)
    assert clothing.main(["--root", str(root), "--split-from", str(root / "other.csv")]) == 1
    assert words in capsys.readouterr().err
    assert not (root / "clothing-co-parsing" / "labels.csv").exists()


def test_tags_that_are_names_are_taken_as_they_are(clothing, root):
    path = root / "clothing-co-parsing/annotations/image-level/0004.mat"
    savemat(path, {"tags": np.array([["coat"], ["bag"]], dtype=object)})
    clothing.main(["--root", str(root)])
    assert rows(root)[3]["labels"] == "bag;coat"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("annotations/image-level/0004.mat", {"tags": [[9]]}, "label number 9"),
        ("annotations/image-level/0004.mat", {"label": [[1]]}, "no variable tags"),
        ("annotations/image-level/0004.mat", b"damaged", "cannot be read"),
        ("annotations/image-level/0004.mat", None, "0004.jpg has no annotation"),
        ("label_list.mat", None, "label_list.mat is missing"),
    ],
)
def test_annotation_that_cannot_be_used_is_one_sentence(
    clothing, root, capsys, name, content, words
):
    path = root / "clothing-co-parsing" / name
    if content is None:
        path.unlink()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        savemat(path, content)
    assert clothing.main(["--root", str(root)]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_too_few_photographs_for_a_test_split_are_explained(clothing, root, monkeypatch, capsys):
    monkeypatch.setattr(clothing, "N_TEST", 600)
    assert clothing.main(["--root", str(root)]) == 1
    assert "6 photographs are too few" in capsys.readouterr().err
