"""Classifiers with a linear head on one pooled vector per image, the base of most baselines."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, NoReturn

from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from mlvpt.backbones import Origin, build_backbone, rotations
from mlvpt.classifier import MultiLabelClassifier, Output, PromptedClassifier
from mlvpt.errors import InputError
from mlvpt.prefix import block_rows, has_prefix_form, timm_block
from mlvpt.prompts import PromptedViT, are_tokens, check_images, lower_tokens, n_layers

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


def trained_depth(config: Any) -> str | int:
    """The number of last blocks that the settings name, or "deep" for all of them."""
    return config.depth if isinstance(config.depth, int) else "deep"


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
        depth: "deep" trains weights of the whole backbone, a number n those of the last n blocks
            and of the final norm, and the backbone stays in eval mode.
        backbone, class_names, pool, source: see `FrozenPooledClassifier`.

    Attributes:
        trained: the weights of the backbone that are trained, by the end of their names.
    """

    settings = ("pool",)
    trained: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        backbone: str | VisionTransformer,
        class_names: Sequence[str],
        *,
        pool: str | None = None,
        depth: str | int = "deep",
        **source: Any,
    ) -> None:
        vit, origin = build_backbone(backbone, **source)
        super().__init__(vit, origin, class_names, pool=pool)
        n_blocks = len(vit.blocks)
        if depth == "shallow":
            raise InputError("depth is 'shallow', which is of prompts: choose 'deep' or a number.")
        self.options["depth"] = depth
        self.first = n_blocks - n_layers(depth, n_blocks)
        self.vit = vit
        self.vit.attn_pool = None  # of a SigLIP; nothing reads it, so nothing could train it
        upper = tuple(f"blocks.{i}." for i in range(self.first, n_blocks))
        for name, parameter in self.vit.named_parameters():
            within = self.first == 0 or name.startswith((*upper, "norm.", "fc_norm."))
            parameter.requires_grad_(within and name.endswith(self.trained))

    @classmethod
    def options_of(cls, config: Any) -> dict[str, Any]:
        return {**super().options_of(config), "depth": trained_depth(config)}

    @property
    def n_frozen_blocks(self) -> int:
        return self.first

    def train(self, mode: bool = True) -> "TunedPooledClassifier":
        super().train(mode)
        if self.first:
            self.vit.eval()
        return self

    def tokens(self, images: Tensor) -> Tensor:
        vit, n_prefix = self.vit, self.vit.num_prefix_tokens
        rows = slice(0, 1) if self.options["pool"] == "class" else slice(n_prefix, None)
        if self.first == 0:
            return vit.fc_norm(vit.forward_features(check_images(vit, images))[:, rows])
        x = images if are_tokens(vit, images) else lower_tokens(vit, images, self.first)
        *blocks, last = vit.blocks[self.first :]
        *turns, turn = rotations(vit)[self.first :]
        for block, rotation in zip(blocks, turns, strict=True):
            x = timm_block(block, x, None, rotation)
        if has_prefix_form(last):  # what is not read need not be made
            x = block_rows(last, x, rows, rotations(vit, n_prefix)[-1])
        elif type(last) is Block:  # with an adapter in its attention
            x = (x + last.ls1(last.attn(last.norm1(x))))[:, rows]
            x = x + last.ls2(last.mlp(last.norm2(x)))
        else:
            x = timm_block(last, x, None, turn)[:, rows]
        return vit.fc_norm(vit.norm(x))
