"""Every baseline is what its paper says: what is trained, what is frozen, what is computed."""

import builtins
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from mlvpt.baselines import (
    BASELINES,
    E2VPT,
    VPT,
    BitFit,
    FullFineTuning,
    GateVPT,
    LinearProbe,
    LoRA,
    QueryHead,
)
from mlvpt.baselines.e2vpt import KeyValuePromptedViT
from mlvpt.classifier import MultiLabelClassifier
from mlvpt.errors import InputError
from mlvpt.losses import AsymmetricLoss, MLVPTLoss
from mlvpt.prompts import lower_tokens
from mlvpt.training.build import build_model
from mlvpt.training.config import ModelConfig

NAMES = ["cat", "dog", "cow", "hen"]
K, D, L, P, H = 4, 24, 3, 5, 2
HEAD = K * (D + 1)
PROMPTED = (LinearProbe, VPT, GateVPT, E2VPT, QueryHead)


def tiny_vit(**options) -> VisionTransformer:
    torch.manual_seed(0)
    defaults = {"img_size": 32, "patch_size": 8, "embed_dim": D, "depth": L, "num_heads": H}
    vit = VisionTransformer(**{**defaults, "num_classes": 0, **options})
    for parameter in vit.parameters():
        nn.init.trunc_normal_(parameter, mean=parameter.mean().item(), std=0.2)
    return vit.eval()


def make(kind, vit=None, **options) -> MultiLabelClassifier:
    prompts = {"n_prompts": P} if kind in (VPT, GateVPT, E2VPT) else {}
    segments = {"n_segments": 8} if kind is E2VPT else {}
    if kind is LoRA:
        pytest.importorskip("peft")
    model = kind(vit or tiny_vit(), NAMES, **prompts, **segments, **options)
    torch.manual_seed(1)
    for _, parameter in model.trainable_parameters():  # no zero hides a mistake
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def build(method: str, config: ModelConfig, names: list[str]) -> MultiLabelClassifier:
    return build_model(dataclasses.replace(config, method=method), None, names)


def images(n: int = 3) -> torch.Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def targets(n: int = 3) -> torch.Tensor:
    return torch.randint(0, 2, (n, K), generator=torch.Generator().manual_seed(3))


def plain_block(block, x, *, temperature=1.0, extra=None):
    """A transformer block by hand, with extra key-values (N, H, d) and scores / temperature."""
    y = block.norm1(x)
    q, k, v = block.attn.qkv(y).reshape(len(x), -1, 3, H, D // H).permute(2, 0, 3, 1, 4)
    if extra is not None:
        extra = extra.transpose(0, 1).expand(len(x), -1, -1, -1)  # (B, H, N, d)
        k, v = torch.cat([extra, k], dim=2), torch.cat([extra, v], dim=2)
    scores = q @ k.transpose(-1, -2) / (D // H) ** 0.5 / temperature
    x = x + block.attn.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    return x + block.mlp(block.norm2(x))


def image_tokens(vit, batch):
    return vit._pos_embed(vit.patch_embed(batch))


@pytest.mark.parametrize("method", BASELINES)
def test_build_makes_every_baseline_by_name_with_logits_of_all_classes(method):
    if method == "lora":
        pytest.importorskip("peft")
    model = build(method, ModelConfig(method=method, n_prompts=4), NAMES)
    assert type(model) is BASELINES[method]
    assert model(torch.zeros(2, 3, 48, 48)).logits.shape == (2, K)


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        (LinearProbe, {}, HEAD),
        (VPT, {"depth": "deep"}, L * P * D + HEAD),
        (VPT, {"depth": "shallow"}, P * D + HEAD),
        (GateVPT, {}, P * D + (L - 1) + L + HEAD),
        (E2VPT, {"n_key_values": 3}, L * P * D + L * 3 * D + HEAD),
        (BitFit, {}, 11 * L * D + 2 * D + HEAD),
        (LoRA, {"rank": 2}, 4 * L * 2 * D + HEAD),
        (E2VPT, {"n_key_values": 3, "depth": 1}, P * D + 3 * D + HEAD),
        (BitFit, {"depth": 1}, 11 * D + D + HEAD),
        (LoRA, {"rank": 2, "depth": 1}, 4 * 2 * D + HEAD),
        (FullFineTuning, {"depth": 1}, 12 * D * D + 13 * D + 2 * D + HEAD),
        (QueryHead, {}, 13 * D * D + 16 * D + K * (2 * D + 1)),
    ],
)
def test_number_of_trained_parameters_is_the_formula_of_the_docstring(kind, options, expected):
    assert make(kind, **options).n_trainable == expected


@pytest.mark.parametrize("seed", [0, 1])
def test_a_new_linear_head_knows_nothing_whatever_the_seed(seed):
    torch.manual_seed(seed)
    model = LinearProbe("scenes", [str(digit) for digit in range(10)], pool="patches")
    assert model(torch.randn(2, 3, 48, 48)).logits.abs().max() == 0


def test_full_fine_tuning_trains_every_weight():
    model = make(FullFineTuning)
    assert model.n_trainable == sum(p.numel() for p in model.parameters())


LAST_BLOCKS = [BitFit, LoRA, FullFineTuning, E2VPT]


@pytest.mark.parametrize("kind", LAST_BLOCKS)
def test_training_the_last_blocks_gives_the_same_from_images_and_from_kept_tokens(kind):
    model = make(kind, depth=2)
    tokens = lower_tokens(model.vit, images(), model.n_frozen_blocks)
    assert model.n_frozen_blocks == L - 2
    torch.testing.assert_close(model(images()).logits, model(tokens).logits)


@pytest.mark.parametrize("pool", ["class", "patches"])
@pytest.mark.parametrize("kind", [BitFit, FullFineTuning, LoRA])
def test_which_blocks_are_trained_does_not_change_what_a_model_computes(kind, pool):
    if kind is LoRA:
        pytest.importorskip("peft")
    whole = kind(tiny_vit(), NAMES, pool=pool)
    last = kind(tiny_vit(), NAMES, depth=1, pool=pool)
    torch.testing.assert_close(last.tokens(images()), whole.tokens(images()))


def test_a_backbone_whose_last_blocks_are_trained_stays_in_eval_mode():
    model = make(FullFineTuning, depth=1).train()
    assert model.training
    assert not any(module.training for module in model.vit.modules())


@pytest.mark.parametrize("kind", LAST_BLOCKS)
def test_depth_shallow_is_refused_by_methods_that_are_not_shallow(kind):
    with pytest.raises(InputError, match="choose 'deep' or a number"):
        make(kind, depth="shallow")


@pytest.mark.parametrize(("depth", "expected"), [(2, 2), ("deep", "deep"), ("shallow", "deep")])
def test_the_setting_depth_names_the_trained_blocks_of_a_tuned_backbone(depth, expected):
    model = build("bitfit", ModelConfig(depth=depth), NAMES)
    assert model.options["depth"] == expected


@pytest.mark.parametrize("kind", [*PROMPTED, BitFit, LoRA])
def test_a_step_changes_all_trained_parameters_and_no_frozen_one(kind):
    model = make(kind)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    trained = {n for n, _ in model.trainable_parameters()}
    optimizer = torch.optim.SGD([p for _, p in model.trainable_parameters()], lr=1.0)
    MLVPTLoss()(model(images()), targets()).backward()
    optimizer.step()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    # adding a constant to every key leaves attention as it is, so the key bias has no gradient,
    # but it is one third of a tensor that changes
    assert changed == trained


@pytest.mark.parametrize("kind", PROMPTED)
def test_frozen_backbones_stay_in_eval_mode_after_train(kind):
    model = make(kind, tiny_vit(drop_path_rate=0.5, proj_drop_rate=0.5)).train()
    assert model.training
    assert not any(module.training for module in model.vit.modules())


@pytest.mark.parametrize("kind", [FullFineTuning, BitFit, LoRA])
def test_backbones_whose_weights_are_trained_follow_train_mode(kind):
    model = make(kind, tiny_vit(proj_drop_rate=0.5))
    assert all(module.training for module in model.train().vit.modules())
    assert not any(module.training for module in model.eval().vit.modules())


@pytest.mark.parametrize("pool", ["class", "patches"])
def test_linear_probe_equals_timms_feature_times_a_matrix(pool):
    model = make(LinearProbe, pool=pool)
    tokens = model.vit.forward_features(images())
    feature = tokens[:, 0] if pool == "class" else tokens[:, 1:].mean(dim=1)
    expected = F.linear(feature, model.head.weight, model.head.bias)
    torch.testing.assert_close(model(images()).logits, expected, rtol=1e-5, atol=1e-5)


def test_pool_is_the_mean_of_patches_where_there_is_no_class_token():
    vit = tiny_vit(class_token=False, global_pool="avg")
    assert make(LinearProbe, vit).options["pool"] == "patches"
    with pytest.raises(InputError, match="no class token"):
        make(LinearProbe, vit, pool="class")


@pytest.mark.parametrize("depth", ["deep", "shallow"])
def test_vpt_reads_the_class_token_of_timm_blocks_over_class_prompts_and_patches(depth):
    model = make(VPT, depth=depth)
    prompts = model.prompted.prompts
    x = image_tokens(model.vit, images())
    patches, carried = x[:, 1:], prompts[0].expand(len(x), -1, -1)
    token = x[:, :1]
    for layer, block in enumerate(model.vit.blocks):
        if depth == "deep":
            carried = prompts[layer].expand(len(x), -1, -1)
        x = block(torch.cat([token, carried, patches], dim=1))
        token, carried, patches = x[:, :1], x[:, 1 : 1 + P], x[:, 1 + P :]
    expected = model.head(model.vit.norm(token[:, 0]))
    torch.testing.assert_close(model(images()).logits, expected, rtol=1e-5, atol=1e-5)


def test_gate_vpt_blends_each_blocks_prompts_with_those_before_it():
    model = make(GateVPT)
    view = model.prompted
    x = image_tokens(view.backbone, images())
    x = torch.cat([view.prompts[0].expand(len(x), -1, -1), x], dim=1)
    for layer, block in enumerate(view.backbone.blocks):
        new = plain_block(block, x, temperature=view.temperature[layer])
        if layer < L - 1:
            gate = view.gate[layer].sigmoid()
            prompts = gate * new[:, :P] + (1 - gate) * x[:, :P]
            new = torch.cat([prompts, new[:, P:]], dim=1)
        x = new
    expected = model.head(view.backbone.norm(x[:, P]))
    torch.testing.assert_close(model(images()).logits, expected, rtol=1e-5, atol=1e-5)


def test_gate_vpt_with_open_gates_and_temperature_one_is_shallow_vpt():
    gated = make(GateVPT)
    shallow = make(VPT, tiny_vit(), depth="shallow")
    gated.prompted.gate.data.fill_(50)
    gated.prompted.temperature.data.fill_(1)
    gated.load_state_dict(shallow.state_dict(), strict=False)
    torch.testing.assert_close(
        gated(images()).logits, shallow(images()).logits, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("pool", ["class", "patches"])
def test_e2vpt_joins_masked_prompts_to_the_tokens_and_key_values_to_keys_and_values(pool):
    model = make(E2VPT, pool=pool)
    view = model.prompted
    view.token_mask[1] = 0
    view.segment_mask[2, 3] = 0
    mask = (view.token_mask * view.segment_mask).repeat_interleave(D // 8, dim=1)  # (P, D)
    x = image_tokens(view.backbone, images())
    for layer, block in enumerate(view.backbone.blocks):
        prompts = (view.prompts[layer] * mask).expand(len(x), -1, -1)
        x = plain_block(block, torch.cat([prompts, x], dim=1), extra=view.key_values[layer])[:, P:]
    x = view.backbone.norm(x)
    expected = model.head(x[:, 0] if pool == "class" else x[:, 1:].mean(dim=1))
    torch.testing.assert_close(model(images()).logits, expected, rtol=1e-5, atol=1e-5)


def test_e2vpt_importance_is_the_mean_gradient_size_of_the_masks():
    model = make(E2VPT)
    criterion = MLVPTLoss(AsymmetricLoss(gamma_neg=0))  # focal weights would carry no gradient
    batches = [(images(2), targets(2)), (images(4), targets(4))]
    tokens, segments = model.importance(batches, criterion)
    step = 1e-2
    for mask, found, place in (
        (model.prompted.token_mask, tokens[1], (1, 0)),
        (model.prompted.segment_mask, segments[2, 3], (2, 3)),
    ):
        sizes = []
        for batch, labels in batches:
            losses = []
            for value in (1 + step, 1 - step):
                mask[place] = value
                losses.append(criterion(model(batch), labels).item())
            sizes.append(abs(losses[0] - losses[1]) / (2 * step))
            mask[place] = 1
        assert found.item() == pytest.approx(sum(sizes) / 2, rel=0.02, abs=1e-5)


def test_e2vpt_prunes_the_least_important_tokens_and_segments_and_rewinds():
    model = E2VPT(tiny_vit(), NAMES, n_prompts=P, n_segments=8)
    start = {n: p.detach().clone() for n, p in model.trainable_parameters()}
    for _, parameter in model.trainable_parameters():
        parameter.data += 0.1
    batches = [(images(), targets())]
    tokens, segments = model.importance(batches, MLVPTLoss())
    model.prune(batches, MLVPTLoss(), tokens=0.4, segments=0.25)
    view = model.prompted
    kept = view.token_mask.flatten() == 1
    assert set(torch.nonzero(~kept).flatten().tolist()) == set(tokens.argsort()[:2].tolist())
    masked = view.segment_mask == 0
    assert masked.sum() == 6  # a quarter of the 3 x 8 segments that stay
    assert segments[masked].max() <= segments[kept][view.segment_mask[kept] == 1].min()
    for name, parameter in model.trainable_parameters():
        assert torch.equal(parameter, start[name])
    assert model.n_effective == model.n_trainable - L * (2 * D + 6 * D // 8)


def test_e2vpt_rewinds_to_its_own_start_after_it_was_trained_saved_and_loaded(tmp_path):
    model = build("e2vpt", ModelConfig(n_prompts=P), NAMES)
    start = model.prompted.prompts.detach().clone()
    model.prompted.prompts.data += 1  # trained
    model.save_pretrained(tmp_path)
    loaded = E2VPT.from_pretrained(tmp_path)
    loaded.rewind()
    assert torch.equal(loaded.prompted.prompts, start)


@pytest.mark.parametrize("kind", [GateVPT, E2VPT])
def test_prompts_inside_attention_refuse_a_projection_that_peft_put_in(kind):
    peft = pytest.importorskip("peft")
    model = make(kind)
    with pytest.raises(InputError, match="no plain form"):
        model.prompted.forward_plain(images())
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=["attn.qkv"]), model.vit)
    with pytest.raises(InputError, match=r"merge an adapter"):
        model(images())
    with pytest.raises(InputError, match=r"merge an adapter"):
        make(kind, model.vit)


def test_e2vpt_attention_sees_masks_and_key_values():
    vit = tiny_vit()
    prompted = KeyValuePromptedViT(vit, P, n_segments=8)
    before = prompted.attention(images())
    with torch.no_grad():
        prompted.key_values[-1] *= 20
    shared = prompted.attention(images())
    prompted.token_mask[0] = 0
    assert before.shape == (3, P, 4, 4)
    assert not torch.allclose(before, shared)
    assert not torch.allclose(shared, prompted.attention(images()))


def test_pruned_prompts_get_no_gradient_so_their_loss_is_final():
    model = make(E2VPT)
    model.prune([(images(), targets())], MLVPTLoss(), tokens=0.4, segments=0.0)
    MLVPTLoss()(model(images()), targets()).backward()
    pruned = model.prompted.token_mask.flatten() == 0
    assert pruned.sum() == 2
    assert (model.prompted.prompts.grad[:, pruned] == 0).all()


def test_bitfit_trains_biases_and_the_head_alone():
    trained = {name for name, _ in make(BitFit).trainable_parameters()}
    assert "head.weight" in trained
    assert all(name.endswith("bias") for name in trained - {"head.weight"})
    assert {"vit.blocks.0.attn.qkv.bias", "vit.norm.bias", "vit.patch_embed.proj.bias"} <= trained


@pytest.mark.parametrize("kind", [FullFineTuning, BitFit])
def test_every_trained_weight_of_a_tuned_backbone_gets_a_gradient(kind):
    model = make(kind, tiny_vit(global_pool="map", class_token=False)).train()
    MLVPTLoss()(model(images()), targets()).backward()
    assert [n for n, p in model.trainable_parameters() if p.grad is None] == []


def test_lora_adds_a_low_rank_product_to_the_attention_projection():
    vit = tiny_vit()
    model = make(LoRA, vit, rank=2, alpha=6.0)
    batch = images()
    logits = model(batch).logits
    plain = tiny_vit()
    for block, tuned in zip(plain.blocks, model.vit.blocks, strict=True):
        qkv = tuned.attn.qkv
        a, b = qkv.lora_A["default"].weight, qkv.lora_B["default"].weight  # (2, D), (3 D, 2)
        block.attn.qkv.weight.data += 6.0 / 2 * b @ a
    expected = model.head(plain.forward_features(batch)[:, 0])
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_lora_begins_as_the_frozen_backbone():
    pytest.importorskip("peft")
    model = LoRA(tiny_vit(), NAMES).eval()
    expected = model.head(tiny_vit().forward_features(images())[:, 0])
    torch.testing.assert_close(model(images()).logits, expected, rtol=1e-5, atol=1e-5)


def test_lora_without_peft_names_the_extra_to_install(monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **keywords):
        if name == "peft":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=r"pip install mlvpt\[lora\]"):
        LoRA(tiny_vit(), NAMES)


def test_query_head_scores_a_class_by_its_own_query_alone():
    model = make(QueryHead)
    before = model(images()).logits
    model.queries.data[1] += 1
    after = model(images()).logits
    assert torch.equal(before[:, [0, 2, 3]], after[:, [0, 2, 3]])
    assert (before[:, 1] != after[:, 1]).all()


def test_query_head_does_not_depend_on_the_order_of_the_patches():
    model = make(QueryHead)
    tokens = model.prompted(images())
    shuffled = tokens.flip(1)
    model.prompted.forward = lambda _: shuffled
    permuted = model(images()).logits
    del model.prompted.forward
    torch.testing.assert_close(permuted, model(images()).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [*PROMPTED, FullFineTuning, BitFit, LoRA])
def test_a_saved_baseline_comes_back_with_the_same_logits(kind, tmp_path):
    model = make(kind)
    if kind is E2VPT:
        model.prune([(images(), targets())], MLVPTLoss())
    model.save_pretrained(tmp_path)
    again = MultiLabelClassifier.from_pretrained(tmp_path, backbone=tiny_vit())
    assert type(again) is kind
    assert torch.equal(again(images()).logits, model(images()).logits)


@pytest.mark.parametrize("kind", [LinearProbe, QueryHead])
def test_heads_in_float32_read_a_backbone_of_another_dtype(kind):
    model = make(kind)
    model.vit.double()
    assert model(images().double()).logits.dtype == torch.float32


@pytest.mark.parametrize("names", ["cat", [], ["a", "a"], [1, 2]])
def test_class_names_that_are_no_different_strings_are_refused(names):
    with pytest.raises(InputError, match=r"[Cc]lass name"):
        LinearProbe(tiny_vit(), names)


@pytest.mark.parametrize("kind", [VPT, BitFit, LoRA])
def test_a_saved_baseline_refuses_another_backbone(kind, tmp_path):
    make(kind).save_pretrained(tmp_path)
    other = tiny_vit()
    other.blocks[0].attn.qkv.weight.data += 1
    with pytest.raises(InputError, match="backbone's weights are not those"):
        MultiLabelClassifier.from_pretrained(tmp_path, backbone=other)


def test_start_from_begins_a_baseline_with_saved_weights_and_masks(tmp_path):
    config = ModelConfig(method="e2vpt", n_prompts=4)
    first = build("e2vpt", config, NAMES)
    batch, labels = torch.randn(2, 3, 48, 48), torch.ones(2, K)
    first.prune([(batch, labels)], MLVPTLoss())
    first.save_pretrained(tmp_path)
    second = build("e2vpt", ModelConfig(n_prompts=4, start_from=str(tmp_path)), NAMES)
    assert second.prompted.token_mask.sum() == 2
    torch.testing.assert_close(second.eval()(batch).logits, first.eval()(batch).logits)


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: build("vpt", ModelConfig(), NAMES), "Unknown method 'vpt'"),
        (lambda: make(LinearProbe, pool="mean"), "pool is 'mean'"),
        (lambda: E2VPT(tiny_vit(), NAMES, n_segments=7), "n_segments is 7"),
        (lambda: make(E2VPT).prune([], MLVPTLoss()), "at least one batch"),
        (lambda: make(E2VPT).prune([], MLVPTLoss(), tokens=1.0), "lie in"),
        (lambda: make(QueryHead, n_heads=5), "n_heads is 5"),
        (lambda: make(FullFineTuning)(torch.zeros(1, 3, 16, 16)), "reads images of shape"),
    ],
)
def test_bad_options_are_refused_with_one_sentence(attempt, message):
    with pytest.raises(InputError, match=message):
        attempt()
