"""Trained models by name: the run's own answers, a card that is true, and a warning where due."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import mlvpt
from mlvpt import results
from mlvpt.backbones import create_backbone
from mlvpt.errors import InputError
from mlvpt.inference import trained
from mlvpt.studies.grid import Job, read_rows
from mlvpt.training import recipes
from mlvpt.training.build import load_model
from mlvpt.training.config import flatten

NAME = "voc2007_deit_tiny"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "data_prep"))
    return importlib.import_module("trained_model")


@pytest.fixture
def records(tiny_run, tmp_path):
    """A study's file with the row of the tiny run."""
    config = recipes.load(tiny_run / "config.json")
    found = json.loads((tiny_run / "summary.json").read_text())["results"]
    row = {"key": Job("mlvpt", config).key, "variant": "mlvpt", "seed": 0}
    row |= {"config": flatten(config), "thresholds": list(found["thresholds"].values())}
    row |= {"test_mAP": round(found["metrics"]["test"]["mAP"], 5), "test_mAP_interval": [0.1, 0.9]}
    path = tmp_path / "results" / NAME / "baselines.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**row, "test_CF1": 0.25, "test_OF1": 0.5}) + "\n")
    return path


@pytest.fixture
def shipped(script, tiny_run, records, tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "FOLDER", tmp_path / "models")
    words = [str(tiny_run), "--name", NAME, "--records", str(records)]
    assert script.main([*words, "--out", str(tmp_path / "models")]) == 0
    return tmp_path / "models" / NAME


@pytest.mark.filterwarnings("error")
def test_a_shipped_model_gives_the_answers_of_its_run(shipped, tiny_run):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8))
    model = mlvpt.load_trained(NAME)
    assert not model.training
    assert torch.equal(
        model.probabilities([picture]), load_model(tiny_run).probabilities([picture])
    )


def test_the_card_holds_the_numbers_of_the_recorded_row(shipped, records):
    card, (row,) = trained.trained_card(NAME), read_rows(records)
    for name in ("key", "test_mAP", "test_CF1", "test_OF1"):
        assert card["numbers"][name] == row[name]
    assert card["numbers"]["file"] == f"results/{NAME}/baselines.jsonl"
    assert f"| mAP | {100 * row['test_mAP']:.1f} (95%" in (shipped / "README.md").read_text()


def test_another_backbone_is_named_tensor_by_tensor_and_works(shipped):
    vit = create_backbone("scenes")
    with torch.no_grad():
        vit.norm.weight += 1
    with pytest.warns(UserWarning, match=r"1 of \d+ tensors differ \(all of them in norms: norm"):
        model = mlvpt.load_trained(NAME, backbone=vit)
    assert len(model.predict(Image.new("RGB", (48, 48)), threshold=0)[0]) == 10


def test_a_backbone_of_another_shape_is_refused(shipped):
    with pytest.raises(InputError):
        mlvpt.load_trained(NAME, backbone=timm.create_model("vit_tiny_patch16_224", num_classes=0))


def test_an_unknown_name_lists_those_that_ship(shipped):
    with pytest.raises(InputError, match=f"no trained model 'voc'.*there are: {NAME}"):
        mlvpt.load_trained("voc")


def test_a_run_that_is_not_recorded_or_differs_from_its_row_does_not_ship(
    script, tiny_run, records, tmp_path, capsys
):
    words = [str(tiny_run), "--name", NAME, "--out", str(tmp_path / "models"), "--records"]
    row = json.loads(records.read_text())
    records.write_text(json.dumps({**row, "test_mAP": row["test_mAP"] - 0.01}) + "\n")
    assert script.main([*words, str(records)]) == 2
    assert "they are not the same run" in capsys.readouterr().err
    row["config"]["optim.lr"] = 0.5
    records.write_text(json.dumps(row) + "\n")
    assert script.main([*words, str(records)]) == 2
    assert "has no run with these settings" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_a_run_that_is_not_complete_does_not_ship(script, tiny_run, records, tmp_path, capsys):
    shutil.copytree(tiny_run, tmp_path / "half")
    (tmp_path / "half" / "summary.json").unlink()
    words = [str(tmp_path / "half"), "--name", NAME, "--records", str(records)]
    assert script.main([*words, "--out", str(tmp_path / "models")]) == 2
    assert "is not complete" in capsys.readouterr().err


@pytest.mark.parametrize("name", trained.trained_names())
def test_every_model_that_ships_loads_and_its_card_agrees_with_the_recorded_row(name):
    card = trained.trained_card(name)
    folder = Path(results.__file__).parent
    rows = read_rows(folder.parent / card["numbers"]["file"])
    (row,) = [row for row in rows if row["key"] == card["numbers"]["key"]]
    for number in ("seed", "test_mAP", "test_mAP_interval", "test_CF1", "test_OF1"):
        assert card["numbers"][number] == row[number]
    assert (folder / "models" / name / "model.safetensors").stat().st_size < 10**6
    random = timm.create_model(card["backbone"]["name"], pretrained=False, num_classes=0)
    with pytest.warns(UserWarning, match="tensors differ"):
        model = mlvpt.load_trained(name, backbone=random)
    found = model.probabilities([Image.new("RGB", (300, 200))])
    assert found.shape == (1, len(card["thresholds"]))


def test_a_program_that_imports_nothing_else_loads_one(tmp_path):
    backbone = tmp_path / "backbone.pth"
    torch.save(timm.create_model("deit_tiny_patch16_224", num_classes=0).state_dict(), backbone)
    call = f"mlvpt.load_trained({NAME!r}, backbone_checkpoint={str(backbone)!r})"
    program = f"import mlvpt; print({call}.n_trainable)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "100030\n", done.stderr
