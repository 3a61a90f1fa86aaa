"""Prompt tokens in a frozen Vision Transformer, in two forms that give the same result.

The plain form puts the prompts among the tokens and runs timm's own blocks: it is what the
paper writes and what the tests trust. The prefix form, see prefix.py, gives the same numbers and
leaves out every product whose result is never used.

Sources: Ma et al., "Correlative and Discriminative Label Grouping for Multi-Label Visual Prompt
Tuning", CVPR 2025; Jia et al., "Visual Prompt Tuning", ECCV 2022.
"""

import logging
import math

import torch
from torch import Tensor, nn

from mlvpt.backbones import (
    Backbone,
    check_promptable,
    image_tokens,
    project_heads,
    reads_after_norm,
    rotations,
)
from mlvpt.errors import InputError
from mlvpt.frozen_block import hand_equals_autograd
from mlvpt.prefix import (
    block_rows,
    has_prefix_form,
    image_block,
    keys_and_values,
    last_block,
    last_mask,
    normed,
    timm_block,
)

_logger = logging.getLogger(__name__)


class PromptedViT(nn.Module):
    """A frozen timm VisionTransformer or Eva with trainable prompt tokens.

    Args:
        backbone: a timm VisionTransformer or Eva (DINOv3, EVA-02, ...). Its parameters are frozen,
            and it stays in eval mode whatever `train()` is called: dropout and stochastic depth
            never run.
        n_prompts: P, the prompt tokens per block; 0 for none.
        depth: which blocks have prompts. "deep" gives every block its own (L x P x D parameters),
            a number n the last n blocks alone (n x P x D), and "shallow" adds prompts once, before
            the first block, to be carried along (1 x P x D).
        isolate_prompts: prompts do not attend to other prompts; each sees itself and the image.
        read: "prompts" returns the P prompt tokens after the last block, "class" the class token
            alone, "patches" the patch tokens.
        norm_output: read the tokens after the final norm (True) or before it (False). None
            follows the official code for the backbone's family.

    Attributes:
        prompts: (L, P, D) parameter, with n or 1 for L where fewer blocks have prompts; drawn from
            U(-v, v) with v = sqrt(6 / (3 p^2 + D)) for patches of p x p pixels.
        first: the first block that has prompts, counted from 0; see `lower`.

    Raises:
        InputError: the backbone is neither of the two, an option is unknown, or "class" is read
            from a backbone that has no class token.
    """

    def __init__(
        self,
        backbone: Backbone,
        n_prompts: int,
        *,
        depth: str | int = "deep",
        isolate_prompts: bool = True,
        read: str = "prompts",
        norm_output: bool | None = None,
    ) -> None:
        super().__init__()
        check_promptable(backbone)
        n_own = n_layers(depth, len(backbone.blocks))
        if read not in ("prompts", "class", "patches"):
            raise InputError(f"read is {read!r}: choose one of prompts, class, patches.")
        if n_prompts < 0 or (read == "prompts" and n_prompts == 0):
            raise InputError(f"n_prompts is {n_prompts}: give at least one prompt token to read.")
        if read == "class" and backbone.cls_token is None:
            raise InputError(
                "The backbone has no class token: read='patches' averages its patches instead."
            )
        self.backbone = backbone.requires_grad_(False).eval()
        self.depth, self.isolate_prompts, self.read = depth, isolate_prompts, read
        self.norm_output = reads_after_norm(backbone) if norm_output is None else norm_output
        self.embed_dim, self.n_prompts = backbone.embed_dim, n_prompts
        self.first = 0 if depth == "shallow" else len(backbone.blocks) - n_own
        if n_prompts == 0:  # nothing before the last block depends on what is trained
            self.first = len(backbone.blocks) - 1
        bound = math.sqrt(6 / (3 * math.prod(backbone.patch_embed.patch_size) + self.embed_dim))
        self.prompts = nn.Parameter(
            torch.empty(n_own, n_prompts, self.embed_dim).uniform_(-bound, bound),
            requires_grad=n_prompts > 0,
        )
        hand_equals_autograd()  # tried once, here, where no counter or profiler looks on
        if not self.has_prefix_form:
            kind = type(backbone.blocks[0]).__name__
            _logger.info(
                "No prefix form for these %s blocks: the plain form runs, slower, same result.",
                kind,
            )

    @property
    def has_prefix_form(self) -> bool:
        """Whether `forward` takes the prefix form. Asked each time: layers can be exchanged."""
        return all(map(has_prefix_form, self.backbone.blocks))

    def train(self, mode: bool = True) -> "PromptedViT":
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Read the prompted transformer, in prefix form where the blocks allow it.

        Args:
            images: (B, 3, H, W) float, normalised as the backbone expects; or the (B, T, D) tokens
                that `lower` made of them.

        Returns:
            (B, P, D) prompt tokens; (B, 1, D) for `read="class"`; (B, T - prefix, D) for "patches".
        """
        if not self.has_prefix_form:
            return self.forward_plain(images)
        x = images if are_tokens(self.backbone, images) else self.lower(images)  # (B, T, D)
        if self.depth == "shallow" and self.n_prompts:
            return self._forward_shallow(x)
        x, *inputs = self._before_last(x)
        last, rows = self.backbone.blocks[-1], self._image_rows
        return self._read_out(last_block(last, x, *inputs, rows, self.isolate_prompts))

    def _before_last(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Image tokens (B, T, D) before the last block; its prompts, key-values and rotation."""
        blocks = self.backbone.blocks[self.first : -1]
        *inputs, last_inputs = self.block_inputs()[-len(blocks) - 1 :]
        *turns, turn = self._rotations(self.backbone.num_prefix_tokens)
        for block, block_inputs, rotation in zip(blocks, inputs, turns, strict=True):
            x = image_block(block, x, *block_inputs, rotation)
        return x, *last_inputs, turn

    def lower(self, images: Tensor) -> Tensor:
        """Image tokens before the first block that has prompts: (B, 3, H, W) -> (B, T, D).

        Training does not change them, so they are computed without gradient and can be computed
        once and kept. (If the backbone's own weights are trained, they have a gradient.)

        Raises:
            InputError: the images are not of the backbone's size.
        """
        return lower_tokens(self.backbone, images, self.first)

    def block_inputs(self) -> list[tuple[Tensor, Tensor | None]]:
        """The prompts (P, D) of each prompted block, and further key-values or None.

        Key-values (M, H, d) join the keys and the values as they are. A subclass may derive both
        from parameters of its own, see E2VPT.
        """
        return [(prompts, None) for prompts in self.prompts]

    def forward_plain(self, images: Tensor) -> Tensor:
        """The plain form: prompts among the tokens, as in the paper, in timm's own blocks."""
        if not are_tokens(self.backbone, images):
            images = self.embed(images)
            below = slice(0, self.first)
            for block, rotation in zip(
                self.backbone.blocks[below], rotations(self.backbone)[below], strict=True
            ):
                images = timm_block(block, images, None, rotation)
        x = images  # (B, T, D)
        # class and register tokens stand before the prompts
        first = self.backbone.num_prefix_tokens
        n_patches, n_prompts = x.shape[1] - first, self.n_prompts
        mask = self._mask(first, n_prompts, n_patches, x.device)
        turns = self._rotations(n_prompts)
        for i, block in enumerate(self.backbone.blocks[self.first :]):
            if i < len(self.prompts):  # shallow prompts enter once and are then carried along
                prompts = self.prompts[i].to(x.dtype).expand(len(x), -1, -1)  # (B, P, D)
                x = torch.cat([x[:, :first], prompts, x[:, x.shape[1] - n_patches :]], dim=1)
            x = timm_block(block, x, mask, turns[i])  # (B, T + P, D)
        if self.read == "prompts":
            x = x[:, first : first + n_prompts]
        else:
            x = x[:, :1] if self.read == "class" else x[:, first + n_prompts :]
        return self._read_out(x)

    def embed(self, images: Tensor) -> Tensor:
        """Image tokens before the first block: (B, 3, H, W) -> (B, T, D), class token first.

        Raises:
            InputError: the images are not of the backbone's size.
        """
        return embed_images(self.backbone, images)

    @torch.no_grad()
    def attention(self, images: Tensor) -> Tensor:
        """Attention of the last block's prompts on the patches: where the prompts look.

        Returns:
            (B, P, h, w) for an h x w grid of patches, the mean over heads. A prompt's weights on
            all tokens sum to 1; the rest lies on class token, registers and prompts.

        Raises:
            InputError: the prompts are shallow, or the blocks have no prefix form.
        """
        if self.depth == "shallow" or not self.has_prefix_form:
            raise InputError(
                "Attention maps are read from deep prompts in timm's own attention blocks."
            )
        x = images if are_tokens(self.backbone, images) else self.lower(images)
        x, prompts, key_values, turn = self._before_last(x)
        last, prompts = self.backbone.blocks[-1], prompts.to(x.dtype)
        (q,) = project_heads(last.attn, normed(last, prompts), "q")  # (P, H, d)
        k, _ = keys_and_values(last, normed(last, x), prompts, key_values, turn)
        # k: (B, M + P + T, H, d)
        scores = last.attn.scale * torch.einsum("phd,bnhd->bhpn", q, k)  # (B, H, P, M + P + T)
        if self.isolate_prompts:
            n_shared = 0 if key_values is None else len(key_values)
            scores = scores.masked_fill(~last_mask(len(prompts), n_shared, x), -math.inf)
        on_patches = scores.softmax(dim=-1).mean(dim=1)[..., -self.n_patches :]  # (B, P, patches)
        return on_patches.unflatten(-1, self.backbone.patch_embed.grid_size)  # (B, P, h, w)

    @property
    def n_patches(self) -> int:
        """Number of patch tokens of an image."""
        return math.prod(self.backbone.patch_embed.grid_size)

    def _rotations(self, n_still: int) -> list[Tensor | None]:
        """Rotations of the prompted blocks, see `backbones.rotations`."""
        return rotations(self.backbone, n_still)[self.first :]

    def extra_repr(self) -> str:
        return (
            f"n_prompts={self.n_prompts}, depth={self.depth!r}, read={self.read!r}, "
            f"isolate_prompts={self.isolate_prompts}, norm_output={self.norm_output}"
        )

    def _forward_shallow(self, x: Tensor) -> Tensor:
        """The prefix form of shallow prompts, which shortens the last block alone.

        After the first block the prompts depend on the image, and all blocks read them.
        """
        n_image = x.shape[1]
        *blocks, last = self.backbone.blocks
        mask = self._mask(0, self.n_prompts, n_image, x.device)
        x = torch.cat(
            [self.prompts[0].to(x.dtype).expand(len(x), -1, -1), x], dim=1
        )  # (B, P + T, D)
        # timm's blocks leave the first tokens alone, whichever they are; prompts make more of them
        *turns, _ = rotations(self.backbone, self.n_prompts)
        for block, rotation in zip(blocks, turns, strict=True):
            x = timm_block(block, x, mask, rotation)
        *_, turn = rotations(self.backbone, self.n_prompts + self.backbone.num_prefix_tokens)
        return self._read_out(block_rows(last, x, self._rows, turn, mask))

    @property
    def _rows(self) -> slice:
        """The rows that are read out, where the prompts stand before the image tokens."""
        n, image = self.n_prompts, self._image_rows
        if image is None:
            return slice(0, n)
        return slice(n + image.start, None if image.stop is None else n + image.stop)

    @property
    def _image_rows(self) -> slice | None:
        """The image tokens that are read out; None when the prompts are."""
        patches = slice(self.backbone.num_prefix_tokens, None)
        return {"prompts": None, "class": slice(0, 1), "patches": patches}[self.read]

    def _mask(
        self, first: int, n_prompts: int, n_patches: int, device: torch.device
    ) -> Tensor | None:
        """(N, N) True where attention is allowed: everywhere but from one prompt to another."""
        if not self.isolate_prompts or n_prompts < 2:
            return None
        n_tokens = first + n_prompts + n_patches
        allowed = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=device)
        prompts = slice(first, first + n_prompts)
        allowed[prompts, prompts] = torch.eye(n_prompts, dtype=torch.bool, device=device)
        return allowed

    def _read_out(self, x: Tensor) -> Tensor:
        """The final norm, which timm keeps in `fc_norm` for models that average their patches."""
        return self.backbone.fc_norm(self.backbone.norm(x)) if self.norm_output else x


def embed_images(vit: Backbone, images: Tensor) -> Tensor:
    """Image tokens before the first block of a frozen backbone: (B, 3, H, W) -> (B, T, D)."""
    images = check_images(vit, images)
    with torch.set_grad_enabled(torch.is_grad_enabled() and images.requires_grad):
        return image_tokens(vit, images)


def lower_tokens(vit: Backbone, images: Tensor, n_blocks: int) -> Tensor:
    """Image tokens behind the first n frozen blocks: (B, 3, H, W) -> (B, T, D).

    Args:
        vit: the backbone.
        images: normalised, of the backbone's size.
        n_blocks: n >= 0.
    """
    x = embed_images(vit, images)  # (B, T, D)
    blocks = vit.blocks[:n_blocks]
    wanted = images.requires_grad or any(p.requires_grad for p in blocks.parameters())
    with torch.set_grad_enabled(torch.is_grad_enabled() and wanted):
        known = all(map(has_prefix_form, blocks))
        turns = rotations(vit, vit.num_prefix_tokens if known else 0)
        no_prompts = x.new_empty(0, vit.embed_dim)
        for block, rotation in zip(blocks, turns[:n_blocks], strict=True):
            if known:
                x = image_block(block, x, no_prompts, None, rotation)
            else:
                x = timm_block(block, x, None, rotation)
    return x


def are_tokens(vit: Backbone, images: Tensor) -> bool:
    """Whether these are tokens that `lower_tokens` made, (B, T, D), and no images."""
    check_floats(images)
    return images.ndim == 3 and images.shape[1:] == token_shape(vit)


def token_shape(vit: Backbone) -> tuple[int, int]:
    """(T, D) of the tokens of one image."""
    return vit.num_prefix_tokens + math.prod(vit.patch_embed.grid_size), vit.embed_dim


def check_images(vit: Backbone, images: Tensor) -> Tensor:
    """The images in the precision of the backbone, if they are a batch that it reads.

    Raises:
        InputError: no tensor of floats, or images that are not of the backbone's size.
    """
    check_floats(images)
    height, width = vit.patch_embed.img_size
    if images.ndim != 4 or images.shape[1] != vit.in_chans or images.shape[2:] != (height, width):
        raise InputError(
            f"The backbone reads images of shape (B, {vit.in_chans}, {height}, {width}), not "
            f"{tuple(images.shape)}: resize them, or build the model with image_size=(H, W)."
        )
    return images.to(next(vit.parameters()).dtype)


def check_floats(images: Tensor) -> None:
    """Refuse what is no tensor of floats, such as pictures that are not normalised yet.

    Raises:
        InputError: names the type and the remedy.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise InputError(
            f"A model reads a tensor (B, 3, H, W) of normalised floats, not {kind}: call "
            "model.predict, or mlvpt.images.normalize first."
        )


def n_layers(depth: str | int, n_blocks: int) -> int:
    """How many blocks of the last ones a depth names; of "shallow", one.

    Raises:
        InputError: no such depth.
    """
    if isinstance(depth, int) and not isinstance(depth, bool) and 1 <= depth <= n_blocks:
        return depth
    if depth in ("deep", "shallow"):
        return n_blocks if depth == "deep" else 1
    raise InputError(
        f"depth is {depth!r}: choose one of deep, shallow, or a number of blocks from 1 to "
        f"{n_blocks}."
    )
