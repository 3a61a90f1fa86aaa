"""Visual prompt tuning, and prompts with a learnable gate per block."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mlvpt.backbones import Backbone, rotations
from mlvpt.baselines.pooled import (
    AttentionPromptedViT,
    FrozenPooledClassifier,
    trained_depth,
)
from mlvpt.prefix import block_rows
from mlvpt.prompts import PromptedViT


class LinearProbe(FrozenPooledClassifier, methods=("linear_probe",)):
    """A linear classifier on the frozen backbone's pooled feature.

    Trained: K (D + 1) parameters. Source: the lower reference of Jia et al., ECCV 2022 ("linear").
    """


class VPT(FrozenPooledClassifier, methods=("vpt_shallow", "vpt_deep")):
    """Visual prompt tuning: prompt tokens in a frozen backbone, a linear head on its feature.

    Prompts attend to each other and to the image, and are not read out. Deep: L P D + K (D + 1)
    trained parameters; shallow: P D + K (D + 1).

    Args:
        n_prompts: P.
        depth: "deep", "shallow", or the number of last blocks that have prompts.
        backbone, class_names, shared: pool and the backbone's source, see
            `FrozenPooledClassifier`. The paper reads the class token.

    Source: Jia et al., "Visual Prompt Tuning", ECCV 2022.
    """

    settings = ("pool", "n_prompts")

    def __init__(
        self,
        backbone: str | Backbone,
        class_names: Sequence[str],
        *,
        n_prompts: int = 30,
        depth: str | int = "deep",
        **shared: Any,
    ) -> None:
        prompts = partial(PromptedViT, n_prompts=n_prompts, depth=depth, isolate_prompts=False)
        super().__init__(backbone, class_names, prompts=prompts, **shared)
        self.options |= {"n_prompts": n_prompts, "depth": depth}

    @classmethod
    def options_of(cls, config: Any) -> dict[str, Any]:
        depth = config.method.removeprefix("vpt_")
        if depth == "deep":
            depth = trained_depth(config)
        return {**super().options_of(config), "depth": depth}


class GatedPromptedViT(AttentionPromptedViT):
    """A PromptedViT with shallow prompts, a gate per block and a temperature per attention.

    The gate decides how far a block may change the prompts.

    With Z the tokens, P the prompts among them, g = sigmoid(gate) and t the temperature of a block:

        Z', P' = block(Z, P), attention scores divided by t
        P <- g P' + (1 - g) P

    The last block's prompts are not read, so L - 1 gates are trained. Temperatures are kept in
    [0.01, 10].
    """

    change = "GateVPT scales the scores"

    def __init__(
        self, backbone: Backbone, n_prompts: int, *, gate_init: float = -5.0, **options: Any
    ) -> None:
        super().__init__(backbone, n_prompts, depth="shallow", **options)
        n_blocks = len(backbone.blocks)
        self.gate = nn.Parameter(torch.full((n_blocks - 1,), gate_init))
        self.temperature = nn.Parameter(torch.ones(n_blocks))

    def forward(self, images: Tensor) -> Tensor:
        if not self.has_prefix_form:
            return self.forward_plain(images)
        x = self.embed(images)  # (B, T, D)
        n = self.n_prompts
        x = torch.cat([self.prompts[0].to(x.dtype).expand(len(x), -1, -1), x], dim=1)
        temperatures = self.temperature.clamp(0.01, 10)
        *blocks, last = self.backbone.blocks
        *turns, turn = rotations(self.backbone, n + self.backbone.num_prefix_tokens)
        for block, gate, temperature, rotation in zip(
            blocks, self.gate.sigmoid(), temperatures[:-1], turns, strict=True
        ):
            new = block_rows(block, x, slice(None), rotation, temperature=temperature)
            prompts = torch.lerp(x[:, :n], new[:, :n], gate.to(x.dtype))
            x = torch.cat([prompts, new[:, n:]], dim=1)
        return self._read_out(block_rows(last, x, self._rows, turn, temperature=temperatures[-1]))


class GateVPT(FrozenPooledClassifier, methods=("gate_vpt",)):
    """Shallow prompts with a learnable gate and attention temperature per block, linear head.

    Trained: P D + (L - 1) + L + K (D + 1) parameters.

    Args:
        n_prompts: P.
        gate_init: gates before the sigmoid, at the start. Default -5, official code: the prompts
            reach every block almost as they are.
        backbone, class_names, shared: pool and the backbone's source, see
            `FrozenPooledClassifier`.

    Source: Yoo et al., "Improving Visual Prompt Tuning for Self-supervised Vision Transformers",
    ICML 2023, sections 4.1 (gates) and 4.2 (adaptive attention shaping).
    """

    settings = ("pool", "n_prompts")

    def __init__(
        self,
        backbone: str | Backbone,
        class_names: Sequence[str],
        *,
        n_prompts: int = 30,
        gate_init: float = -5.0,
        **shared: Any,
    ) -> None:
        prompts = partial(GatedPromptedViT, n_prompts=n_prompts, gate_init=gate_init)
        super().__init__(backbone, class_names, prompts=prompts, **shared)
        self.options |= {"n_prompts": n_prompts, "gate_init": gate_init}
