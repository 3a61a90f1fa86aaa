"""Files that a run left and that were edited, swapped or damaged since."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_runs import tiny_config

from mlvpt.cli import main as cli
from mlvpt.errors import InputError
from mlvpt.training import checkpoint, recipes
from mlvpt.training.build import load_model
from mlvpt.training.config import TrainConfig, flatten
from mlvpt.training.folder import RunFolder, read_split, read_summary, run_thresholds
from mlvpt.training.loop import train
from mlvpt.training.ranges import RANGES


def changed(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def run(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["class_names"].reverse(),
        lambda c: c["groups"]["co"].reverse() or c["groups"]["dc"].reverse(),
        lambda c: c.update(mean=[0.4, 0.5, 0.5]),
        lambda c: c.update(std=[0.4, 0.5, 0.5]),
        lambda c: c.update(image_size=[64, 64]),
        lambda c: c["options"].update(gate="mean"),
        lambda c: c.update(backbone_sha256="0"),
        lambda c: c.update(note="mine"),
    ],
)
def test_an_edited_model_configuration_is_refused(run, change):
    changed(run / "model" / "config.json", change)
    with pytest.raises(InputError, match=r"config\.json was (altered|damaged)"):
        load_model(run)


def test_the_configuration_of_another_model_is_refused(run):
    other = run / "other"
    model = load_model(run)
    model.mean = (0.1, 0.2, 0.3)
    model.save_pretrained(other)
    shutil.copy(other / "config.json", run / "model" / "config.json")
    with pytest.raises(InputError, match="was altered"):
        load_model(run)


def test_files_of_a_model_have_one_mode(run):
    load_model(run).save_pretrained(run / "again")
    assert len({path.stat().st_mode for path in (run / "again").iterdir()}) == 1


def test_a_model_is_not_saved_over_the_settings_of_a_run(run):
    with pytest.raises(InputError, match="was not written by this package"):
        load_model(run).save_pretrained(run)
    assert not (run / "model.safetensors").exists()


def test_settings_edited_after_the_run_are_noticed_by_evaluate(run, capsys):
    changed(run / "config.json", lambda c: c["optim"].update(lr=0.5))
    assert cli.main(["evaluate", str(run)]) == 2
    assert "optim.lr was 0.005, is 0.5" in capsys.readouterr().err


def test_settings_edited_before_a_resume_are_noticed(run):
    (run / "summary.json").unlink()
    changed(run / "config.json", lambda c: c["optim"].update(lr=0.5))
    with pytest.raises(InputError, match=r"optim\.lr was 0\.005, is 0\.5"):
        RunFolder(run).check(recipes.load(run / "config.json"), resume=True)


def test_a_run_whose_last_checkpoint_is_missing_is_not_begun_again(run, tiny_csv):
    (run / "summary.json").unlink()
    (run / "checkpoints" / "last.safetensors").unlink()
    with pytest.raises(InputError, match=r"last\.safetensors is missing"):
        train(tiny_config(tiny_csv), run, resume=True, progress=False)


def test_a_checkpoint_of_another_run_is_refused(run):
    weights, _ = checkpoint.load(run / "checkpoints" / "best.safetensors")
    with pytest.raises(InputError, match="is of another run"):
        checkpoint.copy_weights({}, weights, "best")


def test_a_complete_run_without_its_model_is_told_so(run):
    shutil.rmtree(run / "model")
    with pytest.raises(InputError, match="model is missing, and the run had one"):
        load_model(run)


def test_a_folder_with_a_users_files_is_no_place_for_a_run(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(InputError, match="holds model and no config"):
        RunFolder(tmp_path).check(TrainConfig(), resume=False)


@pytest.mark.parametrize(
    ("name", "read", "key"),
    [
        ("split.json", lambda run: read_split(run / "split.json"), "hash"),
        ("summary.json", lambda run: read_summary(run / "summary.json"), "results"),
        ("model/config.json", load_model, "mean"),
    ],
)
@pytest.mark.parametrize("damage", ["missing", "wrong", "a list"])
def test_state_that_does_not_fit_names_its_file_and_key(run, name, read, key, damage):
    content = json.loads((run / name).read_text())
    if damage == "missing":
        del content[key]
    content = [content] if damage == "a list" else content
    if damage == "wrong":
        content[key] = 3
    (run / name).write_text(json.dumps(content))
    with pytest.raises(InputError, match=Path(name).name) as error:
        read(run)
    assert damage == "a list" or key in str(error.value)


def test_thresholds_of_other_classes_are_refused(run):
    with pytest.raises(InputError, match="thresholds of other classes"):
        run_thresholds(run, ["cat", "dog"])


@pytest.mark.parametrize("name", ["own.yaml", "own.json"])
def test_a_key_that_stands_twice_is_refused_by_name_and_file(name, tmp_path):
    (tmp_path / name).write_text('{"optim": {"lr": 0.1, "epochs": 2, "lr": 0.2}}')
    with pytest.raises(InputError, match=rf"{name} .*'lr' stands twice"):
        recipes.load(tmp_path / name)


NUMBERS = [float("nan"), float("inf"), -float("inf"), -1, 10**30, 1e300, None, "x", [], {}, True]


@pytest.mark.parametrize("value", NUMBERS, ids=str)
def test_a_number_that_no_run_can_use_is_refused_by_name(value):
    for name in RANGES:
        section, key = name.split(".")
        if value is None and flatten(TrainConfig())[name] is None:
            continue
        with pytest.raises(InputError, match=name) as error:
            recipes.from_dict({section: {key: value}})
        assert not any(word in str(error.value) for word in ("typing", "Literal", "class", "\n"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
NAMES = st.sampled_from([*flatten(TrainConfig()), "optim.x", "x", "data"])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(NAMES, VALUES, max_size=3), st.binary(max_size=3), st.integers(0, 200))
def test_any_yaml_is_a_configuration_or_one_sentence(tmp_path_factory, flat, noise, place):
    nested = {}
    for name, value in flat.items():
        section, _, key = name.partition(".")
        if key and isinstance(nested.setdefault(section, {}), dict):
            nested[section][key] = value
        else:
            nested[section] = value
    path = tmp_path_factory.getbasetemp() / "own.yaml"
    content = yaml.safe_dump(nested, allow_unicode=True).encode("utf-8", "surrogatepass")
    path.write_bytes(content[:place] + noise + content[place:])
    said = "nothing"
    try:
        recipes.load(path)
    except InputError as error:
        said = str(error)
    assert said
    assert "\n" not in said


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_flipped_and_cut_bytes_of_weights_and_checkpoints_are_noticed(
    tiny_run, tmp_path_factory, data
):
    name = data.draw(st.sampled_from(["model/model.safetensors", "checkpoints/best.safetensors"]))
    content = bytearray((tiny_run / name).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[place:]
    path = tmp_path_factory.getbasetemp() / "damaged" / Path(name).name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    shutil.copy(tiny_run / "model" / "config.json", path.parent)
    with pytest.raises(InputError, match=path.name) as error:
        load_model(path.parent) if path.name[:5] == "model" else checkpoint.load(path)
    assert "\n" not in str(error.value)
