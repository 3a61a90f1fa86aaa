"""Group-aware mixture of experts: from the tokens of a group to one logit per class.

Every prompt token of a group is an expert of that group. A small residual adapter gives each
expert its own view, a gate per class weighs the experts of the class's group, and a linear
classifier per class reads their mixture.

Source: Ma et al., CVPR 2025, section "Group-aware MoE"; the mixture is dense, no top-k routing.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlvpt.errors import InputError


class GroupExperts(nn.Module):
    """Experts, gates and class heads of one branch, CO or DC.

    With h the tokens, z the adapted tokens and g(k) the group of class k:

        z_t = h_t + W2_t GELU(W1_t h_t + b1_t) + b2_t       adapter, one per token t
        s_ke = <u_ke, h_(g(k), e)>                          gate score, on the raw token
        a_k = softmax_e(s_ke)                               gate weights
        logit_k = <w_k, sum_e a_ke z_(g(k), e)> + b_k
        gate logit_k = sum_e a_ke s_ke                      auxiliary output, trained too

    The sum over experts is taken after the product with w_k, which is the same number and never
    holds a (B, K, E, D) tensor: memory grows as B x K x E. Classes are processed group by group
    in tiles of equal size, as batched matrix products; a tile holds at most ceil(K / G) classes,
    so padding never more than doubles the work, however uneven the groups are.

    Args:
        assignment: (K,) group of each class, integers in [0, G).
        experts_per_group: E, prompt tokens of one group.
        embed_dim: D, width of a token.
        bottleneck: hidden width of an adapter.
        gate: "dense" (softmax over the experts), "mean" (equal weights, no gate), "top1" (the
            expert of the highest score, with the softmax gradient).

    Shape:
        tokens (B, G * E, D), group by group; token t belongs to group t // E and is its expert
        t % E. Returns logits (B, K), gate logits (B, K) or None without a gate, and gate weights
        (B, K, E) that sum to 1.
    """

    def __init__(
        self,
        assignment: np.ndarray,
        experts_per_group: int,
        embed_dim: int,
        *,
        bottleneck: int = 5,
        gate: str = "dense",
    ) -> None:
        super().__init__()
        if gate not in ("dense", "mean", "top1"):
            raise InputError(f"gate is {gate!r}: choose one of dense, mean, top1.")
        if experts_per_group < 1 or bottleneck < 1:
            raise InputError(
                f"experts_per_group is {experts_per_group} and bottleneck {bottleneck}: "
                "both must be at least 1."
            )
        assignment = torch.tensor(np.asarray(assignment), dtype=torch.long)
        self.n_groups, self.n_experts = int(assignment.max()) + 1, experts_per_group
        self.gate = gate
        n_classes, n_tokens = len(assignment), self.n_groups * experts_per_group
        self.down = nn.Parameter(torch.empty(n_tokens, embed_dim, bottleneck))
        self.down_bias = nn.Parameter(torch.zeros(n_tokens, 1, bottleneck))
        self.up = nn.Parameter(torch.empty(n_tokens, bottleneck, embed_dim))
        self.up_bias = nn.Parameter(torch.zeros(n_tokens, 1, embed_dim))
        # without a gate there is nothing to train in it
        self.gate_weight = (
            None
            if gate == "mean"
            else nn.Parameter(torch.empty(n_classes, experts_per_group, embed_dim))
        )
        self.weight = nn.Parameter(torch.empty(n_classes, embed_dim))
        self.bias = nn.Parameter(torch.zeros(n_classes))
        tile_group, tile_class, slot_of_class = _tiles(assignment, self.n_groups)
        self.register_buffer("tile_group", tile_group, persistent=False)
        self.register_buffer("tile_class", tile_class, persistent=False)
        self.register_buffer("slot_of_class", slot_of_class, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as torch's Linear does: uniform in +-1 / sqrt(inputs)."""
        for weight, fan_in in (
            (self.down, self.down.shape[1]),
            (self.up, self.up.shape[1]),
            (self.gate_weight, self.weight.shape[1]),
            (self.weight, self.weight.shape[1]),
        ):
            if weight is not None:
                nn.init.uniform_(weight, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        tokens = tokens.to(self.weight.dtype)  # the backbone may have another precision
        h = tokens.unflatten(1, (self.n_groups, self.n_experts))  # (B, G, E, D)
        z = self.adapt(tokens).unflatten(1, (self.n_groups, self.n_experts))  # (B, G, E, D)
        scores = self._gate_scores(h)  # (B, K, E)
        gates = self._gate_weights(scores)  # (B, K, E)
        weight = self.weight[self.tile_class]  # (tiles, m, D)
        expert_logits = torch.einsum("bted,tmd->btme", z[:, self.tile_group], weight)
        logits = (gates * self._by_class(expert_logits)).sum(-1) + self.bias  # (B, K)
        gate_logits = None if self.gate_weight is None else (gates * scores).sum(-1)
        return logits, gate_logits, gates

    def adapt(self, tokens: Tensor) -> Tensor:
        """Each expert's residual adapter on its own token: (B, P, D) -> (B, P, D)."""
        h = tokens.transpose(0, 1)  # (P, B, D): one matrix product per token
        hidden = F.gelu(torch.baddbmm(self.down_bias, h, self.down))
        return tokens + torch.baddbmm(self.up_bias, hidden, self.up).transpose(0, 1)

    def _gate_scores(self, h: Tensor) -> Tensor:
        if self.gate_weight is None:
            return h.new_zeros(len(h), len(self.weight), self.n_experts)
        weight = self.gate_weight[self.tile_class]  # (tiles, m, E, D)
        return self._by_class(torch.einsum("bted,tmed->btme", h[:, self.tile_group], weight))

    def _gate_weights(self, scores: Tensor) -> Tensor:
        soft = scores.softmax(dim=-1)
        if self.gate != "top1":
            return soft
        hard = F.one_hot(scores.argmax(dim=-1), self.n_experts).to(soft.dtype)
        return hard + soft - soft.detach()  # one expert forward, all of them in the gradient

    def _by_class(self, tiled: Tensor) -> Tensor:
        """From tiles with padding to classes in their own order: (B, tiles, m, E) -> (B, K, E)."""
        return tiled.flatten(1, 2)[:, self.slot_of_class]

    def extra_repr(self) -> str:
        classes, width = self.weight.shape
        return (
            f"classes={classes}, groups={self.n_groups}, experts_per_group={self.n_experts}, "
            f"embed_dim={width}, bottleneck={self.up.shape[1]}, gate={self.gate!r}"
        )


def _tiles(assignment: Tensor, n_groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut the classes into equal tiles, each within one group.

    Returns:
        tile_group (tiles,) the group of each tile; tile_class (tiles, m) the class in each slot,
        padded with class 0; slot_of_class (K,) the flat slot that holds each class.
    """
    n_classes = len(assignment)
    size = math.ceil(n_classes / n_groups)
    groups, classes = [], []
    for group in range(n_groups):
        members = torch.nonzero(assignment == group).flatten()
        for tile in members.split(size):
            groups.append(group)
            classes.append(F.pad(tile, (0, size - len(tile)), value=-1))
    tile_class = torch.stack(classes)  # (tiles, m)
    slots = torch.nonzero(tile_class.flatten() >= 0).flatten()
    slot_of_class = torch.empty(n_classes, dtype=torch.long)
    slot_of_class[tile_class.flatten()[slots]] = slots
    return torch.tensor(groups), tile_class.clamp(min=0), slot_of_class
