"""A frozen block with a prefix on the CPU, its backward pass written by hand.

The operations are those of prefix.image_block, one by one. Knowing that no weight wants a gradient
saves what autograd cannot:

- Matrix products run in oneDNN, which adds bias, residual or GELU while the product is still in the
  cache. torch itself uses it so for constant weights, when it compiles.
- The MLP goes a few images at a time, and its gradients are written over what is done with.
- No copy of keys and values with the prefix is kept for the backward pass.
- In the first block only the prefix wants a gradient, and only that is computed.

prefix.image_block remains the form for options not named here, for GPUs and for compilers.
"""

import math
import platform

import torch
from timm.layers import GELU, GELUTanh, LayerNorm, LayerScale, Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import flop_registry, register_flop_formula

GELUS = {nn.GELU: "none", GELU: "none", GELUTanh: "tanh"}  # as F.gelu names them
ROWS = 1600  # of an MLP at a time: more is no faster and takes more memory
# oneDNN's product, measured on x86 alone; torch builds without oneDNN do not have it
LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
if platform.machine() not in ("x86_64", "AMD64"):
    LINEAR = None
FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def can_run(block: Block, x: Tensor) -> bool:
    """Whether the block has only parts that are known here, all frozen, and x is on the CPU."""
    attn, mlp = block.attn, block.mlp
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == torch.float32 == attn.qkv.weight.dtype
        and LINEAR is not None
        and not torch.is_autocast_enabled("cpu")
        and all(type(norm) in (LayerNorm, nn.LayerNorm) for norm in (block.norm1, block.norm2))
        and all(type(part) is nn.Identity for part in (attn.q_norm, attn.k_norm, attn.norm))
        and getattr(attn, "gate", None) is None
        and all(type(scale) in (nn.Identity, LayerScale) for scale in (block.ls1, block.ls2))
        and type(mlp) is Mlp
        and type(mlp.norm) is nn.Identity
        and type(mlp.act) in GELUS
        and all(type(part) is nn.Linear for part in (attn.qkv, attn.proj, mlp.fc1, mlp.fc2))
        and not any(parameter.requires_grad for parameter in block.parameters())
    )


class FrozenBlock(torch.autograd.Function):
    """(x, keys and values of the prefix, block) -> x after the block.

    x is (B, T, D); the prefix's keys and values are (P, H, d), the same for every image.
    """

    @staticmethod
    def forward(ctx, x: Tensor, k_prefix: Tensor, v_prefix: Tensor, block: Block) -> Tensor:
        attn, mlp = block.attn, block.mlp
        gelu = GELUS[type(mlp.act)]
        y, *moments1 = _norm(block.norm1, x)  # (B, T, D)
        qkv = _linear(attn.qkv, y)  # (B, T, 3 H d)
        q, k, v = _join(qkv, k_prefix, v_prefix, attn.num_heads)
        attended, lse = FLASH(q, k, v)  # (B, H, T, d), (B, H, T)
        del q, k, v
        middle = _add_linear(x, attn.proj, block.ls1, attended.transpose(1, 2).flatten(2))
        y, *moments2 = _norm(block.norm2, middle)
        out = torch.empty_like(middle)
        if any(ctx.needs_input_grad):
            hidden = _linear(mlp.fc1, y)  # (B, T, 4 D)
            if not ctx.needs_input_grad[0]:  # the first block: of the image, queries will do
                x, qkv = None, qkv[..., : attn.attn_dim].contiguous()
            saved = (*moments1, *moments2, attended, lse, middle, hidden, k_prefix, v_prefix)
            ctx.save_for_backward(x, qkv, *saved)
            ctx.block = block
            for part in _parts(hidden):
                active = torch._C._nn.gelu(hidden[part], approximate=gelu)
                out[part] = _add_linear(middle[part], mlp.fc2, block.ls2, active)
        else:
            for part in _parts(y):
                active = _linear(mlp.fc1, y[part], gelu)
                out[part] = _add_linear(middle[part], mlp.fc2, block.ls2, active)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor | None, ...]:
        block = ctx.block
        attn, mlp = block.attn, block.mlp
        x, qkv, mean1, rstd1, mean2, rstd2, *saved = ctx.saved_tensors
        attended, lse, middle, hidden, k_prefix, v_prefix = saved
        d_out, d_middle = d_out.contiguous(), torch.empty_like(middle)
        for part in _parts(hidden):
            d = _linear_backward(mlp.fc2, _scale_backward(block.ls2, d_out[part]))  # (n, T, 4 D)
            torch.ops.aten.gelu_backward.grad_input(
                d, hidden[part], approximate=GELUS[type(mlp.act)], grad_input=d
            )
            d_middle[part] = _linear_backward(mlp.fc1, d)
        d_middle = _norm_backward(block.norm2, d_middle, middle, mean2, rstd2).add_(d_out)
        d_attended = _linear_backward(attn.proj, _scale_backward(block.ls1, d_middle))
        d_attended = d_attended.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)  # (B, H, T, d)
        if x is None:
            q = qkv.unflatten(-1, (attn.num_heads, -1))  # (B, T, H, d)
            d_prefix = _prefix_backward(d_attended, q, k_prefix, v_prefix, attended, lse)
            return None, *d_prefix, None
        q, k, v = _join(qkv, k_prefix, v_prefix, attn.num_heads)
        gradients = FLASH_BACKWARD(d_attended, q, k, v, attended, lse, 0.0, False)
        d_q, d_k, d_v = (gradient.transpose(1, 2) for gradient in gradients)  # (B, P + T, H, d)
        del q, k, v, gradients, d_attended
        n_prefix = len(k_prefix)
        d_prefix = (d[:, :n_prefix].sum(dim=0) for d in (d_k, d_v))  # (P, H, d)
        d_qkv = torch.stack((d_q, d_k[:, n_prefix:], d_v[:, n_prefix:]), dim=2).flatten(2)
        d_x = _norm_backward(block.norm1, _linear_backward(attn.qkv, d_qkv), x, mean1, rstd1)
        return d_x.add_(d_middle), *d_prefix, None


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
    """A few images at a time, so that no tensor of 4 D channels is made for all of them."""
    step = max(1, ROWS // x.shape[1])
    return [slice(start, start + step) for start in range(0, len(x), step)]


def _join(
    qkv: Tensor, k_prefix: Tensor, v_prefix: Tensor, n_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, and keys and values after the prefix's: (B, H, T, d), (B, H, P + T, d) twice."""
    q, k, v = qkv.unflatten(-1, (3, n_heads, -1)).unbind(2)  # (B, T, H, d)
    k, v = (
        torch.cat([prefix.expand(len(q), -1, -1, -1), tokens], dim=1)
        for prefix, tokens in ((k_prefix, k), (v_prefix, v))
    )
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


def _linear(linear: nn.Linear, x: Tensor, gelu: str = "") -> Tensor:
    """The linear layer, with the GELU of that name after it."""
    return LINEAR(x, linear.weight, linear.bias, "gelu" if gelu else "none", [], gelu)


def _add_linear(x: Tensor, linear: nn.Linear, scale: nn.Module, y: Tensor) -> Tensor:
    """x + scale(linear(y))."""
    if isinstance(scale, LayerScale):
        return torch.addcmul(x, _linear(linear, y), scale.gamma)
    return LINEAR.binary(y, x, linear.weight, linear.bias, "add")


def _linear_backward(linear: nn.Linear, d: Tensor) -> Tensor:
    return LINEAR(d, linear.weight.t(), None, "none", [], "")


def _scale_backward(scale: nn.Module, d: Tensor) -> Tensor:
    return d * scale.gamma if isinstance(scale, LayerScale) else d


def _norm(norm: nn.LayerNorm, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The normalised tokens, their means and inverse standard deviations."""
    return torch.native_layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _norm_backward(norm: nn.LayerNorm, d: Tensor, x: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
    return torch.ops.aten.native_layer_norm_backward(
        d, x, norm.normalized_shape, mean, rstd, norm.weight, norm.bias, [True, False, False]
    )[0]


# For torch.utils.flop_counter, which does not know these operations. A reloaded module, or another
# version of torch, counts them already.
if LINEAR is not None and LINEAR not in flop_registry:

    @register_flop_formula(LINEAR)
    def _count_linear(x_shape: tuple[int, ...], *_, out_shape: tuple[int, ...], **__) -> int:
        return 2 * math.prod(out_shape) * x_shape[-1]


if FLASH not in flop_registry:

    @register_flop_formula(FLASH)
    def _count_attention(q_shape: tuple[int, ...], k_shape: tuple[int, ...], *_, **__) -> int:
        return 4 * math.prod(q_shape) * k_shape[-2]  # (B, H, T, d) by (B, H, N, d), and by values
