"""One block of a Vision Transformer with its prompts as a prefix of keys and values.

The result is exact. It costs less than prompts among the tokens, because some products are not
needed:

- In deep prompting, block l reads its own free parameters as prompts. They do not depend on the
  image, so their keys and values are computed once, not once per image, and stand as a prefix
  before the image tokens' keys and values.
- What a block makes of its prompts is thrown away (the next block brings its own), so blocks
  1..L-1 need no queries, no projection and no MLP for them.
- After the last block only the tokens that are read out matter: the image tokens need keys and
  values there, but no queries, projection or MLP.

Prompts have no position. In blocks with rotary position embeddings only patches are rotated, as
timm rotates neither class nor register tokens.

Source: Li and Liang, "Prefix-Tuning", ACL 2021, for keys and values as a prefix; the rest is ours.
"""

import torch
import torch.nn.functional as F
from timm.layers import AttentionRope
from timm.models.eva import EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn

from mlvpt.backbones import project_heads
from mlvpt.frozen_block import FrozenBlock, can_run_by_hand


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
    """The output of a block for some rows of the tokens x; these rows attend to all tokens.

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
    """Tokens that all images share, as a batch without a copy: (N, H, d) -> (B, N, H, d)."""
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
    """Whether the prefix form knows the forward pass of a block, line by line.

    Keys and values are rows of weights. Layers that peft or quantisation put in their place have
    no such rows.
    """
    if type(block) not in (Block, EvaBlock, EvaBlockPostNorm):
        return False
    attn = block.attn
    known = (Attention,) if type(block) is Block else (EvaAttention, AttentionRope)
    layers = (attn.q_proj, attn.k_proj, attn.v_proj) if attn.qkv is None else (attn.qkv,)
    return type(attn) in known and all(type(layer) is nn.Linear for layer in layers)
