"""MLVPT as its user meets it: outputs, views, predict, save and load."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import ModelCard
from PIL import Image
from tiny_vits import tiny_vit

from mlvpt import MLVPT, LabelGroups, MLVPTOutput
from mlvpt.backbones import create_backbone
from mlvpt.classifier import MultiLabelClassifier, Output
from mlvpt.errors import InputError
from mlvpt.losses import MLVPTLoss
from mlvpt.training.build import build_model
from mlvpt.training.config import ModelConfig

NAMES = ("ant", "bee", "cat", "dog", "elk")
GROUPS = LabelGroups(co=[0, 0, 1, 1, 2], dc=[0, 1, 2, 0, 1], n_groups=3, class_names=NAMES)


def small_model(**options) -> MLVPT:
    vit = tiny_vit()
    torch.manual_seed(0)
    return MLVPT(vit, GROUPS, **{"experts_per_group": 2, **options})


def random_images(n: int = 3) -> torch.Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def pictures(n: int = 3) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 40, 50, 3), dtype=np.uint8)
    return [Image.fromarray(array) for array in pixels]


def test_prediction_is_the_mean_of_both_views():
    out = small_model()(random_images())
    torch.testing.assert_close(out.logits, (out.co_logits + out.dc_logits) / 2)
    assert out.logits.shape == (3, 5)
    assert out.co_gates.shape == out.dc_gates.shape == (3, 5, 2)


def test_with_labels_the_answer_is_what_hugging_faces_trainer_reads():
    model, images = small_model(), random_images()
    targets = torch.randint(0, 2, (3, 5), generator=torch.Generator().manual_seed(1))
    answer = model(**{"images": images, "labels": targets})
    assert isinstance(answer, dict)
    output = model(images)
    assert torch.equal(answer["logits"], output.logits)
    torch.testing.assert_close(answer["loss"], MLVPTLoss()(output, targets))
    answer["loss"].backward()
    assert model.backbone.prompts.grad.abs().max() > 0


def test_hugging_faces_trainer_trains_and_evaluates_a_model(tmp_path):
    transformers = pytest.importorskip("transformers")
    model, images = small_model(), random_images(4)
    rows = [{"images": image, "labels": torch.ones(5, dtype=torch.long)} for image in images]
    before = model.backbone.prompts.detach().clone()
    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=2, report_to=[], disable_tqdm=True, use_cpu=True
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    assert not torch.equal(model.backbone.prompts, before)
    assert trainer.evaluate()["eval_loss"] > 0


def test_one_view_has_half_the_prompts_and_leaves_the_other_fields_empty():
    both, one = small_model(), small_model(views=("dc",))
    out = one(random_images())
    assert both.backbone.n_prompts == 2 * one.backbone.n_prompts == 12
    assert out.co_logits is out.co_gates is out.co_gate_logits is None
    assert torch.equal(out.logits, out.dc_logits)


def test_co_prompts_feed_only_co_logits_in_the_last_block():
    model, images = small_model(), random_images()
    with torch.no_grad():
        before = model(images)
        model.backbone.prompts[-1, :6] *= torch.linspace(-2, 2, 24)
        after = model(images)
    assert not torch.allclose(before.co_logits, after.co_logits)
    assert torch.equal(before.dc_logits, after.dc_logits)


def test_only_prompts_experts_and_gates_are_trained():
    model = small_model().train()
    MLVPTLoss()(model(random_images()), torch.randint(0, 2, (3, 5))).backward()
    trained = dict(model.trainable_parameters())
    assert all(name.startswith(("backbone.prompts", "experts.")) for name in trained)
    assert all(parameter.grad is not None for parameter in trained.values())
    assert not model.vit.training


def test_coco_on_vit_b_has_about_1_02_million_trainable_parameters():
    groups = LabelGroups(co=np.arange(80) % 5, dc=np.arange(80) % 5, n_groups=5)
    model = MLVPT("vit_base_patch16_224", groups, pretrained=False)
    assert 1.00e6 < model.n_trainable < 1.04e6


def test_permuting_classes_with_their_groups_permutes_the_logits():
    order = [3, 0, 4, 1, 2]
    names = [NAMES[k] for k in order]
    permuted_groups = LabelGroups(GROUPS.co[order], GROUPS.dc[order], 3, names)
    model, permuted = small_model(), MLVPT(tiny_vit(), permuted_groups, experts_per_group=2)
    state = model.trained_state()
    for name in state:
        if name.endswith(("gate_weight", ".weight", ".bias")):
            state[name] = state[name][order]
    permuted.load_trained_state(state)
    torch.testing.assert_close(
        permuted(random_images()).logits, model(random_images()).logits[:, order]
    )


def test_saving_and_loading_gives_the_same_logits_bit_by_bit(tmp_path):
    model = small_model(gate="top1", views=("co",), norm_output=False)
    model.save_pretrained(tmp_path)
    again = MLVPT.from_pretrained(tmp_path, backbone=tiny_vit())
    assert torch.equal(again(random_images()).logits, model(random_images()).logits)
    assert again.groups == model.groups
    assert again.class_names == model.class_names
    assert not again.training


def test_only_the_trained_part_is_written(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert (tmp_path / "model.safetensors").stat().st_size < 4 * model.n_trainable + 4096


def test_a_packaged_backbone_loads_by_name(tmp_path):
    model = MLVPT("scenes", GROUPS)
    model.save_pretrained(tmp_path)
    images = torch.zeros(1, 3, 48, 48)
    assert torch.equal(MLVPT.from_pretrained(tmp_path)(images).logits, model(images).logits)


def test_a_random_backbone_is_written_too_since_nothing_else_can_bring_it_back(tmp_path):
    model = MLVPT("vit_tiny_patch16_224", GROUPS, pretrained=False, image_size=32)
    model.save_pretrained(tmp_path)
    again = MLVPT.from_pretrained(tmp_path)
    assert torch.equal(again(random_images()).logits, model.eval()(random_images()).logits)


def test_another_backbone_is_refused_in_words(tmp_path):
    small_model().save_pretrained(tmp_path)
    other = tiny_vit()
    with torch.no_grad():
        other.blocks[0].attn.qkv.weight[0, 0] += 1e-3
    with pytest.raises(InputError, match="backbone's weights are not those"):
        MLVPT.from_pretrained(tmp_path, backbone=other)
    with pytest.raises(InputError, match="give it as backbone=MODULE"):
        MLVPT.from_pretrained(tmp_path)


def test_an_altered_weight_file_is_refused(tmp_path):
    small_model().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match="was altered after it was saved"):
        MLVPT.from_pretrained(tmp_path, backbone=tiny_vit())


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_missing_file_is_named(tmp_path, name):
    small_model().save_pretrained(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        MLVPT.from_pretrained(tmp_path, backbone=tiny_vit())


def test_a_configuration_that_is_not_ours_is_refused(tmp_path):
    small_model().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="not the configuration of a model of this package"):
        MLVPT.from_pretrained(tmp_path, backbone=tiny_vit())


def test_a_model_whose_class_is_not_defined_yet_names_what_to_import(tmp_path, monkeypatch):
    small_model().save_pretrained(tmp_path)
    monkeypatch.setattr(MultiLabelClassifier, "kinds", {})
    with pytest.raises(InputError, match="class MLVPT, which is not defined yet: import the modu"):
        MLVPT.from_pretrained(tmp_path, backbone=tiny_vit())


def test_a_method_of_ones_own_is_built_and_loaded_once_its_class_is_defined(tmp_path, monkeypatch):
    for registry in ("kinds", "methods"):  # put back what the class below changes
        monkeypatch.setattr(MultiLabelClassifier, registry, dict(getattr(MLVPT, registry)))

    class Own(MLVPT, methods=("own",)):
        pass

    config = ModelConfig(method="own", n_groups=3, experts_per_group=2)
    model = build_model(config, GROUPS, NAMES)
    model.save_pretrained(tmp_path)
    assert type(model) is type(MultiLabelClassifier.from_pretrained(tmp_path)) is Own


def test_every_option_of_the_settings_reaches_the_model():
    options = {
        "experts_per_group": 2,
        "bottleneck": 3,
        "views": ("dc",),
        "gate": "mean",
        "depth": "shallow",
        "isolate_prompts": False,
        "norm_output": False,
    }
    model = build_model(ModelConfig(**options, image_size=64), GROUPS, NAMES)
    assert model.options == {**options, "views": ["dc"]}
    assert model.image_size == (64, 64)


def test_start_from_begins_ml_vpt_with_saved_weights(tmp_path):
    settings = {"n_groups": 3, "experts_per_group": 2}
    first = build_model(ModelConfig(**settings), GROUPS, NAMES).eval()
    first.save_pretrained(tmp_path)
    second = build_model(ModelConfig(**settings, start_from=str(tmp_path)), GROUPS, NAMES).eval()
    images = torch.randn(2, 3, 48, 48)
    assert torch.equal(second(images).logits, first(images).logits)


def test_the_output_has_one_class_under_both_its_names():
    assert type(small_model()(random_images())) is Output is MLVPTOutput


def test_a_failed_save_leaves_the_old_model_whole(tmp_path, monkeypatch):
    model = small_model()
    model.save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()

    def full_disk(path, content):
        with path.open("wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    with pytest.raises(OSError, match="No space left"):
        model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2
    MLVPT.from_pretrained(tmp_path, backbone=tiny_vit())


def test_a_repository_that_cannot_be_fetched_is_named(monkeypatch):
    def offline(*arguments, **keywords):
        raise OSError("offline")

    monkeypatch.setattr("mlvpt.files.saved_model.snapshot_download", offline)
    with pytest.raises(InputError, match="someone/model is neither a folder nor a repository"):
        MLVPT.from_pretrained("someone/model")


def test_push_to_hub_uploads_the_two_files_and_a_card_with_the_librarys_tag(monkeypatch):
    uploaded = {}

    class FakeApi:
        def __init__(self, **keywords):
            pass

        def create_repo(self, repo_id, **keywords):
            return type("Url", (), {"repo_id": repo_id})

        def upload_folder(self, *, folder_path, **keywords):
            uploaded.update({path.name: path.read_bytes() for path in folder_path.iterdir()})

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", FakeApi)
    small_model().push_to_hub("someone/model")
    assert set(uploaded) == {"config.json", "model.safetensors", "README.md"}
    card = ModelCard(uploaded["README.md"].decode())
    assert card.data.library_name == "mlvpt"
    assert "from mlvpt.model import MLVPT\n" in card.text
    assert ", ".join(NAMES) in card.text


def test_predict_reports_classes_above_the_threshold_most_probable_first():
    model = small_model()
    everything = model.predict(pictures(), threshold=0)
    assert [list(found) == sorted(found, key=lambda n: -found[n]) for found in everything] == [
        True
    ] * 3
    assert all(set(found) == set(GROUPS.class_names) for found in everything)
    half = model.predict(pictures(), threshold=0.5)
    assert half == [{n: p for n, p in found.items() if p >= 0.5} for found in everything]


def test_predict_takes_one_picture_of_any_mode():
    model = small_model()
    for mode in ("RGB", "L", "RGBA", "P", "CMYK", "1"):
        assert len(model.predict(pictures(1)[0].convert(mode))) == 1


def test_predict_answers_the_same_for_one_picture_and_for_many():
    model = small_model()
    together = model.probabilities(pictures())
    alone = torch.cat([model.probabilities([picture]) for picture in pictures()])
    torch.testing.assert_close(together, alone)


def test_a_picture_that_fails_leaves_the_training_mode_as_it_was():
    model = small_model().train()
    with pytest.raises(InputError, match="no image file no picture"):
        model.probabilities(["no picture"])
    assert model.training


def test_a_backbone_of_another_dtype_feeds_the_experts():
    model = small_model()
    model.vit.double()
    out = model(random_images().double())
    assert out.logits.dtype == torch.float32
    assert torch.isfinite(out.logits).all()


@pytest.mark.parametrize("option", [{"image_size": 32}, {"backbone_checkpoint": "absent.pth"}])
def test_options_that_a_built_backbone_cannot_follow_are_refused(option):
    with pytest.raises(InputError, match="go with the name of a backbone"):
        small_model(**option)


def test_a_built_backbone_of_another_size_is_refused_when_loading(tmp_path):
    small_model().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="trained on images of 32 x 32 pixels"):
        MLVPT.from_pretrained(tmp_path, backbone=tiny_vit(img_size=(32, 16)))
    with pytest.raises(InputError, match="go with the name of a backbone"):
        MLVPT.from_pretrained(tmp_path, backbone=tiny_vit(), backbone_checkpoint="absent.pth")


def test_a_model_loaded_onto_its_built_backbone_can_be_saved_and_loaded_by_name(tmp_path):
    MLVPT("scenes", GROUPS).save_pretrained(tmp_path / "first")
    MLVPT.from_pretrained(tmp_path / "first", backbone=create_backbone("scenes")).save_pretrained(
        tmp_path / "second"
    )
    assert MLVPT.from_pretrained(tmp_path / "second").backbone_name == "scenes"


def test_predict_leaves_the_training_mode_as_it_was():
    model = small_model().train()
    model.predict(pictures(1))
    assert model.training


def test_a_threshold_that_is_no_probability_is_refused():
    with pytest.raises(InputError, match="threshold is 50"):
        small_model().predict(pictures(1), threshold=50)


def test_attention_has_a_map_per_view_and_group():
    maps = small_model().attention(random_images())
    assert maps.shape == (3, 2, 3, 4, 4)
    assert (maps >= 0).all()
    assert (maps.sum(dim=(-1, -2)) <= 1).all()


def moco_v3_file(folder: Path) -> Path:
    torch.manual_seed(0)
    state = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32).state_dict()
    state["norm.weight"] = torch.linspace(-2, 2, 192)
    inner = {f"module.base_encoder.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": inner}, folder / "moco.pth.tar")
    return folder / "moco.pth.tar"


def tokens_by_hand(model: MLVPT, images: torch.Tensor) -> torch.Tensor:
    """Prompt tokens after the last of timm's own blocks, before the final norm: (B, P, D)."""
    vit, prompts = model.vit, model.backbone.prompts
    x = vit.norm_pre(vit._pos_embed(vit.patch_embed(images)))
    for block, new in zip(vit.blocks, prompts, strict=True):
        x = block(torch.cat([new.expand(len(x), -1, -1), x], dim=1))
        tokens, x = x[:, : len(new)], x[:, len(new) :]
    return tokens


@pytest.mark.parametrize(
    ("name", "after_norm"),
    [
        ("vit_base_patch16_224.augreg_in1k", True),
        ("vit_base_patch16_224.augreg_in21k_ft_in1k", True),
        ("deit_base_patch16_224.fb_in1k", True),
        ("vit_small_patch14_dinov2.lvd142m", True),
        ("vit_base_patch16_224.augreg_in21k", False),
        ("vit_base_patch16_224.mae", False),
        ("moco_v3", False),
    ],
)
def test_logits_come_from_tokens_before_or_after_the_norm_as_the_family_wants(
    name, after_norm, tmp_path
):
    options = {"experts_per_group": 2, "isolate_prompts": False}
    if name == "moco_v3":
        source = {"image_size": 32, "backbone_checkpoint": moco_v3_file(tmp_path)}
        model = MLVPT("vit_tiny_patch16_224", GROUPS, **options, **source).eval()
        images = random_images()
    else:
        torch.manual_seed(0)
        size = 28 if "14" in name else 32
        shape = {"depth": 2, "embed_dim": 48, "num_heads": 4, "img_size": size}
        vit = timm.create_model(name, pretrained=False, num_classes=0, **shape)
        torch.nn.init.normal_(vit.norm.weight)  # far from 1, so that the norm cannot be missed
        model = MLVPT(vit, GROUPS, **options).eval()
        images = torch.randn(3, 3, size, size)
    tokens = tokens_by_hand(model, images)
    right, wrong = (model.vit.norm(tokens), tokens)[:: 1 if after_norm else -1]

    def logits(read):
        pairs = zip(model.experts.values(), read.chunk(2, dim=1), strict=True)
        return sum(experts(part)[0] for experts, part in pairs) / 2

    found = model(images).logits
    torch.testing.assert_close(found, logits(right), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, logits(wrong), rtol=1e-2, atol=1e-3)
    assert model.options["norm_output"] is after_norm


def test_unknown_views_are_refused():
    with pytest.raises(InputError, match="views is"):
        small_model(views=("both",))


def test_pictures_in_every_form_are_predicted_alike(tmp_path):
    model = small_model()
    array = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image, path = Image.fromarray(array), tmp_path / "a.png"
    image.save(path)
    tensor = torch.tensor(array).permute(2, 0, 1)
    expected = model.predict(image, threshold=0)
    forms = [path, str(path), array, tensor, [path], [array], array[None], tensor[None]]
    for form in [*forms, iter([image]), (image,)]:
        assert model.predict(form, threshold=0) == expected


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (None, "are a NoneType"),
        ({"a": 1}, "are a dict"),
        (b"png", "are a bytes"),
        ([None], "picture 0: .* NoneType"),
        (np.zeros((4, 4, 3)), "picture 0: .*uint8"),
        (torch.zeros(2, 3, 4, 4), "picture 0: .*uint8.*do not normalise"),
        (np.zeros((1, 2, 3, 4, 5), np.uint8), "shape"),
        ("absent.png", "there is no image file absent.png"),
        ([Image.new("RGB", (3, 3)), np.zeros((2, 2, 2), np.uint8)], "picture 1: .*shape"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_sentence(images, message):
    with pytest.raises(InputError, match=rf"^[^\n]*{message}[^\n]*$"):
        small_model().predict(images)


@pytest.mark.parametrize("threshold", [None, "0.5", -0.1, float("nan"), [0.5]])
def test_a_threshold_of_another_kind_is_refused(threshold):
    with pytest.raises(InputError, match="a probability lies in"):
        small_model().predict([], threshold=threshold)


@pytest.mark.parametrize("groups", [None, [0, 1], {"co": [0]}])
def test_groups_that_are_none_are_refused_with_a_remedy(groups):
    with pytest.raises(InputError, match=r"groups must be LabelGroups.*single_group"):
        MLVPT("vit_tiny_patch16_224", groups, pretrained=False)


@pytest.mark.parametrize("images", [None, [1], np.zeros((1, 3, 32, 32)), torch.zeros(1, dtype=int)])
def test_a_forward_pass_of_anything_but_floats_is_refused(images):
    with pytest.raises(InputError, match="normalised floats"):
        small_model()(images)
