"""CSV manifests: both forms, odd file names, and an error that names the line."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from layouts import make_manifest, save_image
from PIL import Image

from mlvpt.datasets import load_manifest
from mlvpt.datasets.manifest import load_manifest_splits
from mlvpt.errors import InputError


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "labels.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_labels_column_and_class_columns_give_the_same_targets(tmp_path):
    one = load_manifest(write(tmp_path, "path,labels\na.jpg,cat; sofa\nb.jpg,dog\nc.jpg,\n"))
    two = load_manifest(
        write(tmp_path, "path,cat,dog,sofa\na.jpg,1,0,1\nb.jpg,0,1,0\nc.jpg,0,0,0\n")
    )
    assert one.class_names == two.class_names == ["cat", "dog", "sofa"]
    assert one.targets.tolist() == two.targets.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert one.image_ids == two.image_ids == ["a.jpg", "b.jpg", "c.jpg"]


def test_a_generated_folder_opens(tmp_path):
    dataset = load_manifest(make_manifest(tmp_path / "my data", n_images=5))
    assert [dataset[i][0].size for i in range(5)] == [(40, 32)] * 5


@pytest.mark.parametrize(("blank", "value"), [("ignore", -1), ("absent", 0)])
def test_blank_cell_means_what_is_asked(tmp_path, blank, value):
    path = write(tmp_path, "path,cat,dog\na.jpg,1,\nb.jpg,-1,1\n")
    assert load_manifest(path, blank=blank).targets.tolist() == [[1, value], [-1, 1]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_spreadsheet_dialects_are_read(tmp_path, delimiter, encoding, newline):
    rows = [["path", "labels"], ["fünf.jpg", '"é;b"'], ["c d.jpg", "b"], ["", ""]]
    path = write(tmp_path, newline.join(delimiter.join(row) for row in rows), encoding)
    dataset = load_manifest(path)
    assert dataset.image_ids == ["fünf.jpg", "c d.jpg"]
    assert dataset.class_names == ["b", "é"]


def test_splits_have_the_columns_of_the_whole_file(tmp_path):
    path = write(tmp_path, "path,split,labels\na.jpg,train,cat\nb.jpg,test,dog\n")
    train, test = (load_manifest(path, split=split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ["cat", "dog"]
    assert train.image_ids == ["a.jpg"]
    assert test.targets.tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("on_disk", "written"),
    [
        ("Über den Wölken/ça 1.JPG", "Über den Wölken/ça 1.JPG"),
        ("日本語 (1).png", "日本語 (1).png"),
        (unicodedata.normalize("NFD", "fünf.jpg"), unicodedata.normalize("NFC", "fünf.jpg")),
        (unicodedata.normalize("NFC", "fünf.jpg"), unicodedata.normalize("NFD", "fünf.jpg")),
        ("DSC_1.JPG", "DSC_1.jpg"),
        ("a/b.png", "a\\b.png"),
    ],
)
def test_odd_file_names_are_found(tmp_path, on_disk, written):
    save_image(tmp_path / "pictures" / on_disk)
    path = write(tmp_path, f"path,labels\n{written},cat\n")
    dataset = load_manifest(path, image_root=tmp_path / "pictures")
    assert dataset[0][0].size == (40, 32)


def test_absolute_paths_need_no_root(tmp_path):
    image = save_image(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "lists").mkdir()
    path = write(tmp_path / "lists", f"path,labels\n{image},cat\n")
    assert load_manifest(path).image_path(0) == image


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", ".jpg"), ("CMYK", ".jpg"), ("P", ".png"), ("1", ".png")]
)
def test_other_colour_modes_become_rgb(tmp_path, mode, suffix):
    saved(tmp_path / f"a{suffix}", Image.new("RGB", (8, 6), "white").convert(mode))
    image, _ = load_manifest(write(tmp_path, f"path,labels\na{suffix},cat\n"))[0]
    assert (image.mode, image.size) == ("RGB", (8, 6))
    assert np.asarray(image).min() >= 250


def test_exif_rotation_is_applied(tmp_path):
    picture = Image.new("RGB", (8, 6), "white")
    exif = picture.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    saved(tmp_path / "a.jpg", picture, exif=exif)
    image, _ = load_manifest(write(tmp_path, "path,labels\na.jpg,cat\n"))[0]
    assert image.size == (6, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs a column path"),
        ("image,labels\na.jpg,cat\n", "needs a column path.*image,labels"),
        ("path\na.jpg\n", "needs a column path"),
        ("path,labels\n", "no rows"),
        ("path,labels,cat\na.jpg,cat,1\n", "column labels and others.*cat"),
        ("path,cat,cat\na.jpg,1,1\n", "two columns called 'cat'"),
        ("path,labels\na.jpg,cat\n\na.jpg,dog\n", "lines 2 and 4 are the same image 'a.jpg'"),
        ("path,labels\na.jpg,cat,dog\n", "line 2: 3 cells where the header has 2"),
        ("path,labels\na.jpg\n", "line 2: 1 cells"),
        ("path,labels\n,cat\n", "line 2: the path is empty"),
        ("path,cat\na.jpg,1\nb.jpg,yes\n", "line 3: column 'cat' holds 'yes'"),
        ("path,cat\na.jpg,2\n", "line 2: column 'cat' holds '2'"),
        ("path,labels\na.jpg,\n", "gives no image a label"),
        ("path,cat,\na.jpg,1,0\n", "line 1: column 3 of 3 has no name"),
        ("path,,cat\na.jpg,1,0\n", "line 1: column 2 of 3 has no name"),
        ("path,cat,,\na.jpg,1,,\n", "line 1: column 3 of 4 has no name"),
        ('path,cat," "\na.jpg,1,0\n', "line 1: column 3 of 3 has no name"),
        ('path,labels\na.jpg,"0,1,2"\nb.jpg,1\n', "line 2: '0,1,2' would be one class"),
        ("path,labels\na.jpg,0|1\nb.jpg,1\n", "line 2: '0|1' would be one class"),
        ("path,labels\na.jpg,0 1 2\nb.jpg,1\n", "line 2: '0 1 2' would be one class"),
        ("path\tlabels\na.jpg\tcat,dog\n", "line 2: 'cat,dog' would be one class"),
        ('path,labels\na.jpg,cat;dog\nb.jpg,"cat,dog"\n', "line 3: 'cat,dog' would be one"),
        ("path,labels\na.jpg,cat;dog\nb.jpg,cat/dog\n", "line 3: 'cat/dog' would be one class"),
        ('path,labels\na.jpg,"cat\nb.jpg,dog"\n', "line 3: the cell of labels.*quote not closed"),
        ('path,labels\na.jpg,"cat\n', "unexpected end of data"),
        ("path,labels\na\0.jpg,cat\n", "line 2: the path .* holds the character"),
        ("path,labels\na.jpg,cat\n./a.jpg,dog\n", "lines 2 and 3 are the same image './a.jpg'"),
        ("path,labels\nx/a.jpg,cat\nx\\a.jpg,dog\n", "lines 2 and 3 are the same image"),
        ("path,labels\nx/../a.jpg,cat\na.jpg,dog\n", "lines 2 and 3 are the same image"),
        ("path,labels\nx//a.jpg,cat\nx/a.jpg,dog\n", "lines 2 and 3 are the same image"),
        ("path,labels\nf\u00fc.jpg,cat\nfu\u0308.jpg,dog\n", "lines 2 and 3 are the same image"),
        ("path,split,labels\na.jpg,train,cat\n./a.jpg,test,cat\n", "lines 2 and 3 are the same"),
    ],
)
def test_bad_file_is_explained_with_its_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load_manifest(write(tmp_path, text))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "train"}, "no column split"),
        ({"blank": "0"}, "blank"),
    ],
)
def test_bad_option_is_explained(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        load_manifest(write(tmp_path, "path,labels\na.jpg,cat\n"), **options)


def test_unknown_split_lists_the_known_ones(tmp_path):
    path = write(tmp_path, "path,split,labels\na.jpg,train,cat\nb.jpg,test,dog\n")
    with pytest.raises(InputError, match="its splits are: test, train"):
        load_manifest(path, split="val")


def test_other_encoding_and_missing_file_are_explained(tmp_path):
    with pytest.raises(InputError, match="not UTF-8"):
        load_manifest(write(tmp_path, "path,labels\nfünf.jpg,cat\n", "latin-1"))
    with pytest.raises(InputError, match=r"none\.csv"):
        load_manifest(tmp_path / "none.csv")


@pytest.mark.parametrize(
    "text",
    [
        "path,labels\na.jpg,traffic light;light\nb.jpg,traffic\n",
        "path,labels\na.jpg,car/truck;car\n",
        'path,labels\na.jpg,"dining table, wooden;chair"\n',
        "path,labels\na.jpg,cat;\nb.jpg,;dog;\n",
        "path;labels\na.jpg;cat\n",
        "path;cat, big;dog\na.jpg;1;0\n",
        "path,labels\ra.jpg,cat\rb.jpg,dog\r",
        "path,labels\na\u2028.jpg,cat\n",
        'path,cat,dog\na.jpg," 1",0\n , ,\n',
    ],
)
def test_unusual_but_sound_files_are_read(tmp_path, text):
    dataset = load_manifest(write(tmp_path, text))
    assert (dataset.targets == 1).any()
    assert "" not in dataset.class_names


def test_splits_of_one_reading_are_those_read_one_by_one(tmp_path):
    path = write(tmp_path, "path,split,cat,dog\na,train,1,0\nb,test,0,1\nc,train,-1, \n")
    parts = load_manifest_splits(path)
    assert list(parts) == ["test", "train"]
    for split, part in parts.items():
        alone = load_manifest(path, split=split)
        assert (part.image_ids, part.name) == (alone.image_ids, alone.name)
        np.testing.assert_array_equal(part.targets, alone.targets)


def test_a_closed_manifest_and_a_folder_in_its_place_are_explained(closed_to_us):
    path = write(closed_to_us, "path,labels\na.jpg,cat\n")
    path.chmod(0)
    with pytest.raises(InputError, match=r"labels\.csv cannot be read \(Permission denied\)"):
        load_manifest(path)
    with pytest.raises(InputError, match="is a folder"):
        load_manifest(closed_to_us)
