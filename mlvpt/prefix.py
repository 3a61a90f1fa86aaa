"""One block of a Vision Transformer with its prompts as a prefix of keys and values.

Exact, and cheaper than prompts among the tokens, because of what nothing reads:

- In deep prompting, block l reads its own free parameters as prompts. They do not depend on the
  image, so their keys and values are computed once, not once per image, and stand as a prefix
  before the image tokens' keys and values.
- What a block makes of its prompts is thrown away (the next block brings its own), so blocks
  1..L-1 need no queries, no projection and no MLP for them.
- After the last block only the tokens that are read out matter: the image tokens need keys and
  values there, but no queries, projection or MLP.

Source: Li and Liang, "Prefix-Tuning", ACL 2021, for keys and values as a prefix; the rest is ours.
"""

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn

from mlvpt import frozen_block


def image_block(
    block: Block, x: Tensor, prompts: Tensor, key_values: Tensor | None = None
) -> Tensor:
    """Image tokens through one block, with the prompts (P, D) as a prefix of keys and values."""
    prompts = prompts.to(x.dtype)
    if frozen_block.can_run(block, x):
        prefix = prefix_keys_and_values(block, prompts, key_values)
        return frozen_block.FrozenBlock.apply(x, *prefix, block)
    y = block.norm1(x)  # (B, T, D)
    (q,) = project_heads(block.attn, y, "q")  # (B, T, H, d)
    k, v = keys_and_values(block, y, prompts, key_values)  # (B, M + P + T, H, d)
    return finish_block(block, x, y, attend(q, k, v))


def last_block(
    block: Block,
    x: Tensor,
    prompts: Tensor,
    key_values: Tensor | None,
    rows: slice | None,
    isolate_prompts: bool,
) -> Tensor:
    """The last block, for the tokens that are read out: these rows of the image, or the prompts."""
    prompts, y, mask = prompts.to(x.dtype), block.norm1(x), None
    k, v = keys_and_values(block, y, prompts, key_values)
    if rows is not None:
        x, y = x[:, rows], y[:, rows]
        (q,) = project_heads(block.attn, y, "q")
        return finish_block(block, x, y, attend(q, k, v))
    if isolate_prompts:
        mask = last_mask(len(prompts), k.shape[1] - len(prompts) - x.shape[1], x)
    y = block.norm1(prompts)  # (P, D)
    (q,) = project_heads(block.attn, y, "q")
    x = prompts.expand(len(x), -1, -1)  # (B, P, D)
    return finish_block(block, x, y, attend(_share(q, x), k, v, mask))


def keys_and_values(
    block: Block, y: Tensor, prompts: Tensor, key_values: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Keys and values of the image tokens y, after those that all images share.

    Args:
        y: (B, T, D) normalised image tokens.
        prompts: (P, D), projected here once for all images.
        key_values: (M, H, d) keys and values in one, used as they are, or None.

    Returns:
        Keys and values, (B, M + P + T, H, d) each.
    """
    k, v = project_heads(block.attn, y, "kv")  # (B, T, H, d)
    prefix = prefix_keys_and_values(block, prompts, key_values)
    k, v = (
        torch.cat([_share(shared.to(own.dtype), y), own], dim=1) if len(shared) else own
        for shared, own in zip(prefix, (k, v), strict=True)
    )
    return k, v


def prefix_keys_and_values(
    block: Block, prompts: Tensor, key_values: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Keys and values that all images share, those given before the prompts': (M + P, H, d)."""
    k, v = project_heads(block.attn, block.norm1(prompts), "kv")  # (P, H, d)
    if key_values is None:
        return k, v
    return torch.cat([key_values.to(k.dtype), k]), torch.cat([key_values.to(v.dtype), v])


def project_heads(attn: Attention, y: Tensor, parts: str) -> list[Tensor]:
    """Queries, keys or values ("q", "kv", "qkv") of normalised tokens: (..., N, H, d) per part.

    Heads stay behind tokens, as the projection leaves them: attention reads either order, and no
    copy is needed on the way back. Queries are projected apart from keys and values where those
    are joined with a prefix, so that the tensor they came from is freed.
    """
    first, last = "qkv".index(parts[0]), "qkv".index(parts[-1]) + 1
    rows = slice(first * attn.attn_dim, last * attn.attn_dim)
    projected = F.linear(
        y, attn.qkv.weight[rows], None if attn.qkv.bias is None else attn.qkv.bias[rows]
    )
    heads = projected.unflatten(-1, (len(parts), attn.num_heads, attn.head_dim)).unbind(-3)
    norms = {"q": attn.q_norm, "k": attn.k_norm, "v": nn.Identity()}
    return [norms[part](tokens) for part, tokens in zip(parts, heads, strict=True)]


def _share(tokens: Tensor, batch: Tensor) -> Tensor:
    """What all images have in common, seen as a batch, no copy: (N, H, d) -> (B, N, H, d)."""
    return tokens.expand(len(batch), -1, -1, -1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention, heads joined again: (B, N, H, d) -> (B, N, H d)."""
    q, k, v = (tokens.transpose(1, 2) for tokens in (q, k, v))  # (B, H, N, d)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def finish_block(block: Block, x: Tensor, y: Tensor, attended: Tensor) -> Tensor:
    """What a block does after attention: norm and gate, projection, residual, MLP, residual."""
    attn = block.attn
    attended = attn.norm(attended)
    if getattr(attn, "gate", None) is not None:
        attended = attended * attn.gate(y).sigmoid()
    x = _add(x, block.ls1(attn.proj(attended)))
    return _add(x, block.ls2(block.mlp(block.norm2(x))))


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


def has_prefix_form(block: nn.Module) -> bool:
    """Only blocks whose forward pass is known, line by line, can be taken apart.

    Keys and values are rows of one weight: a layer that peft or quantisation put in its place
    has others.
    """
    known = type(block) is Block and type(block.attn) is Attention
    return known and type(block.attn.qkv) is nn.Linear
