"""Groups, model and loss from a configuration, and trained models from disk."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

import mlvpt.baselines
import mlvpt.model  # noqa: F401  methods are known once their modules are imported
from mlvpt.classifier import MultiLabelClassifier
from mlvpt.datasets.shipped import authors_groups_of
from mlvpt.errors import InputError
from mlvpt.files import read_json
from mlvpt.files.saved_model import WEIGHTS
from mlvpt.grouping import (
    conditional_probabilities,
    cooccurrence_counts,
    group_labels,
    kmeans_groups,
)
from mlvpt.labels import LabelGroups, random_groups, single_group
from mlvpt.losses import AsymmetricLoss, MLVPTLoss
from mlvpt.training.config import LossConfig, ModelConfig


def build_groups(
    config: ModelConfig, targets: np.ndarray, class_names: list[str], seed: int
) -> LabelGroups:
    """The label groups that a configuration asks for.

    Args:
        config: its group_source, n_groups and tau are used.
        targets: (N, K) in {1, 0, -1}, of the training split alone.
        class_names: K names.
        seed: of the clustering, or of the draw for random groups.

    Returns:
        LabelGroups.

    Raises:
        InputError: groups of the authors for classes of which they released none.
    """
    source, n_groups, names = config.group_source, config.n_groups, class_names
    if source == "authors":
        return authors_groups_of(names, n_groups)
    if source == "single":
        return single_group(len(names), names)
    if source == "random":
        return random_groups(len(names), n_groups, seed, names)
    if source == "kmeans":
        rows = conditional_probabilities(cooccurrence_counts(targets))  # (K, K) P(j | i)
        return kmeans_groups(rows, n_groups, seed, names)
    return group_labels(targets, n_groups=n_groups, tau=config.tau, seed=seed, class_names=names)


def build_model(
    config: ModelConfig, groups: LabelGroups | None, class_names: Sequence[str]
) -> MultiLabelClassifier:
    """The method named by `config.method`, not yet trained.

    Args:
        config: every setting of the model.
        groups: LabelGroups, or None for a baseline, which has none.
        class_names: K names.

    Raises:
        InputError: unknown method or backbone, or options that do not fit.

    Example:
        >>> config = ModelConfig(method="vpt_deep", n_prompts=4)
        >>> build_model(config, None, ["cat", "dog"]).n_trainable
        1730
    """
    methods = MultiLabelClassifier.methods
    if config.method not in methods:
        raise InputError(f"Unknown method {config.method!r}: choose {', '.join(methods)}.")
    model = methods[config.method].from_config(config, class_names, groups)
    if config.start_from is not None:
        weights = Path(config.start_from) / WEIGHTS
        if not weights.is_file():
            raise InputError(f"start_from: {weights} is missing; give a folder of save_pretrained.")
        try:
            state = load_file(weights)
        except SafetensorError as error:
            raise InputError(f"start_from: {weights} is damaged ({error}): restore it.") from None
        model.load_trained_state(state)
    return model


def model_folder(path: str | Path) -> Path:
    """The folder with the model: of a run, its best one; else `path` itself.

    Raises:
        InputError: a folder without a model, or no such folder.
    """
    folder = Path(path)
    if (folder / "model").is_dir():
        return folder / "model"
    if (folder / "summary.json").is_file() or (folder / "metrics.jsonl").is_file():
        raise InputError(f"{folder / 'model'} is missing, and the run had one: restore it.")
    if (folder / "checkpoints").is_dir() or (folder / "split.json").is_file():
        raise InputError(f"the run {folder} has no model yet: let its first epoch end.")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise InputError(f"{folder} holds no model: give a run folder or one of save_pretrained.")
    if not folder.is_dir() and (len(folder.parts) != 2 or folder.is_absolute()):
        raise InputError(f"there is no run folder {folder}: check the path.")
    return folder


def load_model(path: str | Path) -> MultiLabelClassifier:
    """A trained model of any method, in eval mode.

    Args:
        path: a run folder, a folder of save_pretrained, or a Hugging Face repository id.

    Raises:
        InputError: a file is missing or altered, or the backbone's weights are others.
    """
    folder = model_folder(path)
    checkpoint = None
    if folder != Path(path) and (Path(path) / "config.json").is_file():  # a run knows its backbone
        schema = {"model": {"backbone_checkpoint?": (None, str)}}
        settings = read_json(Path(path) / "config.json", "the run's configuration", schema)
        checkpoint = settings["model"].get("backbone_checkpoint")
    return MultiLabelClassifier.from_pretrained(folder, backbone_checkpoint=checkpoint).eval()


def build_loss(config: LossConfig) -> nn.Module:
    """The criterion: called as criterion(output, targets) with targets (B, K) in {1, 0, -1}."""
    if config.kind == "asl":
        single = AsymmetricLoss(config.gamma_neg, config.gamma_pos, config.clip, config.eps)
    elif config.kind == "focal":  # Lin et al., ICCV 2017: one exponent for both sides
        single = AsymmetricLoss(config.gamma_neg, config.gamma_neg)
    else:
        single = AsymmetricLoss(0.0, 0.0)
    return MLVPTLoss(
        single,
        co=config.co,
        dc=config.dc,
        co_gate=config.co_gate,
        dc_gate=config.dc_gate,
        fused=config.fused,
    )
