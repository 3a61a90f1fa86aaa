"""Building backbones by name or from a file, and refusing what cannot be prompted."""

import pytest
import timm
import torch
from packaging.version import Version
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from tiny_vits import tiny_model, tiny_vit

from mlvpt import backbones
from mlvpt.backbones import backbone_hash, check_promptable, create_backbone, reads_after_norm
from mlvpt.errors import InputError
from mlvpt.frozen_block import can_run_by_hand
from mlvpt.prompts import PromptedViT

TINY = "vit_tiny_patch16_224"


def tiny_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return timm.create_model(TINY, num_classes=0, img_size=64).state_dict()


def test_a_name_gives_an_eval_mode_vision_transformer_without_a_head():
    vit = create_backbone(TINY, pretrained=False)
    assert isinstance(vit, VisionTransformer)
    assert not vit.training
    assert isinstance(vit.head, torch.nn.Identity)


def test_image_size_resamples_the_grid():
    vit = create_backbone(TINY, pretrained=False, image_size=(96, 64))
    assert vit.patch_embed.grid_size == (6, 4)
    assert vit(torch.zeros(1, 3, 96, 64)).shape == (1, 192)


def test_the_scenes_backbone_comes_with_the_package_and_knows_its_normalisation():
    vit = create_backbone("scenes")
    assert vit.patch_embed.img_size == (48, 48)
    assert vit.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)


def test_the_hash_tells_frozen_weights_apart_and_leaves_trained_ones_out():
    vit, again = (create_backbone("scenes").requires_grad_(False) for _ in range(2))
    random = create_backbone("scenes", pretrained=False).requires_grad_(False)
    assert backbone_hash(vit) == backbone_hash(again) != backbone_hash(random)
    with torch.no_grad():
        again.blocks[0].norm1.bias += 1
    assert backbone_hash(vit) != backbone_hash(again)
    vit.blocks[0].norm1.bias.requires_grad_(True)
    again.blocks[0].norm1.bias.requires_grad_(True)
    assert backbone_hash(vit) == backbone_hash(again)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_base_patch16_244", "Did you mean.*vit_base_patch16_224"),
        ("no_such_thing_at_all", "Unknown backbone.*Any timm VisionTransformer"),
        ("vit_tiny_patch16_224.nonsense", "Unknown weights 'nonsense'.*augreg_in21k"),
        ("swin_base_patch4_window7_224", "SwinTransformer is not a plain Vision Transformer"),
        ("cvt_13", "Unknown backbone"),
        ("resnet50", "ResNet is not a plain Vision Transformer"),
    ],
)
def test_names_that_cannot_serve_are_refused_with_what_works(name, message):
    with pytest.raises(InputError, match=message):
        create_backbone(name)


def test_a_size_that_the_patches_do_not_divide_is_refused():
    with pytest.raises(InputError, match="not a multiple of the patch size"):
        create_backbone(TINY, pretrained=False, image_size=100)


def test_a_built_module_of_another_kind_is_refused():
    with pytest.raises(InputError, match="Linear is not a plain Vision Transformer"):
        check_promptable(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_weight_file_in_timm_names_loads_exactly(tmp_path, suffix):
    state, path = tiny_state(), tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    vit = create_backbone(TINY, image_size=64, checkpoint=path)
    assert all(torch.equal(vit.state_dict()[name], tensor) for name, tensor in state.items())


def test_a_moco_v3_checkpoint_loads_its_base_encoder_and_reports_the_rest(tmp_path, caplog):
    state, path = tiny_state(), tmp_path / "vit-moco.pth.tar"
    inner = {f"module.base_encoder.{name}": tensor for name, tensor in state.items()}
    inner |= {f"module.momentum_encoder.{name}": tensor + 1 for name, tensor in state.items()}
    inner["module.base_encoder.head.0.weight"] = torch.zeros(2, 2)
    torch.save({"epoch": 300, "arch": "vit", "state_dict": inner}, path)
    with caplog.at_level("WARNING"):
        vit = create_backbone(TINY, image_size=64, checkpoint=path)
    assert all(torch.equal(vit.state_dict()[name], tensor) for name, tensor in state.items())
    assert "1 unused keys: head.0.weight" in caplog.text
    assert not reads_after_norm(vit)
    assert vit.pretrained_cfg["mean"] == (0.485, 0.456, 0.406)  # not the name's own 0.5


@pytest.mark.parametrize("content", [torch.zeros(3), [torch.zeros(3)]])
def test_a_weight_file_without_names_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="not named tensors"):
        create_backbone(TINY, checkpoint=tmp_path / "weights.pth")


def test_a_weight_file_whose_positions_cannot_be_resampled_is_refused(tmp_path):
    state = tiny_state()
    state["pos_embed"] = state["pos_embed"][:, 1:4]  # three positions are no grid
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="does not fit the backbone"):
        create_backbone(TINY, image_size=64, checkpoint=tmp_path / "weights.pth")


def test_a_weight_file_with_missing_and_misshapen_keys_is_refused_by_name(tmp_path):
    state, path = tiny_state(), tmp_path / "weights.pth"
    del state["norm.weight"]
    state["norm.bias"] = torch.zeros(3)
    torch.save(state, path)
    with pytest.raises(
        InputError, match=r"missing \['norm.weight'\].*another shape \['norm.bias'\]"
    ):
        create_backbone(TINY, image_size=64, checkpoint=path)


class Payload:
    """Pickles to a call, as a malicious checkpoint would."""

    def __reduce__(self):
        return (print, ("code ran",))


def test_loading_a_weight_file_never_runs_code(tmp_path, capsys):
    path = tmp_path / "evil.pth"
    torch.save({"model": Payload()}, path)
    with pytest.raises(InputError, match="cannot be read as plain tensors"):
        create_backbone(TINY, checkpoint=path)
    assert "code ran" not in capsys.readouterr().out


def test_a_missing_weight_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent.pth does not exist"):
        create_backbone(TINY, checkpoint=tmp_path / "absent.pth")


def test_weights_that_cannot_be_fetched_name_the_remedies(monkeypatch):
    def unreachable(*arguments, pretrained=False, **keywords):
        if pretrained:
            raise OSError("Name or service not known")
        return original(*arguments, **keywords)

    original = timm.create_model
    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(InputError, match=r"could not be loaded.*backbone_checkpoint=FILE"):
        create_backbone(TINY)


@pytest.mark.parametrize(
    ("name", "after_norm"),
    [
        ("vit_base_patch16_224.augreg_in21k_ft_in1k", True),
        ("vit_base_patch16_224.augreg_in21k", False),
        ("vit_base_patch16_224.mae", False),
        ("vit_base_patch14_dinov2.lvd142m", True),
        ("vit_base_patch16_clip_224.openai", True),
        ("vit_base_patch16_siglip_224.webli", True),
        ("deit_base_patch16_224.fb_in1k", True),
    ],
)
def test_tokens_are_read_before_or_after_the_norm_as_the_official_code_does(name, after_norm):
    with torch.device("meta"):
        vit = timm.create_model(name, pretrained=False, num_classes=0)
    assert reads_after_norm(vit) is after_norm


@pytest.mark.parametrize("cfg", [None, {}, {"architecture": "vit_tiny_patch16_224", "tag": ""}])
def test_a_built_backbone_of_unknown_family_is_read_after_the_norm_and_says_so(cfg, caplog):
    vit = tiny_vit()
    vit.pretrained_cfg = cfg
    with caplog.at_level("WARNING"):
        prompted = PromptedViT(vit, 2)
    assert prompted.norm_output
    assert len(caplog.messages) == 1
    assert "after the final norm (norm_output=True)" in caplog.text


def test_a_known_family_and_a_choice_of_ones_own_need_no_warning(caplog):
    with caplog.at_level("WARNING"):
        PromptedViT(create_backbone("scenes"), 2)
        PromptedViT(create_backbone(TINY, pretrained=False), 2)
        PromptedViT(tiny_vit(), 2, norm_output=False)
    assert caplog.messages == []


FAMILY_NAMES = [
    "vit_base_patch16_224",  # supervised, MAE, MoCo v3
    "deit_base_patch16_224",
    "deit_base_distilled_patch16_224",  # a second special token
    "deit3_base_patch16_224",  # LayerScale, class token without position
    "vit_small_patch14_dinov2",  # patch 14, LayerScale
    "vit_base_patch14_reg4_dinov2",  # registers
    "vit_giant_patch14_dinov2",  # SwiGLU
    "vit_base_patch16_clip_quickgelu_224",  # norm before the blocks
    "vit_base_patch16_siglip_224",  # no class token
    "vit_base_patch16_siglip_gap_224",  # final norm after pooling
    "vit_so150m_patch16_reg4_gap_256",
    "vit_betwixt_patch16_reg1_gap_256",
    "vit_intern300m_patch14_448",
    "flexivit_base",
    "aimv2_large_patch14_224",  # RMSNorm, SwiGLU
    "beit3_base_patch16_224",  # norms inside attention and MLP
    "vit_base_patch16_rpn_224",  # norms after attention and MLP: plain form
    "vit_small_patch16_18x2_224",  # parallel branches: plain form
]


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_every_family_takes_prompts_and_without_them_gives_what_timm_gives(name):
    torch.manual_seed(0)
    vit = (
        timm.create_model(
            name,
            num_classes=0,
            depth=2,
            embed_dim=48,
            num_heads=4,
            img_size=(56, 28) if "14" in name else (64, 32),
        )
        .double()
        .eval()
    )
    images = torch.randn(2, 3, *vit.patch_embed.img_size, dtype=torch.float64)
    unprompted = vit.fc_norm(vit.forward_features(images))[:, vit.num_prefix_tokens :]
    plain = PromptedViT(vit, 0, read="patches", norm_output=True)
    torch.testing.assert_close(plain(images), unprompted)
    prompted = PromptedViT(vit, 3).double()
    tokens = prompted(images)
    assert tokens.shape == (2, 3, 48)
    torch.testing.assert_close(tokens, prompted.forward_plain(images), rtol=1e-9, atol=1e-9)


EVA_NAMES = [
    "vit_small_patch16_dinov3",  # LayerScale, no biases of queries, keys and values
    "vit_small_patch16_dinov3_qkvb",
    "vit_small_plus_patch16_dinov3",  # SwiGLU
    "vit_base_patch16_dinov3",
    "eva_giant_patch14_224",  # positions at the input alone
    "eva02_tiny_patch14_224",  # packed SwiGLU, and a projection each for queries, keys and values
    "eva02_base_patch14_224",  # norm inside the MLP
    "eva02_base_patch16_clip_224",  # norm after the heads are joined
    "eva02_enormous_patch14_clip_224",  # norms after attention and MLP
    "vit_pe_core_base_patch16_224",
    "vit_pe_lang_large_patch14_448",  # no class token
    "vit_pe_spatial_base_patch16_512",
    "vit_small_patch16_rope_224",
    "vit_small_patch16_rope_mixed_224",  # a rotation per block and head
    "vit_small_patch16_rope_ape_224",
    "vit_base_patch16_rope_mixed_ape_224",
    "vit_medium_patch16_rope_reg1_gap_256",
    "vit_small_patch16_lingbot",
    "vit_base_patch16_sapiens2",  # norms of queries and keys
]


def skip_what_this_timm_lacks(name: str) -> None:
    if not timm.is_model(name):
        pytest.skip(f"this timm has no {name}")
    if "mixed" in name and Version(timm.__version__) < Version("1.0.31"):
        pytest.skip("this timm makes mixed rotations in single precision alone")


def tiny_eva(name: str, image_size=None):
    skip_what_this_timm_lacks(name)
    # its full size has fewer heads of keys than of queries in the middle blocks alone
    options = {"num_kv_heads": (4, 2)} if "sapiens2" in name else {}
    return tiny_model(name, image_size, **options).double()


@pytest.mark.parametrize(
    ("name", "image_size"),
    [(name, None) for name in EVA_NAMES] + [(name, 112) for name in EVA_NAMES[::4]],
)
def test_rotary_families_without_prompts_give_what_timm_gives(name, image_size):
    vit = tiny_eva(name, image_size)
    images = torch.randn(2, 3, *vit.patch_embed.img_size, dtype=torch.float64)
    unprompted = vit.fc_norm(vit.forward_features(images))[:, vit.num_prefix_tokens :]
    model = PromptedViT(vit, 0, read="patches", norm_output=True)
    assert model.has_prefix_form
    for forward in (model, model.forward_plain):
        torch.testing.assert_close(forward(images), unprompted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in EVA_NAMES]
    + [(EVA_NAMES[0], {"depth": "shallow", "read": read}) for read in ("prompts", "class")]
    + [(EVA_NAMES[13], {"depth": depth, "read": "patches"}) for depth in ("shallow", "deep", 1)],
)
def test_rotary_families_give_the_same_in_both_forms_to_1e_10(name, options):
    vit = tiny_eva(name)
    images = torch.randn(2, 3, *vit.patch_embed.img_size, dtype=torch.float64)
    model = PromptedViT(vit, 3, **options).double()
    results = []
    for forward in (model, model.forward_plain):
        tokens = forward(images)
        weights = torch.linspace(-1, 1, tokens.numel(), dtype=tokens.dtype).view_as(tokens)
        results += [tokens, *torch.autograd.grad((tokens * weights).sum(), model.prompts)]
    torch.testing.assert_close(results[0], results[2], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(results[1], results[3], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", [EVA_NAMES[0], EVA_NAMES[9], EVA_NAMES[13], EVA_NAMES[14]])
def test_rotary_blocks_written_by_hand_equal_timms_in_float32(name):
    vit = tiny_model(name, depth=3)
    model, images = PromptedViT(vit, 3), torch.randn(2, 3, *vit.patch_embed.img_size)
    assert all(can_run_by_hand(block, model.embed(images)) for block in vit.blocks)
    results = []
    for forward in (model, model.forward_plain):
        tokens = forward(images)
        weights = torch.linspace(-1, 1, tokens.numel()).view_as(tokens)
        results += [tokens, *torch.autograd.grad((tokens * weights).sum(), model.prompts)]
    for fast, plain in zip(results[:2], results[2:], strict=True):
        assert (fast - plain).norm() <= 1e-5 * plain.norm()


@pytest.mark.parametrize("mixed", [False, True])
def test_prompts_of_rotary_families_have_no_position(mixed):
    name = "vit_small_patch16_rope_mixed_224" if mixed else "vit_small_patch16_rope_224"
    skip_what_this_timm_lacks(name)
    vit = tiny_model(name, 32, depth=1, num_heads=1, embed_dim=16).double()
    model = PromptedViT(vit, 2, isolate_prompts=False).double()
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    block, x = vit.blocks[0], model.embed(images)
    tokens = torch.cat([model.prompts[0][None], x], dim=1)
    q, k, _ = block.attn.qkv(block.norm1(tokens)).detach().tensor_split(3, dim=-1)
    k, table = k.clone(), vit.rope.get_embed()
    sine, cosine = table.reshape(4, 32).chunk(2, dim=-1)
    for i in range(4):  # pairs of channels (0, 1), (2, 3), ... turn by one angle
        patch = k[0, -4 + i].clone()
        turned = torch.stack([-patch[1::2], patch[::2]], dim=-1).flatten()
        k[0, -4 + i] = patch * cosine[i] + turned * sine[i]
    expected = (q[:, :2] @ k.transpose(1, 2) / 4).softmax(dim=-1)[..., -4:]
    torch.testing.assert_close(model.attention(images).flatten(2), expected)


def test_a_weight_file_of_a_rotary_family_loads_at_another_size(tmp_path):
    name, path = "vit_medium_patch16_rope_reg1_gap_256", tmp_path / "weights.safetensors"
    small = {"depth": 1, "embed_dim": 16, "num_heads": 1}
    state = timm.create_model(name, num_classes=0, img_size=64, **small).state_dict()
    save_file(state, path)
    vit = timm.create_model(name, num_classes=0, img_size=32, **small)
    backbones._load_checkpoint(vit, path)
    key = "blocks.0.attn.qkv.weight"
    assert torch.equal(vit.state_dict()[key], state[key])
