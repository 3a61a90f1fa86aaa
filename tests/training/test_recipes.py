"""Every recipe builds, trains two steps, evaluates, saves, loads and predicts.

The data are miniatures in each dataset's own layout; the backbones have the recipe's patch size,
token layout and norms, but are two narrow blocks deep, so that 38 recipes fit into a minute.
"""

import pytest
import timm
import torch
from layouts import make_coco, make_manifest, make_nuswide, make_visual_genome, make_voc
from PIL import Image

from mlvpt.studies.ablations import change
from mlvpt.training.build import load_model
from mlvpt.training.loop import train
from mlvpt.training.recipes import load, recipe_names, recipe_path

N_CLASSES = {"voc2007": 20, "coco2014": 80, "nuswide": 81, "vg256": 256}  # the paper's data
N_CLOTHES = 7  # of the miniature; 47 of the real set
BACKBONES = (
    "vit_b16_in1k",
    "vit_b16_in21k",
    "vit_b16_mae",
    "vit_b16_mocov3",
    "dinov2_s14",
    "dinov2_b14",
)


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """A miniature of every dataset."""
    makers = {
        "voc2007": make_voc,
        "coco2014": make_coco,
        "nuswide": make_nuswide,
        "vg256": make_visual_genome,
    }
    found = {name: tmp_path_factory.mktemp(name) for name in makers}
    for name, make in makers.items():
        make(found[name])
    folder = tmp_path_factory.mktemp("clothing")
    found["clothing"] = make_manifest(folder, n_classes=N_CLOTHES)
    return found


@pytest.fixture
def narrow_backbones(monkeypatch):
    """timm's models of the same family, narrow and two blocks deep, never downloaded."""
    original = timm.create_model

    def create(name, pretrained=False, **options):
        return original(name, pretrained=False, embed_dim=24, num_heads=2, depth=2, **options)

    monkeypatch.setattr(timm, "create_model", create)
    return create


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_runs_from_training_to_prediction(name, roots, narrow_backbones, tmp_path):
    dataset = name.split("_")[0]
    config = load(recipe_path(name))
    changes = {
        "data.root": str(roots[dataset]),
        "data.val_fraction": 0.4,
        "model.pretrained": False,
        "optim.epochs": 1,
        "optim.batch_size": 2,
        "optim.workers": 0,
    }
    if "mocov3" in name:
        torch.manual_seed(0)
        vit = narrow_backbones(config.model.backbone, num_classes=0, img_size=224)
        state = {f"module.base_encoder.{k}": v for k, v in vit.state_dict().items()}
        checkpoint = tmp_path / "vit-b-300ep.pth.tar"
        torch.save({"state_dict": state}, checkpoint)
        changes["model.backbone_checkpoint"] = str(checkpoint)
    run = tmp_path / "run"
    summary = train(change(config, changes), run, progress=False)
    assert 0 <= summary["results"]["metrics"]["val"]["mAP"] <= 1
    model = load_model(run)
    size = 448 if name.endswith("448") else 224
    assert model.image_size == (size, size)
    n_classes = N_CLASSES.get(dataset, N_CLOTHES)
    assert len(model.class_names) == n_classes
    assert len(model.predict(Image.new("RGB", (30, 20)), threshold=0)[0]) == n_classes


def test_there_is_a_recipe_for_every_dataset_and_backbone_of_the_paper():
    wanted = {f"{dataset}_{backbone}" for dataset in N_CLASSES for backbone in BACKBONES}
    assert wanted <= set(recipe_names())


def test_there_is_a_recipe_for_both_sets_of_photographs_that_trains_on_a_cpu():
    for name in ("voc2007_deit_tiny", "clothing_deit_tiny"):
        config = load(recipe_path(name))
        assert config.model.backbone == "deit_tiny_patch16_224.fb_in1k"
        assert config.model.image_size == 224
        assert config.optim.precision == "no"


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_says_how_to_get_the_data_and_how_to_run_it(name):
    text = recipe_path(name).read_text()
    assert f"mlvpt train --recipe {name} --data.root DIR" in text
    assert "python data_prep/" in text
    assert "Source: Ma et al., CVPR 2025" in text
