import json
import zlib

import numpy as np
import pytest
import torch

from mlvpt import MLVPT, LabelGroups
from mlvpt.baselines import VPT, LinearProbe
from mlvpt.cli.main import main
from mlvpt.errors import InputError
from mlvpt.inference import web
from mlvpt.inference.export import export_model
from mlvpt.inference.web import export_web, rounded_to_half
from mlvpt.prefix import prefix_keys_and_values

GROUPS = LabelGroups([0, 0, 1], [0, 1, 1], 2, ("cup", "fork", "car"))


def mlvpt(**options):
    torch.manual_seed(0)
    return MLVPT("scenes", GROUPS, experts_per_group=2, **options).eval()


def vpt(**options):
    torch.manual_seed(1)
    return VPT("scenes", GROUPS.class_names, n_prompts=4, **options).eval()


def read(path):
    """The manifest, and a function that gives a tensor by name."""
    manifest = json.loads(path.with_suffix(".json").read_text())
    numbers = np.fromfile(path, "<f2").astype(np.float32)

    def tensor(name):
        start, *shape = manifest["tensors"][name]
        return numbers[start : start + int(np.prod(shape))].reshape(shape)

    return manifest, tensor


def test_manifest_names_groups_classes_and_the_checksum_of_the_weights(tmp_path):
    path = tmp_path / "model.bin"
    export_web([mlvpt()], path)
    manifest, _ = read(path)
    assert manifest["class_names"] == ["cup", "fork", "car"]
    (entry,) = manifest["models"]
    assert entry["groups"] == {"co": [0, 0, 1], "dc": [0, 1, 1]}
    assert (manifest["bytes"], int(manifest["crc32"], 16)) == (
        path.stat().st_size,
        zlib.crc32(path.read_bytes()),
    )


def test_prompts_are_stored_as_the_keys_and_values_of_each_block(tmp_path):
    model = mlvpt()
    export_web([model], tmp_path / "model.bin", ["ours"])
    _, tensor = read(tmp_path / "model.bin")
    rounded = rounded_to_half(model)
    for i, block in enumerate(rounded.vit.blocks):
        with torch.no_grad():
            keys, values = prefix_keys_and_values(block, rounded.backbone.prompts[i], None)
        np.testing.assert_allclose(tensor(f"ours/block{i}.keys"), keys.flatten(1), rtol=1e-3)
        np.testing.assert_allclose(tensor(f"ours/block{i}.values"), values.flatten(1), rtol=1e-3)


def test_models_share_one_copy_of_the_backbone(tmp_path):
    sizes = {}
    for name, models in {"one": [mlvpt()], "two": [mlvpt(), vpt()]}.items():
        export_web(models, tmp_path / name)
        sizes[name] = (tmp_path / name).stat().st_size
    assert sizes["two"] - sizes["one"] < 0.05 * sizes["one"]


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (lambda: mlvpt(gate="mean"), "dense gates only"),
        (lambda: mlvpt(depth="shallow"), "deep prompts"),
        (lambda: LinearProbe("scenes", ("a", "b")), "LinearProbe has no web format"),
    ],
)
def test_a_model_that_the_page_cannot_run_is_refused(model, complaint, tmp_path):
    path = tmp_path / "model.bin"
    with pytest.raises(InputError, match=complaint):
        export_web([model()], path)
    assert list(tmp_path.iterdir()) == []


def test_a_plain_vit_of_another_size_is_no_reason_to_refuse(tmp_path):
    model = MLVPT("vit_tiny_patch16_224.augreg_in21k", GROUPS, pretrained=False)
    export_web([model], tmp_path / "model.bin")
    assert read(tmp_path / "model.bin")[0]["image_size"] == [224, 224]


def test_models_with_different_classes_do_not_share_a_file(tmp_path):
    other = VPT("scenes", ("cup", "fork", "bus"), n_prompts=4)
    with pytest.raises(InputError, match="must share"):
        export_web([mlvpt(), other], tmp_path / "model.bin")


def test_a_model_that_half_precision_changes_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "TOLERANCE", 1e-9)
    with pytest.raises(InputError, match="half precision changes a probability"):
        export_web([mlvpt()], tmp_path / "model.bin")
    assert list(tmp_path.iterdir()) == []


def test_command_writes_weights_and_manifest_beside_each_other(tmp_path, capsys):
    mlvpt().save_pretrained(tmp_path / "saved")
    assert main(["export", str(tmp_path / "saved"), "--format", "web"]) == 0
    assert "model.bin: differs from the model by at most" in capsys.readouterr().out
    assert {"model.bin", "model.json"} <= {p.name for p in (tmp_path / "saved").iterdir()}


def test_a_web_file_is_exported_again_over_its_own_and_never_over_a_users(tmp_path):
    model = MLVPT("scenes", LabelGroups(co=[0, 0, 1], dc=[0, 1, 1], n_groups=2))
    for _ in range(2):
        export_model(model, tmp_path / "model.bin", "web")
    (tmp_path / "mine.json").write_text('{"mine": 1}')
    with pytest.raises(InputError, match=r"mine\.json exists and was not written by this package"):
        export_model(model, tmp_path / "mine.bin", "web")
    assert (tmp_path / "mine.json").read_text() == '{"mine": 1}'
