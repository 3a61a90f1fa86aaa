"""From labels on disk to a score: the way of the data must not change the result."""

from pathlib import Path

import numpy as np
import pytest

from mlvpt.datasets import Splits, load_coco, load_scenes, load_voc
from mlvpt.datasets.export import export_scenes
from mlvpt.datasets.shipped import authors_groups, label_statistics
from mlvpt.grouping import cooccurrence_counts, group_labels
from mlvpt.studies.ablations import change, scenes_base
from mlvpt.training.loop import train

SPLITS, N_IMAGES = ("train", "val", "test"), 48
REAL_VOC = Path(__file__).parents[3] / "shared" / "data"


def parts(layout: str, root: Path) -> Splits:
    """The same scenes from memory, or written in a layout and loaded back."""
    if layout == "scenes":
        loaded = {split: load_scenes(split, N_IMAGES) for split in SPLITS}
    else:
        export_scenes(root, layout, n_images=N_IMAGES)
        load = load_voc if layout == "voc" else load_coco
        loaded = {split: load(root, split) for split in SPLITS}
    return Splits(loaded["train"], loaded["val"], {"test": loaded["test"]})


def test_scenes_from_voc_and_from_coco_layout_train_to_the_identical_map(tmp_path, monkeypatch):
    config = change(scenes_base(), {"optim.epochs": 2, "optim.batch_size": 16})
    targets, scores = {}, {}
    for layout in ("scenes", "voc", "coco"):
        splits = parts(layout, tmp_path / layout)
        monkeypatch.setattr("mlvpt.training.run.load_data", lambda *_, splits=splits: splits)
        summary = train(config, tmp_path / f"run_{layout}", progress=False)
        metrics = summary["results"]["metrics"]
        scores[layout] = {split: metrics[split]["mAP"] for split in ("val", "test")}
        targets[layout] = [splits.train.targets, splits.val.targets, splits.tests["test"].targets]
    assert scores["voc"] == scores["coco"] == scores["scenes"]
    for layout in ("voc", "coco"):
        for loaded, made in zip(targets[layout], targets["scenes"], strict=True):
            np.testing.assert_array_equal(loaded, made)


@pytest.mark.skipif(not REAL_VOC.is_dir(), reason="the real VOC2007 label files are not here")
def test_the_real_voc2007_labels_give_the_shipped_counts_and_the_authors_groups(tmp_path):
    devkit = tmp_path / "VOCdevkit"
    devkit.mkdir()
    (devkit / "VOC2007").symlink_to(REAL_VOC / "voc2007")
    dataset = load_voc(tmp_path, "trainval")
    shipped = label_statistics("voc2007")
    np.testing.assert_array_equal(cooccurrence_counts(dataset.targets), shipped.counts)
    for n_groups in (2, 3, 5):
        groups = group_labels(
            dataset.targets, n_groups=n_groups, class_names=list(dataset.class_names)
        )
        released = authors_groups("voc2007", n_groups)
        for view in ("co", "dc"):
            pairs = {
                (a, b) for a, b in zip(getattr(groups, view), getattr(released, view), strict=True)
            }
            assert len(pairs) == n_groups  # the same partition, numbered in another way
