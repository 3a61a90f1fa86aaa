"""Frozen Vision Transformers to prompt: any timm VisionTransformer or Eva, by name or from a file.

Ma et al. (CVPR 2025, section 4.1) use weights of supervised ImageNet-1k and -21k, MAE, MoCo v3 and
DINOv2, all of which timm builds with one class, `VisionTransformer`. Where each is read, before or
after the final norm, follows the authors' release.
"""

import difflib
import hashlib
import logging
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import apply_rot_embed_cat
from timm.models import eva, vision_transformer
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mlvpt.errors import InputError, first_line
from mlvpt.files.network import cache_alone_without_network

_logger = logging.getLogger(__name__)

Backbone = VisionTransformer | Eva

SUPPORTED = (
    "Any timm VisionTransformer works, and any Eva, for example "
    "vit_base_patch16_224.augreg_in21k, vit_base_patch16_224.mae, "
    "vit_small_patch14_dinov2.lvd142m, vit_small_patch16_dinov3.lvd1689m, deit_base_patch16_224, "
    "vit_base_patch16_clip_224.openai, vit_base_patch16_siglip_224.webli, or 'scenes', the tiny "
    "one in the package."
)


class Origin(NamedTuple):
    """Where the frozen weights of a backbone come from, and will come from again.

    Attributes:
        name: the timm name, or "scenes"; None for a built module.
        source: "pretrained" or "random" weights by name, a "file", or a built "module".
    """

    name: str | None
    source: str


def build_backbone(
    backbone: str | Backbone,
    *,
    pretrained: bool = True,
    image_size: int | Sequence[int] | None = None,
    backbone_checkpoint: str | Path | None = None,
) -> tuple[Backbone, Origin]:
    """Backbone of a classifier, from a name or as it is given, and where it comes from.

    Args:
        backbone: a timm name (see `create_backbone`) or a built VisionTransformer or Eva.
        pretrained, image_size, backbone_checkpoint: for a name, see `create_backbone`.

    Raises:
        InputError: the backbone is unknown or no VisionTransformer, or is built already and comes
            with a size or a weight file.
    """
    if isinstance(backbone, str):
        by_name = "pretrained" if pretrained else "random"
        origin = Origin(backbone, by_name if backbone_checkpoint is None else "file")
        vit = create_backbone(
            backbone, pretrained=pretrained, image_size=image_size, checkpoint=backbone_checkpoint
        )
        return vit, origin
    if image_size is not None or backbone_checkpoint is not None:
        raise InputError(
            "image_size and backbone_checkpoint go with the name of a backbone; a built one "
            "has its size and its weights."
        )
    check_promptable(backbone)
    return backbone, Origin(None, "module")


def create_backbone(
    name: str,
    *,
    pretrained: bool = True,
    image_size: int | Sequence[int] | None = None,
    checkpoint: str | Path | None = None,
) -> Backbone:
    """Build a Vision Transformer without its classification head.

    Args:
        name: a timm model name, with or without its weight tag, or "scenes".
        pretrained: load the weights that timm knows for the name (downloads them once). For
            "scenes" they come with the package.
        image_size: height and width in pixels. Position embeddings are resampled. None keeps
            the size that the weights were trained at.
        checkpoint: a weight file (.safetensors, .pth, .pth.tar) instead of timm's own weights, in
            timm's names or in those of the original MoCo v3, MAE, DINOv2 or CLIP release. How
            its images are normalised and its tokens read follows the name, so give MAE's file
            with `vit_base_patch16_224.mae`; a MoCo v3 file, which has no name, is recognised.

    Returns:
        A timm VisionTransformer or Eva in eval mode with `num_classes=0`.

    Raises:
        InputError: unknown name, no VisionTransformer, weights that do not fit or cannot be read
            or fetched, a size that the patches do not divide.
    """
    size = {} if image_size is None else {"img_size": _check_size(image_size)}
    published = pretrained and checkpoint is None
    if name == "scenes":
        backbone = _scenes_backbone(published, **size)
    else:
        _check_name(name)
        try:
            with cache_alone_without_network(needed=published):
                backbone = timm.create_model(name, pretrained=published, num_classes=0, **size)
        except (OSError, RuntimeError) as error:
            if not published:
                raise
            raise InputError(
                f"The weights of {name} could not be loaded ({first_line(error)}). Check the "
                "connection, give a weight file as backbone_checkpoint=FILE, or set "
                "pretrained=False for random weights."
            ) from error
    if checkpoint is not None:
        _load_checkpoint(backbone, Path(checkpoint))
    height, width = backbone.patch_embed.img_size
    patch_height, patch_width = backbone.patch_embed.patch_size
    if height % patch_height or width % patch_width:
        raise InputError(
            f"image_size {height} x {width} is not a multiple of the patch size of {name}, "
            f"{patch_height} x {patch_width}: round it to a multiple."
        )
    return backbone.eval()


def _check_size(image_size: int | Sequence[int]) -> int | tuple[int, int]:
    """The size, as an int or a tuple; JSON and YAML have lists."""
    image_size = tuple(image_size) if isinstance(image_size, list) else image_size
    sides = image_size if isinstance(image_size, tuple) else (image_size,) * 2
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise InputError(
            f"image_size is {image_size!r}: give one whole number of pixels, or height and width."
        )
    return image_size


def check_promptable(backbone: nn.Module) -> None:
    """Refuse a module whose token sequence cannot take prompts.

    Raises:
        InputError: the module is neither a timm VisionTransformer nor a timm Eva.
    """
    if not isinstance(backbone, Backbone):
        raise InputError(
            f"{type(backbone).__name__} is not a plain Vision Transformer, so prompt tokens cannot "
            f"join its tokens. {SUPPORTED}"
        )


def image_tokens(vit: Backbone, images: Tensor) -> Tensor:
    """Tokens before the first block: (B, 3, H, W) -> (B, T, D), class and register tokens first."""
    x = vit._pos_embed(vit.patch_embed(images))
    if isinstance(vit, Eva):
        return vit.norm_pre(x[0])  # beside the tokens comes the rotation: see `rotations`
    return vit.norm_pre(vit.patch_drop(x))


def rotations(vit: Backbone, n_still: int = 0) -> list[Tensor | None]:
    """Rotary position embedding of each block, None where it has none.

    Args:
        vit: the backbone, whose image size decides the positions.
        n_still: tokens before the patches that are not to be rotated: sine 0 and cosine 1.

    Returns:
        Per block (n_still + patches, 2 d) sines and cosines of all heads, or, in models whose
        rotations were learnt, (H, n_still + patches, 2 d).
    """
    rope = getattr(vit, "rope", None)
    if rope is None:
        return [None] * len(vit.blocks)
    # the choice that timm makes
    own_shape = not vit.dynamic_img_size and hasattr(rope, "feat_shape")
    table = rope.get_embed() if own_shape else rope.get_embed(shape=vit.patch_embed.grid_size)
    if n_still:
        still = table.new_zeros(*table.shape[:-2], n_still, table.shape[-1])
        still[..., table.shape[-1] // 2 :] = 1
        table = torch.cat([still, table], dim=-2)
    return list(table) if vit.rope_mixed else [table] * len(vit.blocks)


def project_heads(
    attn: nn.Module, y: Tensor, parts: str, rotation: Tensor | None = None
) -> list[Tensor]:
    """Queries, keys or values ("q", "kv", "qkv") of normalised tokens: (..., N, H, d) per part.

    Heads stay behind tokens, as the projection leaves them: attention reads either order, and no
    copy is needed on the way back. Queries are projected apart from keys and values where those
    are joined with a prefix, so that the tensor they came from is freed.

    Args:
        attn: one of timm's attention layers, see `prefix.has_prefix_form`.
        rotation: (N, 2 d) or (H, N, 2 d), see `rotations`; None for tokens that no
            rotation reaches.
    """
    weight, bias = projection(attn, parts)
    n_key_heads = getattr(attn, "num_kv_heads", attn.num_heads)  # fewer: grouped-query attention
    widths = [(attn.num_heads if part == "q" else n_key_heads) * attn.head_dim for part in parts]
    projected = F.linear(y, weight, bias).split(widths, dim=-1)
    heads = {}
    for part, tokens in zip(parts, projected, strict=True):
        tokens = tokens.unflatten(-1, (-1, attn.head_dim))  # (..., N, H, d)
        if part != "v":
            tokens = (attn.q_norm if part == "q" else attn.k_norm)(tokens)
            if rotation is not None:
                tokens = rotate(attn, tokens, rotation)
        if part != "q" and n_key_heads != attn.num_heads:
            tokens = tokens.repeat_interleave(attn.num_heads // n_key_heads, dim=-2)
        heads[part] = tokens
    if "k" in heads and "v" in heads:  # a norm that autocast runs in float32 makes keys wider
        heads["k"] = heads["k"].to(heads["v"].dtype)
    return list(heads.values())


def projection(attn: nn.Module, parts: str) -> tuple[Tensor, Tensor | None]:
    """Weight and bias that make these parts of tokens, whichever way timm keeps them."""
    if attn.qkv is None:
        layers = [getattr(attn, f"{part}_proj") for part in parts]
        weight = torch.cat([layer.weight for layer in layers])
        if all(layer.bias is None for layer in layers):
            return weight, None
        zero = weight.new_zeros(())  # keys may be without a bias where values have one
        biases = [zero.expand(len(x.weight)) if x.bias is None else x.bias for x in layers]
        return weight, torch.cat(biases)
    width = attn.num_heads * attn.head_dim
    rows = slice("qkv".index(parts[0]) * width, ("qkv".index(parts[-1]) + 1) * width)
    bias = attn.qkv.bias
    if getattr(attn, "q_bias", None) is not None:
        bias = torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])
    return attn.qkv.weight[rows], None if bias is None else bias[rows]


def rotate(attn: nn.Module, tokens: Tensor, rotation: Tensor) -> Tensor:
    """Queries or keys (..., N, H, d) turned by their tokens' positions."""
    by_token = rotation.unsqueeze(1) if rotation.ndim == 2 else rotation.transpose(0, 1)
    half = getattr(attn, "rotate_half", False)  # which channels make a pair
    return apply_rot_embed_cat(tokens, by_token, half=half)


def reads_after_norm(backbone: nn.Module) -> bool:
    """Whether tokens are read after the final norm, as the official code does per family.

    After it for supervised ImageNet-1k and DINOv2 (and, ours, for all others); before it for
    ImageNet-21k, MAE and MoCo v3, whose final norm was not trained on a prompt-like use.

    The family stands in timm's tag of the weights. A module without one, such as a
    VisionTransformer made by hand, is read after the norm, and a logged warning says so.
    """
    config = _config_dict(backbone)
    tag, architecture = config.get("tag") or "", config.get("architecture") or ""
    if tag.endswith("in21k") or (tag == "" and architecture.endswith("in21k")):
        return False
    if tag == "" and architecture != "scenes":
        _logger.warning(
            "The backbone has no tag that tells how it was pre-trained, so its tokens are read "
            "after the final norm (norm_output=True): give norm_output=False for weights of "
            "ImageNet-21k, MAE or MoCo v3."
        )
    return not (tag.startswith("mae") or tag.startswith("moco"))


def backbone_hash(backbone: nn.Module, n_blocks: int | None = None) -> str:
    """SHA-256 over names, shapes and values of the frozen weights, to recognise a backbone.

    Weights that are trained (all of them in full fine-tuning) are left out, and so are position
    embeddings: resampled to another image size, their last bits depend on the machine.

    Args:
        backbone: a ViT.
        n_blocks: only what decides the output of the first n blocks; None for all weights.
    """
    digest = hashlib.sha256()
    for name, values in _frozen(backbone):
        if n_blocks is not None and _is_above(name, n_blocks):
            continue
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
        digest.update(_bytes(values))
    return digest.hexdigest()


def tensor_hashes(backbone: nn.Module) -> dict[str, str]:
    """The first 16 digits of the SHA-256 of each tensor in `backbone_hash`, by its name."""
    return {
        name: hashlib.sha256(_bytes(values)).hexdigest()[:16] for name, values in _frozen(backbone)
    }


def _frozen(backbone: nn.Module) -> Iterator[tuple[str, Tensor]]:
    trained = {name for name, p in backbone.named_parameters() if p.requires_grad}
    for name, tensor in sorted(backbone.state_dict().items()):
        if name != "pos_embed" and name not in trained:
            yield name, tensor.detach().cpu().contiguous()


def _is_above(name: str, n_blocks: int) -> bool:
    """Whether the weight of this name stands behind the first n blocks."""
    part, *rest = name.split(".")
    if part == "blocks":
        return int(rest[0]) >= n_blocks
    return part in ("norm", "fc_norm", "attn_pool", "head")


def _bytes(values: Tensor) -> np.ndarray:
    return values.reshape(-1).view(torch.uint8).numpy()


def _scenes_backbone(pretrained: bool, img_size: int | tuple[int, int] = 48) -> VisionTransformer:
    """The tiny ViT of the embedded data; data_prep/scenes_backbone.py made its weights."""
    backbone = VisionTransformer(
        img_size=48, patch_size=8, embed_dim=96, depth=4, num_heads=3, num_classes=0
    )
    half = (0.5, 0.5, 0.5)
    backbone.pretrained_cfg = {"architecture": "scenes", "mean": half, "std": half}
    backbone.pretrained_cfg["input_size"] = (3, 48, 48)
    if pretrained:
        weights = resources.files("mlvpt.data") / "scenes_backbone.safetensors"
        with resources.as_file(weights) as path:
            state = load_file(path)
        backbone.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    backbone.set_input_size(img_size)
    return backbone


def _check_name(name: str) -> None:
    """Refuse, before anything is built or downloaded, what is unknown or no Vision Transformer."""
    architecture = name.rsplit("/", 1)[-1].split(".")[0]
    if "/" not in name and not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.5)
        meant = f"Did you mean {' or '.join(near)}? " if near else ""
        raise InputError(f"Unknown backbone {name!r}. {meant}{SUPPORTED}")
    if "/" not in name:
        tags = [entry.split(".", 1)[1] for entry in timm.list_pretrained(f"{architecture}.*")]
        tag = name.partition(".")[2]
        if tag and tag not in tags:
            raise InputError(
                f"Unknown weights {tag!r} of {architecture}. "
                f"Known: {', '.join(sorted(tags)) or 'none'}."
            )
        with torch.device("meta"):  # shapes only: refusing a large model costs nothing
            check_promptable(timm.create_model(architecture, pretrained=False, num_classes=0))


def _load_checkpoint(backbone: Backbone, path: Path) -> None:
    """Load a weight file into the backbone and report every unused and missing key."""
    if not path.is_file():
        raise InputError(f"The backbone checkpoint {path} does not exist.")
    try:
        # weights_only: a weight file is data, and must not be able to run code
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:
        raise InputError(
            f"The backbone checkpoint {path} cannot be read as plain tensors "
            f"({first_line(error)}): give a .safetensors file or a torch file of tensors only."
        ) from error
    if not isinstance(state, dict):
        raise InputError(
            f"The backbone checkpoint {path} holds a {type(state).__name__}, not named tensors."
        )
    moco = "module.base_encoder."
    inner = state.get("state_dict", state)
    if any(key.startswith(moco) for key in inner):
        # MoCo v3 keeps two encoders, each with a projection head; the base encoder is the ViT
        state = {key[len(moco) :]: value for key, value in inner.items() if key.startswith(moco)}
        normalised = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
        backbone.pretrained_cfg = {**_config_dict(backbone), **normalised, "tag": "mocov3"}
    try:
        family = eva if isinstance(backbone, Eva) else vision_transformer
        state = family.checkpoint_filter_fn(state, backbone)
    except (AttributeError, KeyError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{path} does not fit the backbone ({first_line(error)}). "
            "Give the backbone name that the file is of."
        ) from error
    wanted = backbone.state_dict()
    misshapen = [key for key in state if key in wanted and state[key].shape != wanted[key].shape]
    missing = sorted(wanted.keys() - state.keys())
    unused = sorted(state.keys() - wanted.keys())
    if missing or misshapen:
        raise InputError(
            f"{path} does not fit the backbone: missing {missing or 'nothing'}, of another shape "
            f"{misshapen or 'nothing'}, unused {unused or 'nothing'}. "
            "Give the backbone name that the file is of."
        )
    if unused:
        _logger.warning("%s: %d unused keys: %s", path.name, len(unused), ", ".join(unused))
    backbone.load_state_dict({key: state[key] for key in wanted})


def _config_dict(backbone: nn.Module) -> dict:
    config = getattr(backbone, "pretrained_cfg", None) or {}
    return dict(config) if isinstance(config, dict) else config.to_dict()
