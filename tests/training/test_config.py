import dataclasses
import json

import pytest

from mlvpt.cli.options import OPTIONS, parse
from mlvpt.errors import InputError
from mlvpt.files import write_json
from mlvpt.training import recipes
from mlvpt.training.config import (
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    to_dict,
)


def test_defaults_are_the_recipe_of_the_release():
    config = TrainConfig()
    assert (config.model.n_groups, config.model.experts_per_group, config.model.bottleneck) == (
        5,
        3,
        5,
    )
    assert (config.optim.lr, config.optim.weight_decay, config.optim.epochs) == (5e-4, 1e-2, 40)
    assert (config.loss.gamma_neg, config.loss.gamma_pos, config.loss.clip) == (2, 0, 0)
    assert config.model.n_prompts == 2 * config.model.n_groups * config.model.experts_per_group


def test_configuration_survives_json(tmp_path):
    config = TrainConfig(
        data=DataConfig(name="voc2007", root="somewhere", cache_gb=1.5),
        model=ModelConfig(views=("dc",), image_size=[32, 48], norm_output=False),
        loss=LossConfig(kind="bce"),
        optim=OptimConfig(lr=0.1 + 0.2, precision="bf16"),
    )
    write_json(tmp_path / "config.json", to_dict(config))
    assert recipes.load(tmp_path / "config.json") == config


def test_configuration_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().optim.lr = 1.0


@pytest.mark.parametrize(
    ("values", "meant"),
    [
        ({"optim": {"epoch": 2}}, "optim.epochs"),
        ({"lr": 1e-3}, "optim.lr"),
        ({"data": {"lr": 1e-3}}, "optim.lr"),
        ({"modle": {"n_groups": 2}}, "model.n_groups"),
    ],
)
def test_unknown_setting_is_refused_with_the_nearest_known_one(values, meant):
    with pytest.raises(InputError, match=f"did you mean '{meant}'"):
        recipes.from_dict(values)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"optim": {"lr": "fast"}}, "optim.lr"),
        ({"optim": {"epochs": 2.5}}, "optim.epochs"),
        ({"optim": {"epochs": 0}}, "optim.epochs must be 1 or more"),
        ({"optim": {"lr": float("nan")}}, "optim.lr must be positive"),
        ({"data": {"val_fraction": 1.0}}, "data.val_fraction must be in"),
        ({"data": {"name": "imagenet"}}, "data.name"),
        ({"model": {"views": ["co", "co"]}}, "model.views must be"),
        ({"loss": {"dc": -1}}, "loss.dc must be 0 or more"),
        ({"optim": 3}, "section 'optim'"),
    ],
)
def test_unusable_value_is_refused_by_name(values, named):
    with pytest.raises(InputError, match=named):
        recipes.from_dict(values)


def test_root_of_version_0_1_is_read_as_tau_from_files_and_from_the_command_line(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model": {"root": 3.0}}))
    assert recipes.load(path).model.tau == 3.0
    for words in (["--model.root", "1"], ["--model.root=1"], ["--model.tau", "1"]):
        assert parse(["train", *words], dict.fromkeys(OPTIONS, "")).settings == {"model.tau": 1.0}
    assert parse(["train", "--model.tau", "[2, 3]"], dict.fromkeys(OPTIONS, "")).settings[
        "model.tau"
    ] == [2.0, 3.0]
    assert "root" not in to_dict(recipes.load(path))["model"]


@pytest.mark.parametrize("tau", [0, [1.0], [1.0, 2.0, 3.0], [1.0, -1.0], float("inf")])
def test_a_tau_that_is_no_positive_number_or_pair_is_refused_by_name(tau):
    with pytest.raises(InputError, match=r"model\.tau must be positive, or a pair"):
        recipes.from_dict({"model": {"tau": tau}})


def test_yaml_number_without_a_point_is_a_number(tmp_path):
    # YAML 1.1 reads 5e-4 as text
    (tmp_path / "own.yaml").write_text("optim: {lr: 5e-4}\n")
    assert recipes.load(tmp_path / "own.yaml").optim.lr == 5e-4


@pytest.mark.parametrize("text", ["[1, 2]", "a: b: c", ""])
def test_file_that_holds_no_settings_is_refused(tmp_path, text):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(InputError, match=r"own\.yaml"):
        recipes.load(tmp_path / "own.yaml")


def test_missing_configuration_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no configuration file .*absent\.yaml"):
        recipes.load(tmp_path / "absent.yaml")


def test_recipe_with_a_base_holds_only_what_differs(tmp_path):
    (tmp_path / "own.yaml").write_text("base: voc2007_dinov2_s14\noptim: {epochs: 3}\n")
    own = recipes.load(tmp_path / "own.yaml")
    base = recipes.load(recipes.recipe_path("voc2007_dinov2_s14"))
    assert own.optim.epochs == 3
    assert dataclasses.replace(own.optim, epochs=base.optim.epochs) == base.optim
    assert (own.data, own.model, own.loss) == (base.data, base.model, base.loss)


@pytest.mark.parametrize(
    ("base", "named"),
    [("nonsense", "no recipe 'nonsense'"), ("voc2007_dinov2_s14_448", "has a base itself")],
)
def test_unusable_base_is_refused_by_name(base, named, tmp_path):
    (tmp_path / "own.yaml").write_text(f"base: {base}\n")
    with pytest.raises(InputError, match=named):
        recipes.load(tmp_path / "own.yaml")


def test_unknown_recipe_is_refused():
    with pytest.raises(InputError, match="no recipe 'nonsense'"):
        recipes.recipe_path("nonsense")


def test_own_recipe_is_taken_by_its_path(tmp_path):
    assert recipes.recipe_path(str(tmp_path / "own.yaml")) == tmp_path / "own.yaml"


def test_every_default_is_plain_json():
    assert json.loads(json.dumps(to_dict(TrainConfig()))) == to_dict(TrainConfig())
