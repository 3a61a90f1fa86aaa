"""One vector per image, one linear classifier: the reading that most baselines share."""

from collections.abc import Sequence
from typing import Any, NoReturn

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mlvpt.classifier import MultiLabelClassifier
from mlvpt.errors import InputError
from mlvpt.model import MLVPTOutput
from mlvpt.prompts import PromptedViT, check_images


class PooledClassifier(MultiLabelClassifier):
    """A linear head on one pooled vector per image; subclasses decide what else is trained.

    Args:
        backbone: a timm name or a built VisionTransformer.
        class_names: K names.
        pool: "class" reads the class token, "patches" the mean of the patch tokens; None is the
            class token where the backbone has one. Both after the final norm.
        source: `pretrained`, `image_size`, `backbone_checkpoint`, see `MultiLabelClassifier`.

    Raises:
        InputError: unknown pool, or no class token to read.
    """

    def __init__(
        self,
        backbone: str | VisionTransformer,
        class_names: Sequence[str],
        *,
        pool: str | None = None,
        **source: Any,
    ) -> None:
        super().__init__(backbone, class_names, **source)
        (vit,) = self._built
        if pool is None:
            pool = "class" if vit.has_class_token else "patches"
        if pool not in ("class", "patches"):
            raise InputError(f"pool is {pool!r}: choose 'class' or 'patches'.")
        if pool == "class" and not vit.has_class_token:
            raise InputError("The backbone has no class token: choose pool='patches'.")
        self.options = {"pool": pool}
        self.head = nn.Linear(vit.embed_dim, len(self.class_names))
        # Zero, as for a new head in Dosovitskiy et al. (2021). Drawn at random it may repeat what
        # the backbone was trained under: with seed 0 the packaged one's own head came back.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def tokens(self, images: Tensor) -> Tensor:
        """What is pooled: (B, 3, H, W) -> (B, 1, D) class token or (B, N, D) patches, normed."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> MLVPTOutput:
        """Score every class: (B, 3, H, W) -> logits (B, K)."""
        pooled = self.tokens(images).mean(dim=1)  # (B, D)
        return MLVPTOutput(self.head(pooled.to(self.head.weight.dtype)))


class AttentionPromptedViT(PromptedViT):
    """Prompts that change attention itself, which timm's own blocks cannot run: no plain form.

    Attributes:
        change: method and what it does, for the message.
    """

    change: str

    def __init__(self, backbone: VisionTransformer, n_prompts: int, **options: Any) -> None:
        super().__init__(backbone, n_prompts, isolate_prompts=False, **options)
        if not self.has_prefix_form:
            self._refuse()

    def forward_plain(self, images: Tensor) -> Tensor:
        """Refused: it would leave out what these prompts change."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise InputError(
            f"{self.change} inside attention, so it has no plain form and needs timm's own Block "
            "and Attention with a plain Linear as attn.qkv: merge an adapter that stands there, or "
            "choose VPT."
        )


class FrozenPooledClassifier(PooledClassifier):
    """A pooled classifier whose backbone is frozen, in eval mode, inside a PromptedViT."""

    prompted: PromptedViT

    def prompt(self, n_prompts: int, kind: type[PromptedViT] = PromptedViT, **options: Any) -> None:
        """Put the backbone, frozen, in a PromptedViT that reads what is pooled."""
        self.prompted = kind(
            self._built.pop(), n_prompts, read=self.options["pool"], norm_output=True, **options
        )

    @property
    def prompted_vit(self) -> PromptedViT:
        """The frozen backbone with its prompts."""
        return self.prompted

    @property
    def vit(self) -> VisionTransformer:
        """The frozen timm model inside."""
        return self.prompted.backbone

    def tokens(self, images: Tensor) -> Tensor:
        return self.prompted(images)


class TunedPooledClassifier(PooledClassifier):
    """A pooled classifier that trains weights of the backbone itself.

    The backbone follows `.train()` here: its dropout and stochastic depth, if it has any, run
    while it is trained, as they did when its weights were made.
    """

    def __init__(
        self,
        backbone: str | VisionTransformer,
        class_names: Sequence[str],
        *,
        pool: str | None = None,
        **source: Any,
    ) -> None:
        super().__init__(backbone, class_names, pool=pool, **source)
        self.vit = self._built.pop()
        self.vit.attn_pool = None  # of a SigLIP; nothing reads it, so nothing could train it

    def tokens(self, images: Tensor) -> Tensor:
        check_images(self.vit, images)
        x = self.vit.fc_norm(self.vit.forward_features(images))  # (B, T, D)
        return x[:, :1] if self.options["pool"] == "class" else x[:, self.vit.num_prefix_tokens :]
