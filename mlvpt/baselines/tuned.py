"""Baselines that change the backbone's weights: all of them, the biases, or by low-rank updates."""

from collections.abc import Sequence
from typing import Any

from timm.models.vision_transformer import VisionTransformer

from mlvpt.baselines.pooled import TunedPooledClassifier
from mlvpt.errors import InputError


class FullFineTuning(TunedPooledClassifier, methods=("full_finetuning",)):
    """Full fine-tuning: every weight of the backbone and a linear head are trained.

    Trained: all backbone parameters + K (D + 1). Source: the upper reference of Jia et al.,
    ECCV 2022 ("full").
    """

    trained = ("",)


class BitFit(TunedPooledClassifier, methods=("bitfit",)):
    """BitFit: only the backbone's biases and a linear head are trained.

    Trained: every parameter named bias (of patch embedding, norms, attention and MLP: for a plain
    ViT with MLP ratio 4, L (3 D + D + 4 D + D + 2 D) + 2 D = 11 L D + 2 D) + K (D + 1).

    Source: Ben Zaken et al., "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based
    Masked Language-models", ACL 2022.
    """

    trained = ("bias",)


class LoRA(TunedPooledClassifier, methods=("lora",)):
    """Low-rank updates of the attention projections, by the library peft, and a linear head.

    timm keeps queries, keys and values in one matrix, so one update of rank r serves all three:
    the weight becomes W + (alpha / r) B A with A (r, D) and B (3 D, r), B = 0 at the start.
    Trained: 4 L r D + K (D + 1) parameters. Where timm keeps three matrices, each has its own:
    6 L r D + K (D + 1).

    Args:
        rank: r. Default 8, ours.
        alpha: scale of the update. Default 8: B A itself.
        backbone, class_names, shared: pool and the backbone's source, see
            `FrozenPooledClassifier`.

    Raises:
        InputError: peft is not installed, or the backbone's attention does not call its layer.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
    """

    def __init__(
        self,
        backbone: str | VisionTransformer,
        class_names: Sequence[str],
        *,
        rank: int = 8,
        alpha: float = 8.0,
        **shared: Any,
    ) -> None:
        try:
            import peft
        except ImportError:
            raise InputError("LoRA needs the library peft: pip install mlvpt[lora].") from None
        super().__init__(backbone, class_names, **shared)
        self.options |= {"rank": rank, "alpha": alpha}
        attn = self.vit.blocks[0].attn
        if getattr(attn, "q_bias", None) is not None and not attn.qkv_bias_separate:
            raise InputError(
                "LoRA cannot reach the attention of this backbone, which multiplies by the weight "
                "of its qkv layer without calling it: choose BitFit, or prompts."
            )
        layers = ["qkv"] if attn.qkv is not None else ["q_proj", "k_proj", "v_proj"]
        blocks = range(self.first, len(self.vit.blocks))
        targets = [f"blocks.{i}.attn.{layer}" for i in blocks for layer in layers]
        update = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets)
        peft.inject_adapter_in_model(update, self.vit)
