"""A head with one query per class that attends to the patches of a frozen backbone."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mlvpt.backbones import build_backbone
from mlvpt.classifier import Output, PromptedClassifier
from mlvpt.errors import InputError
from mlvpt.prompts import PromptedViT


class QueryHead(PromptedClassifier, methods=("query_head",)):
    """A query head: one learnt query per class attends to the frozen patch tokens.

    With X the patch tokens and Q the K queries, one decoder layer without self-attention:

        M = ReLU(embed(X))
        Q <- norm(2 Q);  Q <- norm(Q + attention(Q, M, M));  Q <- norm(Q + MLP(Q))
        logit_k = <w_k, Q_k> + b_k

    Dropout of 0.1 on every branch, as in the paper; 2 Q is what is left where the paper removes
    self-attention. Trained: 13 D^2 + 16 D + K (2 D + 1) parameters, of which the last term alone
    grows with K.

    Args:
        n_heads: heads of the attention; None takes the backbone's.
        dropout: in [0, 1).
        backbone: a timm name or a built VisionTransformer.
        class_names: K names.
        source: `pretrained`, `image_size`, `backbone_checkpoint` of `build_backbone`.

    Source: Ridnik et al., "ML-Decoder: Scalable and Versatile Classification Head", WACV 2023,
    with learnt queries as in Liu et al., "Query2Label", arXiv 2107.10834.
    """

    def __init__(
        self,
        backbone: str | VisionTransformer,
        class_names: Sequence[str],
        *,
        n_heads: int | None = None,
        dropout: float = 0.1,
        **source: Any,
    ) -> None:
        vit, origin = build_backbone(backbone, **source)
        super().__init__(vit, origin, class_names)
        self.prompted = PromptedViT(vit, 0, read="patches", norm_output=True)
        width, n_classes = self.vit.embed_dim, len(self.class_names)
        n_heads = self.vit.blocks[0].attn.num_heads if n_heads is None else n_heads
        if width % n_heads:
            raise InputError(f"n_heads is {n_heads}: it must divide the width {width}.")
        self.options = {"n_heads": n_heads, "dropout": dropout}
        self.embed = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.queries = nn.Parameter(torch.randn(n_classes, width))
        self.attention = nn.MultiheadAttention(width, n_heads, dropout, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)
        bound = 1 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(n_classes, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(n_classes))

    def forward(self, images: Tensor) -> Output:
        """Score every class: (B, 3, H, W) -> logits (B, K)."""
        memory = self.embed(self.prompted(images).to(self.queries.dtype))  # (B, N, D)
        first, second, third = self.norms
        queries = self.queries.expand(len(images), -1, -1)  # (B, K, D)
        queries = first(queries + self.dropout(queries))
        found, _ = self.attention(queries, memory, memory, need_weights=False)
        queries = second(queries + self.dropout(found))
        queries = third(queries + self.dropout(self.mlp(queries)))
        return Output((queries * self.weight).sum(-1) + self.bias)
