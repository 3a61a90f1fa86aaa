"""The files of a run, and when a run may be started or continued in a folder.

RUN/config.json      the configuration
RUN/split.json       image ids of train and val, hashes of the data and of the backbone
RUN/metrics.jsonl    one line per epoch
RUN/checkpoints/     last.safetensors and best.safetensors, see checkpoint.py
RUN/model/           the best model, as save_pretrained writes it
RUN/probabilities.safetensors  (N, K) per evaluated split, in the order of its images
RUN/summary.json     written when the run is complete, see record.py
"""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from mlvpt.backbones import backbone_hash
from mlvpt.classifier import MultiLabelClassifier
from mlvpt.errors import InputError
from mlvpt.files import atomic_path, read_json, write_json
from mlvpt.training import checkpoint, recipes
from mlvpt.training.config import FREE_ON_RESUME, TrainConfig, flatten, to_dict
from mlvpt.training.data import Splits, dataset_hash


class RunFolder:
    """A run's folder; writes only whole files. Hold `checkpoint.run_lock` while writing.

    Args:
        path: the folder; made when needed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.split = self.path / "split.json"
        self.metrics = self.path / "metrics.jsonl"
        self.last = self.path / "checkpoints" / "last.safetensors"
        self.best = self.path / "checkpoints" / "best.safetensors"
        self.model = self.path / "model"
        self.probabilities = self.path / "probabilities.safetensors"
        self.summary = self.path / "summary.json"

    def kept(self) -> str:
        """The sentence about what is kept when a run ends early."""
        if not self.last.exists():
            return f"no checkpoint was written yet in {self.path}."
        return f"the last good checkpoint is {self.last}; continue with --resume {self.path}."

    def check(self, config: TrainConfig, resume: bool) -> None:
        """Refuse to overwrite a run, and to continue one with other settings.

        Raises:
            InputError: names the settings that differ, or what is missing.
        """
        if self.config.exists() and not resume:
            raise InputError(
                f"{self.path} already holds a run: continue it with --resume {self.path}, or "
                "choose another folder with --out."
            )
        if not resume:
            return
        if not self.config.exists():
            raise InputError(f"{self.path} holds no run (no config.json): nothing to resume.")
        if self.summary.exists():
            raise InputError(f"the run {self.path} is complete: see {self.summary}.")
        then, now = flatten(recipes.load(self.config)), flatten(config)
        changed = [k for k in now if k not in FREE_ON_RESUME and now[k] != then[k]]
        if changed:
            listed = ", ".join(f"{key} was {then[key]!r}, is {now[key]!r}" for key in changed)
            raise InputError(
                f"{self.path} cannot be continued with other settings ({listed}): drop them, or "
                "start a new run with --out."
            )

    def check_data(self, splits: Splits, model: MultiLabelClassifier) -> None:
        """Refuse to continue on data or a backbone that changed since the run began.

        Raises:
            InputError: the images, labels, splits or frozen weights differ.
        """
        if not self.split.exists():
            return
        stored = read_json(self.split, "the split of the data")
        if stored.get("backbone_sha256") != _frozen_hash(model):
            raise InputError(
                f"the weights of the backbone are not those that {self.path} began with: give the "
                "same ones, or start a new run with --out."
            )
        if not same_data(stored, splits):
            raise InputError(
                f"the data changed since {self.path} began (images, labels or split differ from "
                "split.json): restore it, or start a new run with --out."
            )

    def begin(self, config: TrainConfig, splits: Splits, model: MultiLabelClassifier) -> None:
        """Write what defines the run, and clear what a killed process left."""
        checkpoint.remove_leftovers(self.path)
        content = {
            "hash": dataset_hash(splits.train, splits.val),
            "backbone_sha256": _frozen_hash(model),
            "train": splits.train.image_ids,
            "val": splits.val.image_ids,
        }
        write_json(self.split, content)
        write_json(self.config, to_dict(config))

    def write_metrics(self, history: list[dict[str, Any]]) -> None:
        """One JSON line per epoch."""
        with atomic_path(self.metrics) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in history))

    def save_model(self, model: MultiLabelClassifier) -> None:
        """Replace model/ by `model`; best.safetensors covers the moment between the renames."""
        new, old = self.path / ".model.new", self.path / ".model.old"
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            model.save_pretrained(new)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(new, ignore_errors=True)
            raise InputError(
                f"the model could not be written to {self.path} ({error}): {self.kept()}"
            ) from error
        if self.model.exists():
            self.model.rename(old)
        new.rename(self.model)
        shutil.rmtree(old, ignore_errors=True)


def same_data(stored: dict[str, Any], splits: Splits) -> bool:
    """Whether the content of a run's split.json is of these images, labels and held-out part."""
    return stored.get("hash") == dataset_hash(splits.train, splits.val)


def _frozen_hash(model: MultiLabelClassifier) -> str | None:
    """Of the backbone; None for random weights, which the seed gives, and for trained ones."""
    trained = any(parameter.requires_grad for parameter in model.vit.parameters())
    if trained or model.backbone_source == "random":
        return None
    return backbone_hash(model.vit)
