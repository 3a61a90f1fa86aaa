"""DINOv3 ViT-S/16 by name, with random weights: trained, looked into and saved."""

import json
import math

import pytest
import torch
from tiny_runs import tiny_config
from tiny_vits import tiny_model

from mlvpt.datasets import load_scenes
from mlvpt.images import eval_transform, normalize
from mlvpt.inference.export import FORMATS, export_model
from mlvpt.model import MLVPT
from mlvpt.training.build import load_model
from mlvpt.training.loop import train

OF_S16 = {"backbone": "vit_small_patch16_dinov3", "pretrained": False, "image_size": 64}


@pytest.fixture(scope="module")
def run(tiny_csv, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "dinov3"
    settings = {f"model_{name}": value for name, value in OF_S16.items()}
    train(tiny_config(tiny_csv, optim_epochs=1, **settings), folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def model(run):
    return load_model(run)


@pytest.fixture(scope="module")
def pictures():
    scenes = load_scenes("test", n_images=3)
    return [scenes.load_image(i) for i in range(3)]


def test_training_reports_finite_numbers(run):
    (line,) = (run / "metrics.jsonl").read_text().splitlines()
    assert math.isfinite(json.loads(line)["loss"])


def test_the_prompts_are_those_of_every_block(model):
    assert type(model.vit).__name__ == "Eva"
    assert model.prompted_vit.prompts.shape == (12, 8, 384)
    assert model.prompted_vit.has_prefix_form


def test_a_prompt_looks_at_a_grid_of_four_by_four(model, pictures):
    batch = torch.stack([eval_transform((64, 64))(picture) for picture in pictures])
    batch = normalize(batch, model.mean, model.std)
    maps = model.prompted_vit.attention(batch)
    assert maps.shape == (3, 8, 4, 4)
    assert maps.flatten(2).sum(-1).min() > 0
    assert maps.flatten(2).sum(-1).max() < 1


def test_a_model_that_was_saved_and_loaded_answers_the_same(model, pictures, tmp_path):
    model.save_pretrained(tmp_path)
    again = MLVPT.from_pretrained(tmp_path)
    assert torch.equal(again.probabilities(pictures), model.probabilities(pictures))


@pytest.mark.parametrize("format", ["torch", "onnx"])
def test_the_exported_file_of_a_smaller_one_answers_as_the_model(model, tmp_path, format):
    if format == "onnx":
        for library in ("onnx", "onnxruntime", "onnxscript"):
            pytest.importorskip(library)
    vit = tiny_model("vit_small_patch16_dinov3", 64)
    path = tmp_path / f"model{FORMATS[format]}"
    assert export_model(MLVPT(vit, model.groups), path, format) <= 1e-4
    assert path.stat().st_size > 0
