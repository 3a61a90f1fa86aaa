"""A trained model as one binary file and one JSON manifest that plain JavaScript can run.

The file holds what a forward pass in a browser reads and nothing else: the frozen backbone's
weights once, however many models share it, and of each model the part that it trained. Deep
prompts are not stored as prompts. They do not depend on the image, so the keys and values that
each block makes of them are computed here, and the browser only puts them before its own. The
numbers are half precision, which halves the download; `book/_static/live/vit.js` reads them.
"""

import copy
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mlvpt.backbones import project_heads
from mlvpt.baselines import VPT
from mlvpt.errors import InputError
from mlvpt.files import write_bytes, write_json
from mlvpt.model import MLVPT
from mlvpt.prefix import prefix_keys_and_values

WEB_FORMAT = "mlvpt-web"
VERSION = 1  # of the file's format; vit.js refuses another
TOLERANCE = 1e-2  # largest difference of probabilities that rounding to half precision may make


def export_web(
    models: Sequence[Any], path: str | Path, names: Sequence[str] | None = None
) -> float:
    """Write models that share a frozen backbone as `path` and a manifest beside it (.json).

    Args:
        models: ML-VPT with dense gates, or VPT, with deep prompts, as `load_model` gives them.
        path: the binary file to write.
        names: what to call the models; default: the names of their classes.

    Returns:
        The largest difference of probabilities that half precision makes, over 8 random images.

    Raises:
        InputError: a model that `vit.js` cannot run, models with different backbones or classes,
            or a difference above 1e-2; nothing is written then.
    """
    models = [model.cpu().eval() for model in models]
    names = [type(model).__name__ for model in models] if names is None else list(names)
    first = models[0]
    for model in models:
        _check(model)
        if model.class_names != first.class_names or not _same_weights(model.vit, first.vit):
            raise InputError("models in one web file must share their backbone and their classes.")
    rounded = [rounded_to_half(model) for model in models]
    pairs = list(zip(models, rounded, strict=True))
    difference = max(_difference(model, other) for model, other in pairs)
    if not difference <= TOLERANCE:
        raise InputError(
            f"half precision changes a probability by {difference:.1e}, more than {TOLERANCE:g}: "
            "nothing was written."
        )
    tensors = _backbone_tensors(rounded[0].vit)
    entries = []
    for name, model in zip(names, rounded, strict=True):
        tensors |= {f"{name}/{key}": value for key, value in _model_tensors(model).items()}
        entries.append(_model_entry(name, model))
    vit, path = first.vit, Path(path)
    body, table = _pack(tensors)
    manifest = {
        "format": WEB_FORMAT,
        "version": VERSION,
        "weights": path.name,
        "bytes": len(body),
        "crc32": f"{zlib.crc32(body):08x}",
        "class_names": list(first.class_names),
        "image_size": list(first.image_size),
        "mean": list(first.mean),
        "std": list(first.std),
        "backbone": {
            "blocks": len(vit.blocks),
            "heads": vit.blocks[0].attn.num_heads,
            "width": vit.embed_dim,
            "patch_size": list(vit.patch_embed.patch_size),
            "eps": vit.norm.eps,
        },
        "models": entries,
        "tensors": table,
    }
    write_bytes(path, body)
    write_json(path.with_suffix(".json"), manifest)
    return difference


def rounded_to_half(model: Any) -> Any:
    """A copy of a model in single precision whose weights are those of half precision."""
    return copy.deepcopy(model).half().float()


def _check(model: Any) -> None:
    """Refuse what vit.js does not compute."""
    if not isinstance(model, (MLVPT, VPT)):
        raise InputError(
            f"{type(model).__name__} has no web format: export ML-VPT or VPT, or use --format onnx."
        )
    vit, options = model.vit, model.options
    block = vit.blocks[0]
    plain = (
        model.prompted_vit.has_prefix_form
        and vit.num_prefix_tokens == 1
        and vit.has_class_token
        and isinstance(vit.norm_pre, nn.Identity)
        and isinstance(vit.norm, nn.LayerNorm)
        and isinstance(vit.fc_norm, nn.Identity)
        and isinstance(block.attn.q_norm, nn.Identity)
        and isinstance(block.ls1, nn.Identity)
        and type(block.mlp.act) is nn.GELU
        and block.mlp.act.approximate == "none"
    )
    if not plain:
        raise InputError(
            "the web format knows plain Vision Transformers with a class token, such as the "
            "packaged one: use --format onnx for this backbone."
        )
    if options["depth"] != "deep" or options.get("gate", "dense") != "dense":
        raise InputError(
            "the web format knows deep prompts and dense gates only: use --format onnx."
        )


def _same_weights(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@torch.no_grad()
def _difference(model: Any, other: Any) -> float:
    images = torch.rand(8, 3, *model.image_size, generator=torch.Generator().manual_seed(0))
    images = images * 2 - 1
    return float((model(images).logits.sigmoid() - other(images).logits.sigmoid()).abs().max())


def _backbone_tensors(vit: nn.Module) -> dict[str, Tensor]:
    """The frozen part; linear weights (out, in), as torch keeps them."""
    tensors = {
        "patch.weight": vit.patch_embed.proj.weight.flatten(1),  # (D, 3 p p)
        "patch.bias": vit.patch_embed.proj.bias,
        "class_token": vit.cls_token[0],  # (1, D)
        "position": vit.pos_embed[0],  # (T, D)
        "norm.weight": vit.norm.weight,
        "norm.bias": vit.norm.bias,
    }
    layers = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    for i, block in enumerate(vit.blocks):
        for layer in layers:
            module = block.get_submodule(layer)
            tensors[f"block{i}.{layer}.weight"] = module.weight
            tensors[f"block{i}.{layer}.bias"] = module.bias
    return tensors


@torch.no_grad()
def _model_tensors(model: Any) -> dict[str, Tensor]:
    """The trained part, with the prompts of each block as keys and values (P, D)."""
    prompted = model.prompted_vit
    tensors = {}
    for i, (block, prompts) in enumerate(zip(model.vit.blocks, prompted.prompts, strict=True)):
        keys, values = prefix_keys_and_values(block, prompts, None)  # (P, H, d)
        tensors |= {f"block{i}.keys": keys.flatten(1), f"block{i}.values": values.flatten(1)}
    if isinstance(model, VPT):
        return tensors | {"head.weight": model.head.weight, "head.bias": model.head.bias}
    last, prompts = model.vit.blocks[-1], prompted.prompts[-1]
    (queries,) = project_heads(last.attn, last.norm1(prompts), "q")
    tensors |= {"prompts": prompts, "queries": queries.flatten(1)}  # (P, D) each
    for view, experts in model.experts.items():
        for key, value in experts.named_parameters():
            tensors[f"{view}.{key}"] = value
    return tensors


def _model_entry(name: str, model: Any) -> dict[str, Any]:
    if isinstance(model, VPT):
        return {
            "name": name,
            "method": "vpt",
            "n_prompts": model.options["n_prompts"],
            "pool": model.options["pool"],
        }
    return {
        "name": name,
        "method": "mlvpt",
        "n_prompts": model.prompted_vit.n_prompts,
        "experts_per_group": model.options["experts_per_group"],
        "bottleneck": model.options["bottleneck"],
        "isolate_prompts": model.options["isolate_prompts"],
        "norm_output": model.options["norm_output"],
        "n_groups": model.groups.n_groups,
        "groups": {view: getattr(model.groups, view).tolist() for view in model.options["views"]},
    }


def _pack(tensors: dict[str, Tensor]) -> tuple[bytes, dict[str, list[int]]]:
    """All numbers in half precision, little-endian, and where each tensor begins.

    Returns:
        The bytes, and {name: [first number, *shape]}.
    """
    chunks, table, start = [], {}, 0
    for name, tensor in tensors.items():
        numbers = tensor.detach().numpy().astype("<f2")
        if not np.isfinite(numbers).all():
            raise InputError(f"{name} is too large for half precision: use --format onnx.")
        chunks.append(numbers.tobytes())
        table[name] = [start, *numbers.shape]
        start += numbers.size
    return b"".join(chunks), table
