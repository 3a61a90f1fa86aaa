"""What ML-VPT is compared with: every method on the same backbone, loop, loss and data.

linear_probe     LinearProbe      a linear head on the frozen feature
full_finetuning  FullFineTuning   every weight
vpt_shallow      VPT              prompts before the first block
vpt_deep         VPT              prompts before every block
gate_vpt         GateVPT          shallow prompts with a gate and a temperature per block
e2vpt            E2VPT            deep prompts and key-value prompts, which can be pruned
bitfit           BitFit           biases
lora             LoRA             low-rank updates of the attention projections (peft)
query_head       QueryHead        one query per class on the frozen patches
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from mlvpt.baselines.e2vpt import E2VPT
from mlvpt.baselines.prompted import VPT, GateVPT, LinearProbe
from mlvpt.baselines.query_head import QueryHead
from mlvpt.baselines.tuned import BitFit, FullFineTuning, LoRA
from mlvpt.classifier import WEIGHTS, MultiLabelClassifier
from mlvpt.errors import InputError
from mlvpt.training.config import ModelConfig

__all__ = [
    "BASELINES",
    "E2VPT",
    "VPT",
    "BitFit",
    "FullFineTuning",
    "GateVPT",
    "LinearProbe",
    "LoRA",
    "QueryHead",
    "build",
]

BASELINES: dict[str, type[MultiLabelClassifier]] = {
    "linear_probe": LinearProbe,
    "full_finetuning": FullFineTuning,
    "vpt_shallow": VPT,
    "vpt_deep": VPT,
    "gate_vpt": GateVPT,
    "e2vpt": E2VPT,
    "bitfit": BitFit,
    "lora": LoRA,
    "query_head": QueryHead,
}


def build(method: str, config: ModelConfig, class_names: Sequence[str]) -> MultiLabelClassifier:
    """The baseline of that name, not yet trained.

    Args:
        method: a key of `BASELINES`.
        config: backbone, pretrained, image_size, backbone_checkpoint, pool, n_prompts and
            start_from are used.
        class_names: K names.

    Raises:
        InputError: unknown method, or options that do not fit.

    Example:
        >>> build("vpt_deep", ModelConfig(n_prompts=4), ["cat", "dog"]).n_trainable
        1730
    """
    if method not in BASELINES:
        raise InputError(f"Unknown method {method!r}: choose mlvpt or {', '.join(BASELINES)}.")
    options: dict[str, Any] = {} if method == "query_head" else {"pool": config.pool}
    if method in ("vpt_shallow", "vpt_deep", "gate_vpt", "e2vpt"):
        options["n_prompts"] = config.n_prompts
    if method.startswith("vpt_"):
        options["depth"] = method.removeprefix("vpt_")
    model = BASELINES[method](
        config.backbone,
        class_names,
        pretrained=config.pretrained,
        image_size=config.image_size,
        backbone_checkpoint=config.backbone_checkpoint,
        **options,
    )
    if config.start_from is not None:
        weights = Path(config.start_from) / WEIGHTS
        if not weights.is_file():
            raise InputError(f"start_from: {weights} is missing; give a folder of save_pretrained.")
        model.load_trained_state(load_file(weights))
    return model
