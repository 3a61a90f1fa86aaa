"""The prefix form equals the plain form, and prompting leaves the backbone alone."""

import copy

import pytest
import torch
from timm.layers import GELUTanh, SwiGLU, SwiGLUPacked
from timm.models.vision_transformer import (
    ParallelScalingBlock,
    ResPostBlock,
    VisionTransformer,
)
from tiny_vits import tiny_vit
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mlvpt import frozen_block
from mlvpt.errors import InputError
from mlvpt.prompts import PromptedViT

FAMILIES = {
    "plain": {},
    "layer_scale": {"init_values": 0.3},
    "registers": {"reg_tokens": 4},
    "qk_norm": {"qk_norm": True},
    "attention_and_mlp_norm": {"scale_attn_norm": True, "scale_mlp_norm": True},
    "pre_norm": {"pre_norm": True},
    "no_class_token": {"class_token": False, "global_pool": "avg"},
    "patches_without_position_of_class": {"no_embed_class": True, "reg_tokens": 2},
    "swiglu": {"mlp_layer": SwiGLU},
    "swiglu_packed": {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU},
    "no_qkv_bias": {"qkv_bias": False},
    "non_square": {"img_size": (32, 16)},
    "no_final_norm": {"final_norm": False},
}


def images_for(vit: VisionTransformer, batch_size: int = 2, dtype=torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch_size, 3, *vit.patch_embed.img_size, generator=generator).to(dtype)


def both_forms(model: PromptedViT, images: torch.Tensor):
    """Outputs and prompt gradients of the prefix and of the plain form."""
    results = []
    for forward in (model.forward, model.forward_plain):
        model.prompts.grad = None
        tokens = forward(images)
        weights = torch.linspace(-1, 1, tokens.numel(), dtype=tokens.dtype).view_as(tokens)
        (tokens * weights).sum().backward()
        results.append((tokens.detach(), model.prompts.grad))
    return results


@pytest.mark.parametrize("isolate", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_prefix_form_equals_plain_form_to_1e_10_in_float64(family, isolate):
    vit = tiny_vit(**FAMILIES[family]).double()
    model = PromptedViT(vit, 5, isolate_prompts=isolate).double()
    assert model.has_prefix_form
    (fast, fast_grad), (plain, plain_grad) = both_forms(model, images_for(vit, dtype=torch.float64))
    torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(fast_grad, plain_grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("read", ["prompts", "class", "patches"])
@pytest.mark.parametrize("depth", ["deep", "shallow", 1, 2])
@pytest.mark.parametrize("isolate", [True, False])
def test_forms_agree_for_every_depth_and_reading(depth, read, isolate):
    vit = tiny_vit(reg_tokens=2, init_values=0.5).double()
    model = PromptedViT(vit, 4, depth=depth, read=read, isolate_prompts=isolate).double()
    (fast, fast_grad), (plain, plain_grad) = both_forms(model, images_for(vit, dtype=torch.float64))
    torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(fast_grad, plain_grad, rtol=1e-10, atol=1e-10)


def test_prompts_in_the_last_n_blocks_of_all_are_deep_prompts():
    vit = tiny_vit(depth=3)
    deep, last = PromptedViT(vit, 4), PromptedViT(vit, 4, depth=3)
    last.load_state_dict(deep.state_dict())
    assert torch.equal(last(images_for(vit)), deep(images_for(vit)))


@pytest.mark.parametrize("plain", [False, True])
def test_tokens_made_before_the_prompted_blocks_stand_for_the_images(plain):
    vit = tiny_vit(depth=4, reg_tokens=1)
    model = PromptedViT(vit, 3, depth=2)
    forward = model.forward_plain if plain else model.forward
    tokens = model.lower(images_for(vit))
    assert model.prompts.shape == (2, 3, 24)
    torch.testing.assert_close(forward(tokens), forward(images_for(vit)), rtol=1e-5, atol=1e-5)


def test_blocks_below_the_prompts_equal_timms():
    vit = tiny_vit(depth=4)
    images = images_for(vit).double()
    model = PromptedViT(vit.double(), 3, depth=2)
    tokens = vit.forward_intermediates(
        images,
        indices=[1],
        norm=False,
        intermediates_only=True,
        output_fmt="NLC",
        return_prefix_tokens=True,
    )[0]
    patches, prefix = tokens
    expected = torch.cat([prefix, patches], dim=1)
    torch.testing.assert_close(model.lower(images), expected, rtol=1e-10, atol=1e-10)


def test_blocks_below_the_prompts_keep_nothing_for_the_backward_pass():
    vit = tiny_vit(depth=4)
    assert not PromptedViT(vit, 3, depth=1).lower(images_for(vit)).requires_grad


def test_a_trained_weight_below_the_prompts_gets_its_gradient():
    vit = tiny_vit(depth=3)
    model = PromptedViT(vit, 3, depth=1)
    vit.blocks[0].mlp.fc1.bias.requires_grad_()
    model(images_for(vit)).sum().backward()
    assert vit.blocks[0].mlp.fc1.bias.grad.abs().max() > 0


@pytest.mark.parametrize("seed", range(12))
def test_forms_agree_on_random_configurations_in_float32(seed):
    draw = torch.Generator().manual_seed(seed)

    def choose(*options):
        return options[torch.randint(len(options), (1,), generator=draw).item()]

    vit = tiny_vit(
        embed_dim=choose(12, 24, 48),
        depth=choose(1, 2, 4),
        num_heads=choose(1, 2, 4),
        reg_tokens=choose(0, 1, 3),
        init_values=choose(None, 0.1),
        qk_norm=choose(False, True),
        img_size=choose(16, 32, (24, 40)),
    )
    model = PromptedViT(vit, choose(1, 2, 9), isolate_prompts=choose(True, False))
    (fast, fast_grad), (plain, plain_grad) = both_forms(model, images_for(vit, choose(1, 3)))
    assert (fast - plain).norm() <= 1e-5 * plain.norm()
    assert (fast_grad - plain_grad).norm() <= 2e-5 * plain_grad.norm()  # 1.1e-5 with torch 2.4


@pytest.fixture(params=["torch", "onednn"])
def product(request, monkeypatch):
    """Both products of the block written by hand, whichever this processor would take."""
    onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if request.param == "onednn" and onednn is None:
        pytest.skip("no oneDNN here")
    monkeypatch.setattr(frozen_block, "ONEDNN", onednn if request.param == "onednn" else None)


@pytest.mark.usefixtures("product")
@pytest.mark.parametrize("images_want_gradients", [False, True])
@pytest.mark.parametrize(
    "family", ["plain", "layer_scale", "registers", "no_qkv_bias", "gelu_tanh"]
)
def test_the_block_written_by_hand_equals_the_plain_form_to_1e_5(family, images_want_gradients):
    vit = tiny_vit(depth=4, **{**FAMILIES, "gelu_tanh": {"act_layer": GELUTanh}}[family])
    model = PromptedViT(vit, 5)
    images = images_for(vit, 3).requires_grad_(images_want_gradients)
    assert frozen_block.can_run_by_hand(vit.blocks[0], model.embed(images))
    (fast, fast_grad), (plain, plain_grad) = both_forms(model, images)
    assert (fast - plain).norm() <= 1e-5 * plain.norm()
    assert (fast_grad - plain_grad).norm() <= 1e-5 * plain_grad.norm()
    if images_want_gradients:
        fast_grad, plain_grad = (
            torch.autograd.grad(forward(images).square().sum(), images)[0]
            for forward in (model.forward, model.forward_plain)
        )
        assert (fast_grad - plain_grad).norm() <= 1e-5 * plain_grad.norm()


@pytest.mark.parametrize("family", ["qk_norm", "attention_and_mlp_norm", "swiglu", "swiglu_packed"])
def test_blocks_with_parts_that_the_hand_does_not_know_are_left_to_autograd(family):
    vit = tiny_vit(**FAMILIES[family])
    model = PromptedViT(vit, 5)
    assert not frozen_block.can_run_by_hand(vit.blocks[0], model.embed(images_for(vit)))


def test_a_block_with_a_trained_bias_is_left_to_autograd():
    vit = tiny_vit()
    model = PromptedViT(vit, 5)
    vit.blocks[0].mlp.fc1.bias.requires_grad_()
    model(images_for(vit)).sum().backward()
    assert vit.blocks[0].mlp.fc1.bias.grad.abs().max() > 0


@pytest.fixture
def unchecked():
    """The comparison with timm's block, to be made anew in the test and after it."""
    frozen_block.hand_equals_autograd.cache_clear()
    yield
    frozen_block.hand_equals_autograd.cache_clear()


def no_such_operation(*_, **__):
    raise RuntimeError("expected 5 arguments")


def wrong_by_a_factor(d, *_):
    return 2 * d


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "replacement"), [("FLASH", no_such_operation), ("_scaled", wrong_by_a_factor)]
)
def test_a_block_that_fails_or_differs_is_left_to_autograd_with_one_line(
    name, replacement, monkeypatch, caplog
):
    vit = tiny_vit()
    images = images_for(vit)
    monkeypatch.setattr(frozen_block, name, replacement)
    with caplog.at_level("WARNING"):
        model = PromptedViT(vit, 5, norm_output=True)
        (fast, fast_grad), (plain, plain_grad) = both_forms(model, images)
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fast_grad, plain_grad, rtol=1e-4, atol=1e-5)
    assert len(caplog.messages) == 1
    assert "The block written by hand cannot run here" in caplog.text


@pytest.mark.usefixtures("unchecked")
def test_the_block_written_by_hand_is_used_and_counted_under_a_flop_counter():
    vit = tiny_vit()
    model, images = PromptedViT(vit, 5), images_for(vit)
    with FlopCounterMode(display=False) as counter:
        model(images)
    assert frozen_block.hand_equals_autograd()
    assert counter.get_total_flops() > 0


@pytest.mark.usefixtures("unchecked")
def test_the_check_of_the_block_draws_no_number_of_the_run():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert frozen_block.hand_equals_autograd()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.usefixtures("product")
def test_inference_gives_what_training_gives():
    vit = tiny_vit(depth=4, img_size=64)
    model, images = PromptedViT(vit, 5), images_for(tiny_vit(img_size=64), 30)
    with torch.inference_mode():
        inferred = model(images)
    torch.testing.assert_close(inferred, model(images).detach(), rtol=1e-5, atol=1e-5)


def test_the_graph_can_be_gone_through_twice():
    vit = tiny_vit()
    model = PromptedViT(vit, 5)
    loss = model(images_for(vit)).square().sum()
    first, second = (
        torch.autograd.grad(loss, model.prompts, retain_graph=True)[0] for _ in range(2)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_the_prefix_form_keeps_at_most_four_fifths_for_the_backward_pass():
    vit = tiny_vit(img_size=56, patch_size=4, embed_dim=48, depth=12)
    model, images = PromptedViT(vit, 30), images_for(tiny_vit(img_size=56), 4)
    kept = []
    for forward in (model.forward, model.forward_plain):
        tensors = {}
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

        def keep(tensor, tensors=tensors):
            storage = tensor.untyped_storage()
            tensors[storage.data_ptr()] = storage
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            tokens = forward(images)
        kept.append(sum(s.nbytes() for pointer, s in tensors.items() if pointer not in weights))
        del tokens
    assert kept[0] <= 0.8 * kept[1]


def test_forms_agree_within_bfloat16_precision_under_autocast():
    vit = tiny_vit(embed_dim=48, depth=4)
    model = PromptedViT(vit, 6)
    exact = model.forward_plain(images_for(vit)).detach()
    with torch.autocast("cpu", torch.bfloat16):
        (fast, _), (plain, _) = both_forms(model, images_for(vit))
    error_of_fast, error_of_plain = (fast - exact).norm(), (plain - exact).norm()
    assert error_of_fast < 0.02 * exact.norm()
    assert error_of_fast < 2 * error_of_plain


@pytest.mark.parametrize("depth", ["deep", "shallow"])
def test_prompts_in_float32_join_a_backbone_of_another_dtype(depth):
    vit = tiny_vit().double()
    model = PromptedViT(vit, 4, depth=depth)
    assert model.prompts.dtype == torch.float32
    images = images_for(vit, dtype=torch.float64)
    torch.testing.assert_close(model(images), model.forward_plain(images), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("block", [ParallelScalingBlock, ResPostBlock])
def test_unknown_blocks_run_the_plain_form_and_say_so_once(block, caplog):
    vit = tiny_vit(block_fn=block)
    with caplog.at_level("INFO"):
        model = PromptedViT(vit, 4)
    assert sum("plain form" in record.message for record in caplog.records) == 1
    images = images_for(vit)
    torch.testing.assert_close(model(images), model.forward_plain(images))


@pytest.mark.parametrize("family", FAMILIES)
def test_without_prompts_the_tokens_are_those_of_timm(family):
    vit = tiny_vit(**FAMILIES[family])
    model = PromptedViT(copy.deepcopy(vit), 0, read="patches", norm_output=True)
    expected = vit.eval().fc_norm(vit.forward_features(images_for(vit)))[:, vit.num_prefix_tokens :]
    torch.testing.assert_close(model(images_for(vit)), expected, rtol=1e-5, atol=1e-5)


def test_permuting_the_batch_permutes_the_result():
    vit = tiny_vit()
    model, images = PromptedViT(vit, 4), images_for(vit, 5)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(model(images[order]), model(images)[order])


def test_one_image_at_a_time_equals_the_batch():
    vit = tiny_vit()
    model, images = PromptedViT(vit, 4), images_for(vit, 3)
    torch.testing.assert_close(torch.cat([model(image[None]) for image in images]), model(images))


def test_isolated_prompts_do_not_see_each_other():
    vit = tiny_vit()
    images = images_for(vit)
    changes = []
    for isolate in (True, False):
        model = PromptedViT(vit, 3, isolate_prompts=isolate)
        with torch.no_grad():
            before = model(images)[:, 0]
            model.prompts[-1, 1:] *= torch.linspace(
                -2, 2, 24
            )  # the other prompts of the last block
            changes.append((model(images)[:, 0] - before).abs().max().item())
    assert changes[0] == 0
    assert changes[1] > 1e-3


def test_frozen_backbone_stays_in_eval_and_untouched_after_a_training_step():
    vit = tiny_vit(pos_drop_rate=0.5, proj_drop_rate=0.5, drop_path_rate=0.5, attn_drop_rate=0.5)
    model = PromptedViT(vit, 4).train()
    before = copy.deepcopy(vit.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(images_for(vit)).sum().backward()
    optimizer.step()
    assert model.training
    assert not any(module.training for module in vit.modules())
    assert all(parameter.grad is None for parameter in vit.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in vit.state_dict().items())
    images = images_for(vit)
    torch.testing.assert_close(model(images), model.eval()(images), rtol=0, atol=0)


def test_a_projection_that_peft_put_in_runs_the_plain_form():
    peft = pytest.importorskip("peft")
    vit = tiny_vit()
    model, images = PromptedViT(vit, 3), images_for(vit)
    before = model(images)
    config = peft.LoraConfig(r=2, target_modules=["attn.qkv"], init_lora_weights=False)
    peft.inject_adapter_in_model(config, vit)
    assert not model.has_prefix_form
    assert not torch.allclose(model(images), before, atol=1e-2)


def test_the_prefix_form_compiles_as_one_graph():
    vit = tiny_vit(depth=2)
    model = PromptedViT(vit, 4)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images_for(vit)), model(images_for(vit)))
    torch._dynamo.reset()


def test_prompts_are_initialised_uniformly_within_the_bound_of_vpt():
    vit = tiny_vit(embed_dim=96, num_heads=3)
    model = PromptedViT(vit, 50)
    bound = (6 / (3 * 8 * 8 + 96)) ** 0.5
    assert model.prompts.shape == (3, 50, 96)
    assert 0.99 * bound < model.prompts.abs().max() <= bound
    assert abs(model.prompts.std().item() - bound / 3**0.5) < 0.01


def test_attention_on_patches_is_the_softmax_that_the_plain_form_uses():
    vit = tiny_vit(depth=1, num_heads=1, class_token=False, global_pool="avg")
    model = PromptedViT(vit, 2)
    images = images_for(vit)
    maps = model.attention(images)
    assert maps.shape == (2, 2, 4, 4)
    block = vit.blocks[0]
    tokens = torch.cat([model.prompts[0].expand(2, -1, -1), model.embed(images)], dim=1)
    q, k, _ = block.attn.qkv(block.norm1(tokens)).chunk(3, dim=-1)
    scores = q[:, :2] @ k.transpose(1, 2) / 24**0.5
    scores = scores.masked_fill(~model._mask(0, 2, 16, scores.device)[:2], -torch.inf)
    torch.testing.assert_close(maps.flatten(2), scores.softmax(-1)[..., 2:])


def test_wrong_image_size_names_both_sizes():
    model = PromptedViT(tiny_vit(), 2)
    with pytest.raises(InputError, match=r"\(B, 3, 32, 32\), not \(1, 3, 40, 32\)"):
        model(torch.zeros(1, 3, 40, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_prompts": 0}, "at least one prompt"),
        ({"n_prompts": 2, "depth": "middle"}, "depth is 'middle'"),
        ({"n_prompts": 2, "depth": 0}, "a number of blocks from 1 to 3"),
        ({"n_prompts": 2, "depth": 4}, "a number of blocks from 1 to 3"),
        ({"n_prompts": 2, "read": "all"}, "read is 'all'"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        PromptedViT(tiny_vit(), **options)


def test_reading_a_class_token_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="no class token"):
        PromptedViT(tiny_vit(class_token=False, global_pool="avg"), 2, read="class")


def test_a_module_that_is_no_vision_transformer_is_refused_with_what_works():
    with pytest.raises(InputError, match=r"not a plain Vision Transformer.*dinov2"):
        PromptedViT(nn.Conv2d(3, 8, 3), 2)
