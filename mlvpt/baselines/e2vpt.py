"""E2VPT: prompts among the tokens, prompts among keys and values, and pruning of the former."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mlvpt.baselines.pooled import (
    AttentionPromptedViT,
    FrozenPooledClassifier,
    trained_depth,
)
from mlvpt.errors import InputError


class KeyValuePromptedViT(AttentionPromptedViT):
    """A PromptedViT with deep prompts under masks of tokens and segments, and key-value prompts.

    Every attention gets further keys and values of its own, one parameter for both, which no
    projection of the backbone touches:

        prompts of block l:  P_l * token_mask * segment_mask
        attention of block l:  K <- [kv_l, K],  V <- [kv_l, V]

    Attributes:
        key_values: (L, P_kv, H, d) parameter, with n for L where the last n blocks have prompts.
        token_mask: (P, 1), segment_mask: (P, S) buffers of 0 and 1, the same in all blocks.
    """

    change = "E2VPT adds keys and values"

    def __init__(
        self,
        backbone: VisionTransformer,
        n_prompts: int,
        *,
        n_key_values: int = 5,
        n_segments: int = 16,
        **options: Any,
    ) -> None:
        super().__init__(backbone, n_prompts, **options)
        if self.depth == "shallow":
            raise InputError("depth is 'shallow', which E2VPT has not: choose 'deep' or a number.")
        if n_prompts < 1 or n_key_values < 1:
            raise InputError("E2VPT needs at least one prompt and one key-value prompt.")
        if n_segments < 1 or self.embed_dim % n_segments:
            raise InputError(
                f"n_segments is {n_segments}: it must divide the width {self.embed_dim}."
            )
        attn = backbone.blocks[0].attn
        shape = (len(self.prompts), n_key_values, attn.num_heads, attn.head_dim)
        bound = math.sqrt(6 / (n_key_values * attn.head_dim))  # Kaiming, as the official code
        self.key_values = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.register_buffer("token_mask", torch.ones(n_prompts, 1))
        self.register_buffer("segment_mask", torch.ones(n_prompts, n_segments))

    def block_inputs(self) -> list[tuple[Tensor, Tensor | None]]:
        mask = self.token_mask * self.segment_mask  # (P, S)
        by_segment = self.prompts.unflatten(-1, (mask.shape[1], -1))  # (L, P, S, D / S)
        return list(zip((by_segment * mask[..., None]).flatten(-2), self.key_values, strict=True))


class E2VPT(FrozenPooledClassifier, methods=("e2vpt",)):
    """Visual prompts and key-value prompts in a frozen backbone; pruning and rewinding.

    Two phases, with the usual training loop in each:

        1. train the model;
        2. `model.prune(batches, criterion)` sets the masks and puts every trained weight back to
           its value before training (rewinding); train again.

    Without the second phase it is the paper's "E2VPT without pruning". Trained: L P D +
    L P_kv D + K (D + 1), less L D per pruned token and L D / S per pruned segment (`n_effective`).

    Args:
        n_prompts: P.
        n_key_values: P_kv, default 5, official code.
        n_segments: S, segments of a prompt, default 16, official code.
        depth: "deep", or the number of last blocks that have prompts; then n stands for L.
        backbone, class_names, shared: pool and the backbone's source, see
            `FrozenPooledClassifier`. The paper reads the class token.

    Source: Han et al., "E2VPT: An Effective and Efficient Approach for Visual Prompt Tuning",
    ICCV 2023. Ours: a segment is a run of neighbouring dimensions, and masks are not trained in
    the first phase, only differentiated at its end.
    """

    settings = ("pool", "n_prompts")

    def __init__(
        self,
        backbone: str | VisionTransformer,
        class_names: Sequence[str],
        *,
        n_prompts: int = 30,
        n_key_values: int = 5,
        n_segments: int = 16,
        depth: str | int = "deep",
        **shared: Any,
    ) -> None:
        own = {"n_prompts": n_prompts, "n_key_values": n_key_values, "n_segments": n_segments}
        own["depth"] = depth
        prompts = partial(KeyValuePromptedViT, **own)
        super().__init__(backbone, class_names, prompts=prompts, **shared)
        self.options |= own
        # buffers: a model that was trained, saved and loaded must still know its start
        for name, parameter in list(self.trainable_parameters()):
            self.register_buffer(_initial(name), parameter.detach().clone())

    @classmethod
    def options_of(cls, config: Any) -> dict[str, Any]:
        return {**super().options_of(config), "depth": trained_depth(config)}

    @property
    def n_effective(self) -> int:
        """Trained parameters that the masks leave in use."""
        view = self.prompted
        kept = (view.token_mask * view.segment_mask).mean().item()  # share of prompt entries
        return self.n_trainable - round((1 - kept) * view.prompts.numel())

    def importance(
        self, batches: Iterable[tuple[Tensor, Tensor]], criterion: Callable[..., Tensor]
    ) -> tuple[Tensor, Tensor]:
        """How much the loss reacts to each mask: mean over batches of |d loss / d mask|.

        Args:
            batches: (images, targets) as `forward` and `criterion` take them.
            criterion: called as criterion(output, targets).

        Returns:
            (P,) for tokens and (P, S) for segments, both >= 0.
        """
        masks = self.prompted.token_mask, self.prompted.segment_mask
        totals, n_batches = [torch.zeros_like(mask) for mask in masks], 0
        for mask in masks:
            mask.requires_grad_(True)
        try:
            for images, targets in batches:
                gradients = torch.autograd.grad(criterion(self(images), targets), masks)
                for total, gradient in zip(totals, gradients, strict=True):
                    total += gradient.abs()
                n_batches += 1
        finally:
            for mask in masks:
                mask.requires_grad_(False)
        if n_batches == 0:
            raise InputError("Importance is measured on data: give at least one batch.")
        tokens, segments = (total / n_batches for total in totals)
        return tokens.squeeze(1), segments

    def prune(
        self,
        batches: Iterable[tuple[Tensor, Tensor]],
        criterion: Callable[..., Tensor],
        *,
        tokens: float = 0.5,
        segments: float = 0.5,
    ) -> None:
        """Mask the least important tokens, then segments of those that stay, and rewind.

        Args:
            batches, criterion: see `importance`.
            tokens: share of the P tokens to prune, in [0, 1); one always stays.
            segments: share of the remaining tokens' segments to prune, in [0, 1); one stays.
        """
        if not (0 <= tokens < 1 and 0 <= segments < 1):
            raise InputError(f"Shares to prune lie in [0, 1), not {tokens} and {segments}.")
        by_token, by_segment = self.importance(batches, criterion)
        view = self.prompted
        n_prompts, n_segments = view.segment_mask.shape
        view.token_mask.fill_(1)
        view.token_mask[by_token.argsort()[: int(tokens * n_prompts)]] = 0
        kept = view.token_mask.flatten().bool()  # (P,)
        ranked = by_segment.masked_fill(~kept[:, None], math.inf).flatten().argsort()
        view.segment_mask.fill_(1)
        view.segment_mask.view(-1)[ranked[: int(segments * kept.sum() * n_segments)]] = 0
        self.rewind()

    @torch.no_grad()
    def rewind(self) -> None:
        """Put every trained weight back to its value when the model was built; masks stay."""
        for name, parameter in self.trainable_parameters():
            parameter.copy_(getattr(self, _initial(name)))


def _initial(name: str) -> str:
    """Name of the buffer with a parameter's value before training."""
    return "initial_" + name.replace(".", "_")
