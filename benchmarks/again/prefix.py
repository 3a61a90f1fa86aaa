"""One block of a Vision Transformer with its prompts as a prefix of keys and values.

Exact, and cheaper than prompts among the tokens, because of what nothing reads:

- In deep prompting, block l reads its own free parameters as prompts. They do not depend on the
  image, so their keys and values are computed once, not once per image, and stand as a prefix
  before the image tokens' keys and values.
- What a block makes of its prompts is thrown away (the next block brings its own), so blocks
  1..L-1 need no queries, no projection and no MLP for them.
- After the last block only the tokens that are read out matter: the image tokens need keys and
  values there, but no queries, projection or MLP.

Prompts have no position. In blocks with rotary position embeddings only patches are rotated, as
timm rotates neither class nor register tokens.

The second half, from `FrozenBlock` on, is the same block on the CPU with its backward pass written
by hand. Knowing that no weight wants a gradient saves what autograd cannot:

- The MLP goes a few images at a time, and its gradients are written over what is done with.
- No copy of keys and values with the prefix is kept for the backward pass.
- In the first block only the prefix wants a gradient, and only that is computed.
- With AVX-512, products run in oneDNN, which adds bias, residual or GELU while the product is still
  in the cache. On other processors torch's own product was faster.

Source: Li and Liang, "Prefix-Tuning", ACL 2021, for keys and values as a prefix; the rest is ours.
"""

import functools
import logging
import math

import torch
import torch.nn.functional as F
from timm.layers import GELU, AttentionRope, GELUTanh, LayerNorm, LayerScale, Mlp
from timm.models.eva import EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import flop_registry, register_flop_formula

from mlvpt.backbones import project_heads, projection, rotate

_logger = logging.getLogger(__name__)


def image_block(
    block: nn.Module,
    x: Tensor,
    prompts: Tensor,
    key_values: Tensor | None = None,
    rotation: Tensor | None = None,
) -> Tensor:
    """Image tokens through one block, with the prompts (P, D) as a prefix of keys and values."""
    prompts = prompts.to(x.dtype)
    if can_run_by_hand(block, x):
        prefix = prefix_keys_and_values(block, prompts, key_values)
        return FrozenBlock.apply(x, *prefix, rotation, block)
    y = normed(block, x)  # (B, T, D)
    (q,) = project_heads(block.attn, y, "q", rotation)  # (B, T, H, d)
    k, v = keys_and_values(block, y, prompts, key_values, rotation)  # (B, M + P + T, H, d)
    return finish_block(block, x, y, attend(q, k, v))


def last_block(
    block: nn.Module,
    x: Tensor,
    prompts: Tensor,
    key_values: Tensor | None,
    rotation: Tensor | None,
    rows: slice | None,
    isolate_prompts: bool,
) -> Tensor:
    """The last block, for the tokens that are read out: these rows of the image, or the prompts."""
    prompts, y, mask = prompts.to(x.dtype), normed(block, x), None
    k, v = keys_and_values(block, y, prompts, key_values, rotation)
    if rows is not None:
        x, y = x[:, rows], y[:, rows]
        (q,) = project_heads(
            block.attn, y, "q", None if rotation is None else rotation[..., rows, :]
        )
        return finish_block(block, x, y, attend(q, k, v))
    if isolate_prompts:
        mask = last_mask(len(prompts), k.shape[1] - len(prompts) - x.shape[1], x)
    y = normed(block, prompts)  # (P, D)
    (q,) = project_heads(block.attn, y, "q")
    x = prompts.expand(len(x), -1, -1)  # (B, P, D)
    return finish_block(block, x, y, attend(_share(q, x), k, v, mask))


def block_rows(
    block: nn.Module,
    x: Tensor,
    rows: slice,
    rotation: Tensor | None,
    mask: Tensor | None = None,
    temperature: Tensor | None = None,
) -> Tensor:
    """A block for these rows of the tokens x, which look at all of them.

    Args:
        rotation: of all tokens, see `project_heads`.
        mask: (N, N) True where attention is allowed.
        temperature: what attention scores are divided by.
    """
    y = normed(block, x)
    k, v = project_heads(block.attn, y, "kv", rotation)
    x, y, rotation = x[:, rows], y[:, rows], None if rotation is None else rotation[..., rows, :]
    (q,) = project_heads(block.attn, y, "q", rotation)
    q = q if temperature is None else q / temperature
    return finish_block(block, x, y, attend(q, k, v, None if mask is None else mask[rows]))


def keys_and_values(
    block: nn.Module,
    y: Tensor,
    prompts: Tensor,
    key_values: Tensor | None,
    rotation: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Keys and values of the image tokens y, after those that all images share.

    Args:
        y: (B, T, D) normalised image tokens.
        prompts: (P, D), projected here once for all images.
        key_values: (M, H, d) keys and values in one, used as they are, or None.
        rotation: of the T image tokens, see `project_heads`.

    Returns:
        Keys and values, (B, M + P + T, H, d) each.
    """
    k, v = project_heads(block.attn, y, "kv", rotation)  # (B, T, H, d)
    prefix = prefix_keys_and_values(block, prompts, key_values)
    k, v = (
        torch.cat([_share(shared.to(own.dtype), y), own], dim=1) if len(shared) else own
        for shared, own in zip(prefix, (k, v), strict=True)
    )
    return k, v


def prefix_keys_and_values(
    block: nn.Module, prompts: Tensor, key_values: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Keys and values that all images share, those given before the prompts': (M + P, H, d)."""
    k, v = project_heads(block.attn, normed(block, prompts), "kv")  # (P, H, d)
    if key_values is None:
        return k, v
    return torch.cat([key_values.to(k.dtype), k]), torch.cat([key_values.to(v.dtype), v])


def _share(tokens: Tensor, batch: Tensor) -> Tensor:
    """What all images have in common, seen as a batch, no copy: (N, H, d) -> (B, N, H, d)."""
    return tokens.expand(len(batch), -1, -1, -1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention, heads joined again: (B, N, H, d) -> (B, N, H d)."""
    q, k, v = (tokens.transpose(1, 2).to(v.dtype) for tokens in (q, k, v))  # (B, H, N, d)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def normed(block: nn.Module, x: Tensor) -> Tensor:
    """Tokens as the attention of a block reads them."""
    return x if type(block) is EvaBlockPostNorm else block.norm1(x)


def finish_block(block: nn.Module, x: Tensor, y: Tensor, attended: Tensor) -> Tensor:
    """What a block does after attention: norm and gate, projection, residual, MLP, residual."""
    attn = block.attn
    attended = attn.norm(attended)
    if getattr(attn, "gate", None) is not None:
        attended = attended * attn.gate(y).sigmoid()
    change = attn.proj(attended)
    if type(block) is EvaBlockPostNorm:
        x = _add(x, block.norm1(change))
        return _add(x, block.norm2(block.mlp(x)))
    if type(block) is Block:
        x = _add(x, block.ls1(change))
        return _add(x, block.ls2(block.mlp(block.norm2(x))))
    x = _add(x, change if block.gamma_1 is None else block.gamma_1 * change)
    change = block.mlp(block.norm2(x))
    return _add(x, change if block.gamma_2 is None else block.gamma_2 * change)


def _add(x: Tensor, change: Tensor) -> Tensor:
    """x + change, in the memory of `change`: no gradient needs what a frozen layer gave.

    Under autocast the residual stream is wider than a layer's output, and must stay so.
    """
    return change.add_(x) if change.dtype == x.dtype else x + change


def last_mask(n_prompts: int, n_key_values: int, x: Tensor) -> Tensor:
    """(P, M + P + T) True where a prompt may look: at itself, the key-values and the image."""
    allowed = torch.ones(n_prompts, n_key_values + n_prompts + x.shape[1], dtype=torch.bool)
    allowed[:, n_key_values : n_key_values + n_prompts] = torch.eye(n_prompts, dtype=torch.bool)
    return allowed.to(x.device)


def timm_block(
    block: nn.Module, x: Tensor, mask: Tensor | None, rotation: Tensor | None = None
) -> Tensor:
    """A block as timm runs it; `rotation` is of all tokens but the first num_prefix_tokens."""
    if rotation is None:
        return block(x, attn_mask=mask)
    return block(x, rope=rotation, attn_mask=mask)


def has_prefix_form(block: nn.Module) -> bool:
    """Only blocks whose forward pass is known, line by line, can be taken apart.

    Keys and values are rows of weights: a layer that peft or quantisation put in their place has
    others.
    """
    if type(block) not in (Block, EvaBlock, EvaBlockPostNorm):
        return False
    attn = block.attn
    known = (Attention,) if type(block) is Block else (EvaAttention, AttentionRope)
    layers = (attn.q_proj, attn.k_proj, attn.v_proj) if attn.qkv is None else (attn.qkv,)
    return type(attn) in known and all(type(layer) is nn.Linear for layer in layers)


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
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        _logger.warning(
            "The block written by hand cannot run here (%s): autograd's runs, slower, same result.",
            reason,
        )
        return False
    return True


class FrozenBlock(torch.autograd.Function):
    """(x, keys and values of the prefix, rotation, block) -> x after the block.

    x is (B, T, D); the prefix's keys and values are (P, H, d), the same for every image. The
    operations are those of `image_block`, one by one.
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
        for part in _parts(y):
            active = _product(y[part], mlp.fc1.weight, mlp.fc1.bias, gelu)
            out[part] = _add_product(middle[part], mlp.fc2, scale2, active)
        if any(ctx.needs_input_grad):
            x = x if ctx.needs_input_grad[0] else None
            saved = (*moments1, *moments2, attended, lse, middle, k_prefix, v_prefix)
            ctx.save_for_backward(x, qkv, rotation, *saved)
            ctx.block = block
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor | None, ...]:
        block = ctx.block
        attn, mlp = block.attn, block.mlp
        scale1, scale2 = _scales(block)
        x, qkv, rotation, mean1, rstd1, mean2, rstd2, *saved = ctx.saved_tensors
        attended, lse, middle, k_prefix, v_prefix = saved
        d_out, d_middle = d_out.contiguous(), torch.empty_like(middle)
        for part in _parts(middle):
            y = _norm(block.norm2, middle[part])[0]
            hidden = _product(y, mlp.fc1.weight, mlp.fc1.bias)  # (n, T, 4 D)
            d = _product(_scaled(d_out[part], scale2), mlp.fc2.weight.t())  # (n, T, 4 D)
            torch.ops.aten.gelu_backward.grad_input(
                d, hidden, approximate=GELUS[type(mlp.act)], grad_input=d
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
    """A few images at a time, so that no tensor of 4 D channels is made for all of them."""
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
