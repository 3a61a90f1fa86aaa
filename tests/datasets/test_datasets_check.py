"""The gate: what it passes is trained to the end, what it refuses is said in one report."""

import os
import time

import numpy as np
import pytest
from layouts import save_image
from tiny_runs import tiny_config

from mlvpt.datasets import (
    MultiLabelDataset,
    Splits,
    check_dataset,
    check_splits,
    load_splits,
    require_trainable,
)
from mlvpt.errors import InputError
from mlvpt.training.loop import train

ROWS = {  # split: label cells of its images; sound as they stand
    "train": ["cat", "dog", "cat;dog", "cat", "dog", "", "cat", "dog"],
    "val": ["cat", "dog", ""],
    "test": ["dog", "cat", "cat;dog"],
}


def manifest(folder, rows=ROWS, images=True):
    """A manifest with a column labels, and its pictures."""
    lines = ["path,split,labels"]
    for split, cells in rows.items():
        for i, cell in enumerate(cells):
            lines.append(f'{split}_{i}.png,{split},"{cell}"')
            if images:
                save_image(folder / f"{split}_{i}.png", size=(48, 48))
    path = folder / "own.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def columns(folder, cells):
    """A manifest with a column for each of two classes; {split: [(cat, dog) of each image]}."""
    lines = ["path,split,cat,dog"]
    for split, rows in cells.items():
        for i, row in enumerate(rows):
            lines.append(f"{split}_{i}.png,{split},{row[0]},{row[1]}")
            save_image(folder / f"{split}_{i}.png", size=(48, 48))
    path = folder / "own.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def fatal(path):
    """{split: kinds of fatal problems} of a manifest, of splits that have some."""
    found = check_splits(load_splits("manifest", path), progress=False)
    kinds = {name: [p.kind for p in problems if p.fatal] for name, problems in found.items()}
    return {name: of_split for name, of_split in kinds.items() if of_split}


def refusal(path, **options):
    with pytest.raises(InputError, match=r"^[^\n]+$") as caught:
        require_trainable(load_splits("manifest", path), **options)
    return str(caught.value)


SOUND = {
    "as it stands": {s: [("1", "0"), ("0", "1"), ("1", "1")] for s in ROWS},
    "a class without positives in val": {
        "train": [("1", "0"), ("0", "1"), ("1", "1")],
        "val": [("1", "0"), ("0", "0")],
        "test": [("1", "0"), ("0", "1")],
    },
    "a class that no image has": {s: [("1", "0"), ("0", "0"), ("1", "0")] for s in ROWS},
    "a class that every image has": {s: [("1", "0"), ("1", "1"), ("1", "0")] for s in ROWS},
    "unknown labels and images without any": {
        "train": [("1", "-1"), ("-1", "-1"), ("0", "1")],
        "val": [("1", ""), ("", ""), ("0", "")],
        "test": [("-1", "-1"), ("-1", "1"), ("0", "0")],
    },
    "one image a split": {"train": [("1", "0")] * 2, "val": [("1", "0")], "test": [("0", "1")]},
    "no test": {s: [("1", "0"), ("0", "1")] for s in ("train", "val")},
}


@pytest.mark.parametrize("name", SOUND)
def test_what_check_passes_is_trained_to_the_end(tmp_path, name):
    path = columns(tmp_path, SOUND[name])
    assert fatal(path) == {}
    config = tiny_config(
        path, optim_batch_size=2, optim_epochs=1, model_n_groups=1, model_group_source="labels"
    )
    results = train(config, tmp_path / "run", progress=False)["results"]
    assert 0 <= results["metrics"]["val"]["mAP"] <= 1


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (("0", "0"), "no positive label"),
        (("-1", "-1"), "no positive label"),
        (("", "0"), "no positive label"),
        (("1", "1"), "no negative label"),
        (("1", ""), "no negative label"),
    ],
)
def test_labels_that_cannot_be_learnt_or_measured_are_refused_by_check_and_train(
    tmp_path, split, row, kind
):
    cells = {s: [("1", "0"), ("0", "1"), ("1", "1")] for s in ROWS} | {split: [row, row]}
    path = columns(tmp_path, cells)
    assert fatal(path) == {split: [kind]}
    with pytest.raises(InputError, match=rf"{split}: {kind}"):
        train(tiny_config(path, model_n_groups=1), tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "checkpoints").exists()  # before the first step


def test_a_split_whose_labels_are_all_unknown_is_told_apart(tmp_path):
    cells = {s: [("1", "0"), ("0", "1")] for s in ROWS} | {"test": [("-1", ""), ("", "")]}
    assert "test: no positive label: own test: every label is unknown" in refusal(
        columns(tmp_path, cells)
    )


def test_every_reason_is_in_one_report(tmp_path):
    rows = {**ROWS, "val": ["", ""], "train": ["Cat", "cat", "cat;dog", "dog"]}
    path = manifest(tmp_path, rows)
    (tmp_path / "train_2.png").unlink()
    (tmp_path / "train_3.png").write_bytes(b"")
    text = refusal(path)
    for reason in ("'Cat' and 'cat'", "val: no positive label", "train: missing", "empty file"):
        assert reason in text


NAMES = {
    "case": ["Cat", "cat"],
    "a space at the end": ["cat", "cat "],
    "a space alone": ["cat", "dog "],
    "two spaces within": ["traffic light", "traffic  light"],
    "an invisible character": ["cat", "cat\u200b"],
    "full width": ["cat", "ｃａｔ"],
    "composition": ["é", "e\u0301"],
    "empty": ["cat", ""],
    "blank": ["cat", "  "],
    "quotes at both ends": ['"cat"', "dog"],
    "a quote before": ['"cat', "dog"],
    "a typographic quote": ["cat”", "dog"],
    "a line break": ["ca\nt", "dog"],
}


@pytest.mark.parametrize("kind", NAMES)
def test_class_names_that_a_slip_made_are_refused(kind):
    part = MultiLabelDataset(
        targets=[[1, 0], [0, 1]], class_names=NAMES[kind], images=np.zeros((2, 4, 4, 3), np.uint8)
    )
    assert "class name" in {p.kind for p in check_dataset(part, progress=False) if p.fatal}
    with pytest.raises(InputError, match=r"class name|has the name|spelling"):
        require_trainable(Splits(part, part, {}), held_out=False)


def test_class_names_that_differ_in_a_hyphen_are_a_note():
    part = MultiLabelDataset(
        targets=[[1, 0, 0], [0, 1, 1]],
        class_names=["t-shirt", "t shirt", "men's shoe"],
        images=np.zeros((2, 4, 4, 3), np.uint8),
    )
    problems = check_dataset(part, progress=False)
    assert [p.kind for p in problems if "names" in p.kind] == ["similar class names"]
    assert not any(p.fatal for p in problems)


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
@pytest.mark.parametrize(("one", "other"), [("train_0", "train_1"), ("train_0", "test_0")])
def test_an_image_under_two_names_is_found_behind_its_links(tmp_path, link, one, other):
    path = manifest(tmp_path)
    (tmp_path / f"{other}.png").unlink()
    link(tmp_path / f"{one}.png", tmp_path / f"{other}.png")
    split = other.split("_")[0]
    assert fatal(path) == {split: ["duplicate image"]}
    assert f"{split}: duplicate image" in refusal(path)


def test_a_folder_under_two_names_gives_no_new_images(tmp_path):
    path = manifest(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    path.write_text(path.read_text() + "link/train_0.png,train,cat\nlink/train_1.png,test,dog\n")
    assert fatal(path) == {"train": ["duplicate image"], "test": ["duplicate image"]}


def test_validation_images_that_are_trained_on_by_choice_are_no_duplicates(tmp_path):
    splits = load_splits("manifest", manifest(tmp_path))
    joined = Splits(splits.train.joined_with(splits.val), splits.val, splits.tests)
    require_trainable(joined, held_out=False)
    with pytest.raises(InputError, match="duplicate image"):
        require_trainable(joined)


def test_files_of_one_name_in_two_folders_are_two_images(tmp_path):
    paths = [save_image(tmp_path / folder / "1.png") for folder in "ab"]
    part = MultiLabelDataset(targets=[[1], [0]], class_names=["cat"], images=paths)
    assert part.image_ids == ["1", "1"]
    assert check_dataset(part, progress=False) == [
        p for p in check_dataset(part, progress=False) if not p.fatal
    ]


@pytest.mark.parametrize("how", ["missing", "empty", "damaged", "no picture"])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_that_is_mostly_unreadable_is_not_skipped_away(tmp_path, how, split):
    path = manifest(tmp_path)
    content = {"empty": b"", "damaged": b"\x89PNG\r\n\x1a\n", "no picture": b"text"}
    files = sorted(tmp_path.glob(f"{split}_*.png"))
    for file in files[: len(files) // 2 + 1]:
        file.unlink()
        if how != "missing":
            file.write_bytes(content[how])
    assert f"{split}: unreadable images" in refusal(path, skip_corrupt=True)
    config = tiny_config(path, model_n_groups=1, data_skip_corrupt=True)
    with pytest.raises(InputError, match="unreadable images"):
        train(config, tmp_path / "run", progress=False)


def test_labels_of_unreadable_images_do_not_count(tmp_path):
    path = manifest(tmp_path, {**ROWS, "val": ["cat", "", ""]})
    (tmp_path / "val_0.png").unlink()
    assert "val: no positive label" in refusal(path, skip_corrupt=True)


def test_a_few_unreadable_images_may_be_skipped(tmp_path):
    path = manifest(tmp_path)
    (tmp_path / "train_0.png").write_bytes(b"text")
    require_trainable(load_splits("manifest", path), skip_corrupt=True)
    assert fatal(path) == {"train": ["not an image"]}


def test_a_closed_folder_is_named_and_ends_nothing(closed_to_us):
    path = manifest(closed_to_us)
    (closed_to_us / "folder").mkdir()
    save_image(closed_to_us / "folder" / "a.png")
    path.write_text(path.read_text() + "folder/a.png,train,cat\n")
    (closed_to_us / "folder").chmod(0)
    assert fatal(path) == {"train": ["no permission"]}
    assert "train: no permission" in refusal(path)


def test_a_large_manifest_is_loaded_and_checked_in_seconds(tmp_path):
    n, k = 20_000, 80  # a hundred thousand rows take five times as long
    rng = np.random.default_rng(0)
    cells = np.where(rng.random((n, k)) < 0.05, "1", "0")
    lines = ["path," + ",".join(f"class {i}" for i in range(k))]
    lines += [f"pictures/{i}.jpg," + ",".join(row) for i, row in enumerate(cells)]
    (tmp_path / "large.csv").write_text("\n".join(lines))
    began = time.process_time()
    splits = load_splits("manifest", tmp_path / "large.csv")
    with pytest.raises(InputError, match=r"missing: .*, and 17999 more"):
        require_trainable(splits)
    assert time.process_time() - began < 6  # 0.5 s where it was written
