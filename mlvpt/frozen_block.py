"""A frozen block with prompts as a prefix, on the CPU: its backward pass written by hand.

It gives what `prefix.image_block` gives, faster, because no weight of it wants a gradient, which
autograd cannot know:

- The MLP goes a few images at a time, and its gradients are written over what is done with.
- No copy of keys and values with the prefix is kept for the backward pass.
- In the first block only the prefix wants a gradient, and only that is computed.
- With AVX-512, products run in oneDNN, which adds bias, residual or GELU while the product is still
  in the cache. On other processors torch's own product was faster.

Whoever wants to understand the method can skip this module.
"""

import functools
import logging
import math

import torch
import torch.nn.functional as F
from timm.layers import GELU, GELUTanh, LayerNorm, LayerScale, Mlp
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import flop_registry, register_flop_formula

from mlvpt.backbones import projection, rotate
from mlvpt.errors import first_line

_logger = logging.getLogger(__name__)

GELUS = {nn.GELU: "none", GELU: "none", GELUTanh: "tanh"}  # as F.gelu names them
ROWS = 1600  # of an MLP at a time: more is no faster and takes more memory
# decided by the vector unit, not by a clock: a run that goes on elsewhere must not change its sums
AVX512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if AVX512 else None
FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def can_run_by_hand(block: nn.Module, x: Tensor) -> bool:
    """Whether the block has only parts that are known here, all frozen, and x is on the CPU."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == torch.float32 == block.attn.proj.weight.dtype
        and not torch.is_autocast_enabled("cpu")
        and _has_known_parts(block)
        and not any(parameter.requires_grad for parameter in block.parameters())
        and hand_equals_autograd()
    )


def _has_known_parts(block: nn.Module) -> bool:
    attn, mlp = block.attn, block.mlp
    return (
        type(block) in (Block, EvaBlock)
        and all(type(norm) in (LayerNorm, nn.LayerNorm) for norm in (block.norm1, block.norm2))
        and all(type(part) is nn.Identity for part in (attn.q_norm, attn.k_norm, attn.norm))
        and getattr(attn, "gate", None) is None
        and getattr(attn, "num_kv_heads", attn.num_heads) == attn.num_heads
        and (
            type(block) is EvaBlock
            or all(type(scale) in (nn.Identity, LayerScale) for scale in (block.ls1, block.ls2))
        )
        and type(mlp) is Mlp
        and type(mlp.norm) is nn.Identity
        and type(mlp.act) in GELUS
        and all(type(part) is nn.Linear for part in (attn.proj, mlp.fc1, mlp.fc2))
    )


@functools.cache
def hand_equals_autograd() -> bool:
    """Whether `FrozenBlock` gives what timm's own block gives, tried once on a small block.

    The operations that it calls are torch's own affair and may change: the block that autograd
    differentiates runs then, slower, and a logged line says so.
    """
    try:
        with torch.random.fork_rng([]), torch.inference_mode(False), torch.enable_grad():
            block = Block(16, 2, device="cpu", dtype=torch.float32).requires_grad_(False)
            x, weights = torch.randn(2, 2, 5, 16, device="cpu")
            empty, results = x.new_empty(0, 2, 8), []
            for run in (lambda x: FrozenBlock.apply(x, empty, empty, None, block), block):
                leaf = x.clone().requires_grad_()
                y = run(leaf)
                (y * weights).sum().backward()
                results += [y, leaf.grad]
        output, gradient, expected, expected_gradient = results
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5)
    except (AssertionError, AttributeError, NotImplementedError, RuntimeError, TypeError) as error:
        _logger.warning(
            "The block written by hand cannot run here (%s): autograd's runs, slower, same result.",
            first_line(error),
        )
        return False
    return True


class FrozenBlock(torch.autograd.Function):
    """(x, keys and values of the prefix, rotation, block) -> x after the block.

    x is (B, T, D); the prefix's keys and values are (P, H, d), the same for every image. The
    operations are those of `prefix.image_block`, one by one.
    """

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        k_prefix: Tensor,
        v_prefix: Tensor,
        rotation: Tensor | None,
        block: nn.Module,
    ) -> Tensor:
        attn, mlp = block.attn, block.mlp
        gelu = GELUS[type(mlp.act)]
        scale1, scale2 = _scales(block)
        y, *moments1 = _norm(block.norm1, x)  # (B, T, D)
        qkv = _product(y, *projection(attn, "qkv"))  # (B, T, 3 H d)
        q, k, v = _join(qkv, k_prefix, v_prefix, attn, rotation)
        attended, lse = FLASH(q, k, v)  # (B, H, T, d), (B, H, T)
        if not ctx.needs_input_grad[0]:  # the first block: of the image, queries will do
            qkv = q.transpose(1, 2).flatten(2).contiguous() if any(ctx.needs_input_grad) else None
        del q, k, v
        middle = _add_product(x, attn.proj, scale1, attended.transpose(1, 2).flatten(2))
        y, *moments2 = _norm(block.norm2, middle)
        out = torch.empty_like(middle)
        if any(ctx.needs_input_grad):
            hidden = _product(y, mlp.fc1.weight, mlp.fc1.bias)  # (B, T, 4 D)
            x = x if ctx.needs_input_grad[0] else None
            saved = (*moments1, *moments2, attended, lse, middle, hidden, k_prefix, v_prefix)
            ctx.save_for_backward(x, qkv, rotation, *saved)
            ctx.block = block
            for part in _parts(hidden):
                active = torch._C._nn.gelu(hidden[part], approximate=gelu)
                out[part] = _add_product(middle[part], mlp.fc2, scale2, active)
        else:
            for part in _parts(y):
                active = _product(y[part], mlp.fc1.weight, mlp.fc1.bias, gelu)
                out[part] = _add_product(middle[part], mlp.fc2, scale2, active)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor | None, ...]:
        block = ctx.block
        attn, mlp = block.attn, block.mlp
        scale1, scale2 = _scales(block)
        x, qkv, rotation, mean1, rstd1, mean2, rstd2, *saved = ctx.saved_tensors
        attended, lse, middle, hidden, k_prefix, v_prefix = saved
        d_out, d_middle = d_out.contiguous(), torch.empty_like(middle)
        for part in _parts(hidden):
            d = _product(_scaled(d_out[part], scale2), mlp.fc2.weight.t())  # (n, T, 4 D)
            torch.ops.aten.gelu_backward.grad_input(
                d, hidden[part], approximate=GELUS[type(mlp.act)], grad_input=d
            )
            d_middle[part] = _product(d, mlp.fc1.weight.t())
        d_middle = _norm_backward(block.norm2, d_middle, middle, mean2, rstd2).add_(d_out)
        d_attended = _product(_scaled(d_middle, scale1), attn.proj.weight.t())
        d_attended = d_attended.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)  # (B, H, T, d)
        if x is None:
            q = qkv.unflatten(-1, (attn.num_heads, -1))  # (B, T, H, d)
            d_prefix = _prefix_backward(d_attended, q, k_prefix, v_prefix, attended, lse)
            return None, *d_prefix, None, None
        q, k, v = _join(qkv, k_prefix, v_prefix, attn, rotation)
        gradients = FLASH_BACKWARD(d_attended, q, k, v, attended, lse, 0.0, False)
        d_q, d_k, d_v = (gradient.transpose(1, 2) for gradient in gradients)  # (B, P + T, H, d)
        del q, k, v, gradients, d_attended
        n_prefix = len(k_prefix)
        d_prefix = (d[:, :n_prefix].sum(dim=0) for d in (d_k, d_v))  # (P, H, d)
        d_k, d_v = d_k[:, n_prefix:], d_v[:, n_prefix:]
        if rotation is not None:  # back by the same angles
            sine, cosine = rotation.chunk(2, dim=-1)
            back = torch.cat([-sine, cosine], dim=-1)
            d_q, d_k = rotate(attn, d_q, back), rotate(attn, d_k, back)
        d_qkv = torch.stack((d_q, d_k, d_v), dim=2).flatten(2)
        d_x = _product(d_qkv, projection(attn, "qkv")[0].t())
        d_x = _norm_backward(block.norm1, d_x, x, mean1, rstd1)
        return d_x.add_(d_middle), *d_prefix, None, None


def _prefix_backward(
    d_attended: Tensor, q: Tensor, k: Tensor, v: Tensor, attended: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the prefix's keys and values alone, (P, H, d) each."""
    scale = q.shape[-1] ** -0.5
    weights = torch.einsum("bthd,phd->bhtp", q, k).mul_(scale).sub_(lse.unsqueeze(-1)).exp_()
    d_v = torch.einsum("bhtp,bhtd->phd", weights, d_attended)
    d_scores = torch.einsum("bhtd,phd->bhtp", d_attended, v)
    d_scores.sub_((d_attended * attended).sum(dim=-1, keepdim=True)).mul_(weights).mul_(scale)
    return torch.einsum("bhtp,bthd->phd", d_scores, q), d_v


def _parts(x: Tensor) -> list[slice]:
    """Slices of a few images each, so that no tensor of 4 D channels is made for all of them."""
    step = max(1, ROWS // x.shape[1])
    return [slice(start, start + step) for start in range(0, len(x), step)]


def _join(
    qkv: Tensor, k_prefix: Tensor, v_prefix: Tensor, attn: nn.Module, rotation: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, and keys and values after the prefix's: (B, H, T, d), (B, H, P + T, d) twice."""
    q, k, v = qkv.unflatten(-1, (3, attn.num_heads, -1)).unbind(2)  # (B, T, H, d)
    if rotation is not None:
        q, k = rotate(attn, q, rotation), rotate(attn, k, rotation)
    k, v = (
        torch.cat([prefix.expand(len(q), -1, -1, -1), tokens], dim=1)
        for prefix, tokens in ((k_prefix, k), (v_prefix, v))
    )
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


def _scales(block: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    """What attention and MLP are multiplied with before the residual, None for 1."""
    if type(block) is EvaBlock:
        return block.gamma_1, block.gamma_2
    return getattr(block.ls1, "gamma", None), getattr(block.ls2, "gamma", None)


def _scaled(d: Tensor, scale: Tensor | None) -> Tensor:
    return d if scale is None else d * scale


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None, gelu: str = "") -> Tensor:
    """The linear layer with these weights, and the GELU of that name after it."""
    if ONEDNN is not None:
        return ONEDNN(x, weight, bias, "gelu" if gelu else "none", [], gelu)
    y = F.linear(x, weight, bias)
    return torch.ops.aten.gelu_(y, approximate=gelu) if gelu else y


def _add_product(x: Tensor, linear: nn.Linear, scale: Tensor | None, y: Tensor) -> Tensor:
    """x + scale * linear(y)."""
    if scale is not None:
        return torch.addcmul(x, _product(y, linear.weight, linear.bias), scale)
    if ONEDNN is not None:
        return ONEDNN.binary(y, x, linear.weight, linear.bias, "add")
    return F.linear(y, linear.weight, linear.bias).add_(x)


def _norm(norm: nn.LayerNorm, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The normalised tokens, their means and inverse standard deviations."""
    return torch.native_layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _norm_backward(norm: nn.LayerNorm, d: Tensor, x: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
    return torch.ops.aten.native_layer_norm_backward(
        d, x, norm.normalized_shape, mean, rstd, norm.weight, norm.bias, [True, False, False]
    )[0]


# For torch.utils.flop_counter, which does not know these operations. A reloaded module, or another
# version of torch, counts them already.
if ONEDNN is not None and ONEDNN not in flop_registry:

    @register_flop_formula(ONEDNN)
    def _count_linear(x_shape: tuple[int, ...], *_, out_shape: tuple[int, ...], **__) -> int:
        return 2 * math.prod(out_shape) * x_shape[-1]


if FLASH not in flop_registry:

    @register_flop_formula(FLASH)
    def _count_attention(q_shape: tuple[int, ...], k_shape: tuple[int, ...], *_, **__) -> int:
        return 4 * math.prod(q_shape) * k_shape[-2]  # (B, H, T, d) by (B, H, N, d), and by values
