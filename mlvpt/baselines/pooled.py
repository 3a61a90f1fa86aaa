"""Classifiers with a linear head on one pooled vector per image, the base of most baselines."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, NoReturn

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mlvpt.backbones import Origin, build_backbone
from mlvpt.classifier import MultiLabelClassifier, Output, PromptedClassifier
from mlvpt.errors import InputError
from mlvpt.prompts import PromptedViT, check_images

WITHOUT_PROMPTS = partial(PromptedViT, n_prompts=0)


class PooledClassifier(MultiLabelClassifier):
    """A linear head on one pooled vector per image; subclasses decide what else is trained.

    Args:
        vit, origin, class_names: see `MultiLabelClassifier`.
        pool: "class" reads the class token, "patches" the mean of the patch tokens; None is the
            class token where the backbone has one. Both after the final norm.

    Raises:
        InputError: unknown pool, or no class token to read.
    """

    settings = ("pool",)

    def __init__(
        self,
        vit: VisionTransformer,
        origin: Origin,
        class_names: Sequence[str],
        *,
        pool: str | None = None,
    ) -> None:
        super().__init__(vit, origin, class_names)
        if pool is None:
            pool = "patches" if vit.cls_token is None else "class"
        if pool not in ("class", "patches"):
            raise InputError(f"pool is {pool!r}: choose 'class' or 'patches'.")
        if pool == "class" and vit.cls_token is None:
            raise InputError("The backbone has no class token: choose pool='patches'.")
        self.options = {"pool": pool}
        self.head = nn.Linear(vit.embed_dim, len(self.class_names))
        # Zero, as for a new head in Dosovitskiy et al. (2021). Drawn at random it may repeat what
        # the backbone was trained under: with seed 0 the packaged one's own head came back.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def tokens(self, images: Tensor) -> Tensor:
        """Tokens that are pooled: (B, 3, H, W) -> (B, 1, D) class token or (B, N, D) patches."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Output:
        """Score every class: (B, 3, H, W) -> logits (B, K)."""
        pooled = self.tokens(images).mean(dim=1)  # (B, D)
        return Output(self.head(pooled.to(self.head.weight.dtype)))


class AttentionPromptedViT(PromptedViT):
    """A PromptedViT whose prompts change attention itself, which timm's own blocks cannot compute.

    It has no plain form therefore.

    Attributes:
        change: method and what it does, for the message.
    """

    change: str

    def __init__(self, backbone: VisionTransformer, n_prompts: int, **options: Any) -> None:
        super().__init__(backbone, n_prompts, isolate_prompts=False, **options)
        if not self.has_prefix_form:
            self._refuse()

    def forward_plain(self, images: Tensor) -> Tensor:
        """Refuse the plain form: it would leave out what these prompts change."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise InputError(
            f"{self.change} inside attention, so it has no plain form and needs timm's own Block "
            "and Attention with a plain Linear as attn.qkv: merge an adapter that stands there, or "
            "choose VPT."
        )


class FrozenPooledClassifier(PromptedClassifier, PooledClassifier):
    """A pooled classifier whose backbone is frozen, in eval mode, inside a PromptedViT.

    Args:
        backbone: a timm name or a built VisionTransformer.
        class_names: K names.
        prompts: makes the PromptedViT, called with the backbone and with `read` and
            `norm_output`; without prompts by default.
        pool: see `PooledClassifier`.
        source: `pretrained`, `image_size`, `backbone_checkpoint` of `build_backbone`.
    """

    def __init__(
        self,
        backbone: str | VisionTransformer,
        class_names: Sequence[str],
        *,
        prompts: Callable[..., PromptedViT] = WITHOUT_PROMPTS,
        pool: str | None = None,
        **source: Any,
    ) -> None:
        vit, origin = build_backbone(backbone, **source)
        super().__init__(vit, origin, class_names, pool=pool)
        self.prompted = prompts(vit, read=self.options["pool"], norm_output=True)

    def tokens(self, images: Tensor) -> Tensor:
        return self.prompted(images)


class TunedPooledClassifier(PooledClassifier):
    """A pooled classifier that trains weights of the backbone itself.

    The backbone follows `.train()` here: its dropout and stochastic depth, if it has any, run
    while it is trained, as they did when its weights were made.

    Args:
        backbone, class_names, pool, source: see `FrozenPooledClassifier`.

    Attributes:
        trained: the weights of the backbone that are trained, by the end of their names.
    """

    trained: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        backbone: str | VisionTransformer,
        class_names: Sequence[str],
        *,
        pool: str | None = None,
        **source: Any,
    ) -> None:
        vit, origin = build_backbone(backbone, **source)
        super().__init__(vit, origin, class_names, pool=pool)
        self.vit = vit
        self.vit.attn_pool = None  # of a SigLIP; nothing reads it, so nothing could train it
        for name, parameter in self.vit.named_parameters():
            parameter.requires_grad_(name.endswith(self.trained))

    def tokens(self, images: Tensor) -> Tensor:
        images = check_images(self.vit, images)
        x = self.vit.fc_norm(self.vit.forward_features(images))  # (B, T, D)
        return x[:, :1] if self.options["pool"] == "class" else x[:, self.vit.num_prefix_tokens :]
