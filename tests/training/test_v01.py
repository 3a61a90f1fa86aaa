"""What version 0.1 saved: a run of ML-VPT and a model of VPT, in tests/fixtures/v0.1."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mlvpt import MLVPT
from mlvpt.baselines import VPT
from mlvpt.classifier import MultiLabelClassifier
from mlvpt.datasets import load_scenes
from mlvpt.training import checkpoint, recipes
from mlvpt.training.build import load_model
from mlvpt.training.loop import train

SAVED = Path(__file__).parents[1] / "fixtures" / "v0.1"
EXPECTED = json.loads((SAVED / "expected_probabilities.json").read_text())


@pytest.mark.parametrize(("folder", "kind"), [("run", MLVPT), ("vpt_deep", VPT)])
def test_a_model_of_version_0_1_predicts_what_it_predicted_then(folder, kind):
    scenes = load_scenes("test", n_images=4)
    model = load_model(SAVED / folder)
    found = model.probabilities([scenes.load_image(i) for i in range(4)])
    assert type(model) is kind
    torch.testing.assert_close(found, torch.tensor(EXPECTED[folder]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("folder", "kind"), [("run/model", MLVPT), ("vpt_deep", VPT)])
def test_a_model_of_version_0_1_loads_through_its_class_and_through_the_common_one(folder, kind):
    assert type(kind.from_pretrained(SAVED / folder)) is kind
    assert type(MultiLabelClassifier.from_pretrained(SAVED / folder)) is kind


def test_the_configuration_of_a_run_of_version_0_1_is_read():
    config = recipes.load(SAVED / "run" / "config.json")
    assert (config.model.method, config.model.n_groups, config.optim.epochs) == ("mlvpt", 2, 2)


def test_a_run_of_version_0_1_whose_summary_is_missing_is_finished_with_the_same_metrics(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(SAVED / "run", run)
    before = json.loads((run / "summary.json").read_text())["results"]["metrics"]
    (run / "summary.json").unlink()
    model = load_model(run)
    weights = load_file(run / "model" / "model.safetensors")
    best = {name: weights[name] for name, _ in model.trainable_parameters()}
    # the fixture leaves best.safetensors out, whose weights are the model's
    checkpoint.save(run / "checkpoints" / "best.safetensors", best, {"epoch": 2, "val_mAP": 0.0})
    config = recipes.load(run / "config.json")
    after = train(config, run, resume=True, progress=False)["results"]["metrics"]
    assert after["val"]["mAP"] == pytest.approx(before["val"]["mAP"], abs=1e-5)
    assert {k: v["mAP"] for k, v in after.items()} == pytest.approx(
        {k: v["mAP"] for k, v in before.items()}, abs=1e-5
    )
