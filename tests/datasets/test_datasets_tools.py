"""Hugging Face objects, the stratified split, splits by name, and the data set check."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from layouts import (
    make_coco,
    make_manifest,
    make_nuswide,
    make_visual_genome,
    make_voc,
    random_targets,
    save_image,
)
from PIL import Image

from mlvpt.datasets import (
    MultiLabelDataset,
    check_dataset,
    load_huggingface,
    load_manifest,
    load_splits,
    load_voc,
    stratified_split,
)
from mlvpt.errors import InputError


class Rows(list):
    """A list of rows with the interface of a Hugging Face dataset."""

    def __init__(self, rows, features=None, decoded=None):
        super().__init__(rows)
        self.features = features
        self.decoded = [] if decoded is None else decoded

    def __getitem__(self, index):
        self.decoded.append(index)
        return super().__getitem__(index)

    def select_columns(self, columns):
        return [{name: row[name] for name in columns} for row in list.__iter__(self)]


def picture(colour: str = "red", mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (5, 4), colour)


def test_huggingface_class_labels_name_the_classes():
    feature = SimpleNamespace(feature=SimpleNamespace(names=["cat", "dog", "sofa"]))
    rows = Rows(
        [{"image": picture(), "labels": [0, 2]}, {"image": picture("blue"), "labels": []}],
        features={"labels": feature},
    )
    dataset = load_huggingface(rows)
    assert dataset.class_names == ["cat", "dog", "sofa"]
    assert dataset.targets.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert rows.decoded == []  # labels alone decode no image
    assert dataset[1][0].getpixel((0, 0)) == (0, 0, 255)


def test_huggingface_labels_may_be_names_or_single():
    rows = [{"image": picture(), "labels": ["b", "a"]}, {"image": picture(), "labels": "c"}]
    assert load_huggingface(rows).targets.tolist() == [[1, 1, 0], [0, 0, 1]]
    rows = [{"image": picture(), "y": 1}, {"image": picture(), "y": None}]
    dataset = load_huggingface(rows, label_column="y", class_names=["a", "b"])
    assert dataset.targets.tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize("kind", ["pil", "grey array", "bytes", "path", "path in dict"])
def test_huggingface_images_come_in_several_forms(tmp_path, kind):
    path = save_image(tmp_path / "a.png", size=(5, 4))
    buffer = io.BytesIO()
    picture(mode="L", colour="white").save(buffer, "PNG")
    value = {
        "pil": picture(mode="L", colour="white"),
        "grey array": np.zeros((4, 5), np.uint8),
        "bytes": {"bytes": buffer.getvalue(), "path": None},
        "path": str(path),
        "path in dict": {"bytes": None, "path": str(path)},
    }[kind]
    image, _ = load_huggingface([{"image": value, "labels": ["a"]}])[0]
    assert (image.mode, image.size) == ("RGB", (5, 4))


def test_huggingface_unreadable_image_is_named_by_its_row():
    rows = [{"image": picture(), "labels": ["a"]}, {"image": {"bytes": b"no"}, "labels": ["a"]}]
    with pytest.raises(InputError, match="row 1"):
        load_huggingface(rows)[1]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "no rows"),
        ([{"image": 0, "labels": [1]}], {}, "pass class_names"),
        ([{"image": 0, "labels": [2]}], {"class_names": ["a", "b"]}, "row 0: 2"),
        ([{"image": 0, "labels": [-1]}], {"class_names": ["a", "b"]}, "row 0: -1"),
        ([{"image": 0, "labels": ["z"]}], {"class_names": ["a"]}, "row 0: 'z'"),
        ([{"image": 0, "tags": ["z"]}], {}, "no column 'labels'; a row has: image, tags"),
        ({"train": [], "test": []}, {}, r"dictionary of splits \(train, test\)"),
    ],
)
def test_huggingface_bad_input_is_explained(rows, options, message):
    with pytest.raises(InputError, match=message):
        load_huggingface(rows, **options)


def skewed_targets(n_images: int = 4000, n_classes: int = 30) -> np.ndarray:
    share = np.geomspace(0.4, 0.003, n_classes)
    return (np.random.default_rng(0).random((n_images, n_classes)) < share).astype(np.int8)


@pytest.mark.parametrize("fraction", [0.1, 0.25])
def test_split_gives_every_label_its_share(fraction):
    targets = skewed_targets()
    _, val = stratified_split(targets, fraction)
    error = np.abs(targets[val].sum(axis=0) - fraction * targets.sum(axis=0))
    assert error.max() <= 2
    chance = np.random.default_rng(0).permutation(len(targets))[: len(val)]
    assert (
        error.sum()
        < 0.2 * np.abs(targets[chance].sum(axis=0) - fraction * targets.sum(axis=0)).sum()
    )
    assert len(val) == fraction * len(targets)


def test_split_holds_every_image_once_and_depends_on_the_seed_alone():
    targets = skewed_targets(500)
    train, val = stratified_split(targets, seed=3)
    assert sorted([*train, *val]) == list(range(500))
    again = stratified_split(targets, seed=3)
    np.testing.assert_array_equal(val, again[1])
    assert not np.array_equal(val, stratified_split(targets, seed=4)[1])


def test_split_counts_ignored_labels_as_absent():
    targets = skewed_targets(500)
    ignored = np.where(np.random.default_rng(1).random(targets.shape) < 0.2, -1, targets)
    np.testing.assert_array_equal(
        stratified_split(ignored)[1], stratified_split((ignored == 1).astype(int))[1]
    )


def test_split_keeps_a_label_with_one_image_in_training():
    targets = skewed_targets(200)
    targets[:, 0] = 0
    targets[7, 0] = 1
    assert all(7 in stratified_split(targets, seed=seed)[0] for seed in range(10))


def test_split_has_the_wanted_size_even_if_every_image_has_its_own_label():
    _, val = stratified_split(np.eye(30, dtype=int), 0.1)
    assert len(val) == 3


def test_split_shares_out_images_without_labels():
    targets = np.zeros((100, 3), int)
    targets[:20, 0] = 1
    _, val = stratified_split(targets, 0.2)
    assert ((val < 20).sum(), (val >= 20).sum()) == (4, 16)


@pytest.mark.parametrize(("n", "fraction"), [(10, 0.0), (10, 1.0), (10, -0.1), (3, 0.1), (0, 0.5)])
def test_split_refuses_an_empty_half(n, fraction):
    with pytest.raises(InputError, match="val_fraction"):
        stratified_split(np.ones((n, 2), int), fraction)


MAKERS = {
    "voc2007": lambda root: make_voc(root, images=False),
    "voc2012": lambda root: make_voc(root, 2012, sizes={"train": 12, "val": 10}, images=False),
    "coco2014": lambda root: make_coco(root, 2014, images=False),
    "coco2017": lambda root: make_coco(root, 2017, images=False),
    "nuswide": make_nuswide,
    "vg256": lambda root: make_visual_genome(root, images=False),
    "visual_genome": lambda root: make_visual_genome(root, images=False),
}


@pytest.mark.parametrize("name", MAKERS)
def test_splits_of_a_named_data_set_are_disjoint_and_share_classes(tmp_path, name):
    MAKERS[name](tmp_path)
    splits = load_splits(name, tmp_path, val_fraction=0.25, seed=0)
    ids = [{f"{part.name}/{i}" for i in part.image_ids} for part in (splits.train, splits.val)]
    assert all(ids)
    assert not ids[0] & ids[1]
    assert splits.tests["test"].name != splits.train.name
    assert splits.train.class_names == splits.val.class_names == splits.tests["test"].class_names


def test_splits_of_scenes_are_those_of_the_package(monkeypatch):
    monkeypatch.setattr(
        "mlvpt.datasets.splits.load_scenes", lambda split, **options: (split, options)
    )
    splits = load_splits("scenes", n_images=30, strength=0.5)
    assert splits.train == ("train", {"n_images": 30, "strength": 0.5})
    assert splits.val == ("val", {"strength": 0.5})
    assert splits.tests == {
        "test": ("test", {"strength": 0.5}),
        "test_shifted": ("test_shifted", {}),
    }


def test_splits_of_a_manifest_follow_its_column(tmp_path):
    path = make_manifest(tmp_path)
    splits = load_splits("manifest", path, val_fraction=0.25)
    assert (len(splits.train), len(splits.val), splits.tests) == (9, 3, {})
    path.write_text("path,split,labels\na,train,x\nb,train,y\nc,test,x\nd,val,y\n")
    splits = load_splits("manifest", path)
    assert [part.image_ids for part in (splits.train, splits.val, splits.tests["test"])] == [
        ["a", "b"],
        ["d"],
        ["c"],
    ]


def test_splits_refuse_an_unknown_name_and_a_missing_root(tmp_path):
    with pytest.raises(InputError, match="'imagenet'"):
        load_splits("imagenet", tmp_path)
    with pytest.raises(InputError, match="voc2007 needs a root"):
        load_splits("voc2007")


def test_check_lists_every_problem_at_once(tmp_path):
    make_voc(tmp_path, sizes={"train": 8})
    folder = tmp_path / "VOCdevkit/VOC2007/JPEGImages"
    dataset = load_voc(tmp_path, "train")
    files = [folder / f"{i}.jpg" for i in dataset.image_ids]
    files[1].unlink()
    files[2].write_bytes(b"")
    files[4].write_bytes(files[4].read_bytes()[:300])
    files[5].write_text("<html>404 not found</html>")
    problems = [p for p in check_dataset(dataset, progress=False) if p.fatal]
    assert [(p.kind, p.where) for p in problems] == [
        ("missing", str(files[1])),
        ("empty file", str(files[2])),
        ("truncated", str(files[4])),
        ("not an image", str(files[5])),
    ]


def test_check_of_a_sound_data_set_finds_nothing(tmp_path):
    assert check_dataset(load_manifest(make_manifest(tmp_path)), progress=False) == []


def test_check_notes_labels_that_cannot_be_learnt_or_measured(tmp_path):
    for name in "abc":
        save_image(tmp_path / f"{name}.png")
    path = tmp_path / "labels.csv"
    path.write_text("path,never,blanks,fine\na.png,0,1,1\nb.png,0,,0\nc.png,0,,0\n")
    problems = check_dataset(load_manifest(path), progress=False)
    assert [(p.kind, p.where) for p in problems] == [
        ("class without positives", "never"),
        ("class without negatives", "blanks"),
        ("images without labels", "labels"),
    ]
    assert not any(p.fatal for p in problems)
    assert "2 of 3" in problems[2].detail
    assert str(problems[0]).startswith("note: class without positives: never")


def test_check_names_a_repeated_image():
    dataset = MultiLabelDataset(
        targets=random_targets(3, 2),
        class_names=["a", "b"],
        images=np.zeros((3, 4, 4, 3), np.uint8),
        image_ids=["x", "y", "x"],
    )
    fatal = [p for p in check_dataset(dataset, progress=False) if p.fatal]
    assert [(p.kind, p.where) for p in fatal] == [("duplicate image", "x")]


def test_your_own_coco_json_is_split_for_training_by_name(tmp_path):
    make_coco(tmp_path, sizes={"train": 12, "val": 4}, n_empty=2)
    annotations = tmp_path / "annotations" / "instances_train2014.json"
    splits = load_splits(
        "coco_json", annotations, image_root=tmp_path / "train2014", val_fraction=0.25
    )
    assert (len(splits.train), len(splits.val), splits.tests) == (10, 4, {})
    targets = np.concatenate([splits.train.targets, splits.val.targets])
    assert (~targets.any(axis=1)).sum() == 2  # images of nothing are negatives
    assert splits.train.load_image(0).mode == "RGB"


def test_a_word_in_the_split_column_that_nothing_reads_is_refused(tmp_path):
    (tmp_path / "own.csv").write_text("path,labels,split\na.png,x,train\nb.png,x,validation\n")
    with pytest.raises(InputError, match="'validation': give each row train, val or test"):
        load_splits("manifest", tmp_path / "own.csv")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": "ab"}, "must be a list of names, but are 'ab'"),
        ({"class_names": None}, "must be a list of names, but are None"),
        ({"images": None}, "must be a sequence.*NoneType"),
        ({"targets": [[1, 0], [1]]}, "rows differ in length"),
        ({"targets": None}, r"\(N, K\) array"),
        ({"targets": [["1", "0"]] * 2}, "must be numbers"),
    ],
)
def test_wrong_types_of_a_data_set_are_one_sentence(changes, message):
    sound = {"targets": [[1, 0]] * 2, "class_names": ["a", "b"], "images": ["a.png", "b.png"]}
    with pytest.raises(InputError, match=rf"^[^\n]*{message}[^\n]*$"):
        MultiLabelDataset(**(sound | changes))


@pytest.mark.parametrize("label", [1.5, None, [0], True])
def test_huggingface_label_that_is_no_class_is_named_by_its_row(label):
    rows = [{"image": picture(), "labels": [label]}]
    with pytest.raises(InputError, match=r"row 0: .* is not one of the 2 classes"):
        load_huggingface(rows, class_names=["a", "b"])


@pytest.mark.parametrize("pixels", [np.zeros((4, 4, 3)), [[0.5, 0.2]], [[300, 2]], 7, None])
def test_huggingface_pixels_that_are_no_picture_are_named_by_their_row(pixels):
    with pytest.raises(InputError, match="the image of row 0"):
        load_huggingface([{"image": pixels, "labels": ["a"]}]).load_image(0)


@pytest.mark.parametrize("name", [None, 3, "", ["a.png"]])
def test_coco_file_name_that_is_none_is_explained(tmp_path, name):
    content = {"images": [{"id": 1, "file_name": name}], "annotations": []}
    (tmp_path / "own.json").write_text(
        json.dumps(content | {"categories": [{"id": 1, "name": "a"}]})
    )
    with pytest.raises(InputError, match=r"own\.json is not COCO instances JSON"):
        load_splits("coco_json", tmp_path / "own.json")
