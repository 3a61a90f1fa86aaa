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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from mlvpt.backbones import backbone_hash
from mlvpt.classifier import MultiLabelClassifier
from mlvpt.errors import InputError
from mlvpt.files import read_json, write_json, write_text
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
            foreign = [path.name for path in self._content() if path.exists()]
            if foreign:
                raise InputError(
                    f"{self.path} holds {foreign[0]} and no config.json: move it, or choose "
                    "another folder with --out."
                )
            return
        if not self.config.exists():
            raise InputError(f"{self.path} holds no run (no config.json): nothing to resume.")
        if self.summary.exists():
            raise InputError(f"the run {self.path} is complete: see {self.summary}.")
        listed = _difference(recipes.load(self.config), config) or _difference(self.used(), config)
        if listed:
            raise InputError(
                f"{self.path} cannot be continued with other settings ({listed}): drop them, or "
                "start a new run with --out."
            )
        leftovers = list(self.last.parent.glob(checkpoint.LEFTOVERS))
        if self.last.parent.exists() and not self.last.exists() and not leftovers:
            raise InputError(
                f"{self.last} is missing, so the run cannot be continued: restore it, or start a "
                "new run with --out."
            )

    def _content(self) -> list[Path]:
        """What a run writes besides config.json; all of it is removed or replaced in time."""
        written = (self.split, self.metrics, self.probabilities, self.summary)
        return [self.last.parent, self.model, *written]

    def used(self) -> TrainConfig | None:
        """The settings that the run worked with, as its checkpoint or its summary recorded them.

        None before the first checkpoint, and of runs of version 0.1 that are not complete.
        """
        settings = None
        if self.last.is_file():
            settings = checkpoint.read_state(self.last).get("settings")
        if settings is None and self.summary.is_file():
            settings = read_summary(self.summary)["results"].get("config")
        return None if settings is None else recipes.from_dict(settings)

    def check_settings(self, config: TrainConfig) -> None:
        """Refuse a config.json that was edited after the run worked with other settings.

        Args:
            config: what config.json holds.

        Raises:
            InputError: names the settings that differ.
        """
        listed = _difference(self.used(), config)
        if listed:
            raise InputError(
                f"{self.config} was edited after the run had used other settings ({listed}): "
                "restore it."
            )

    def check_data(self, splits: Splits, model: MultiLabelClassifier) -> None:
        """Refuse to continue on data or a backbone that changed since the run began.

        Raises:
            InputError: the images, labels, splits or frozen weights differ.
        """
        if not self.split.exists():
            return
        stored = read_split(self.split)
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
        write_json(self.config, to_dict(config))
        write_json(self.split, content)

    def write_metrics(self, history: list[dict[str, Any]]) -> None:
        """One JSON line per epoch."""
        write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in history))

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


SPLIT = {"hash": str, "backbone_sha256?": (str, None), "train": [str], "val": [str]}
SUMMARY = {
    "results": {
        "metrics": {str: {"mAP": (float, None)}},
        "thresholds": {str: float},
        "config?": {str: {str: object}},
    }
}


def read_split(path: str | Path) -> dict[str, Any]:
    """The content of a run's split.json."""
    return read_json(path, "the split of the data", SPLIT)


def read_summary(path: str | Path) -> dict[str, Any]:
    """The content of a run's summary.json."""
    return read_json(path, "the summary of the run", SUMMARY)


def run_files(run: str | Path) -> list[Path]:
    """The files of a run, or of a saved model, that commands read; none if there is no folder."""
    folder = RunFolder(run)
    files = [folder.config, folder.path / "model.safetensors", folder.summary, folder.split]
    files += [folder.metrics, folder.probabilities, *folder.last.parent.glob("*")]
    return [*files, *folder.model.glob("*")]


def run_thresholds(run: str | Path, class_names: Sequence[str]) -> list[float] | None:
    """The threshold per class that a run tuned on val; None if it trained on val, too.

    Raises:
        InputError: there is no summary, or its thresholds are not those of these classes.
    """
    path = Path(run) / "summary.json"
    thresholds = read_summary(path)["results"]["thresholds"]
    if not thresholds:
        return None
    if list(thresholds) != list(class_names):
        raise InputError(f"{path} holds thresholds of other classes than the model's: restore it.")
    return list(thresholds.values())


def _difference(then: TrainConfig | None, now: TrainConfig) -> str:
    """The settings that decide the result and differ, as text; none if `then` is unknown."""
    if then is None:
        return ""
    old, new = flatten(then), flatten(now)
    changed = [key for key in new if key not in FREE_ON_RESUME and new[key] != old[key]]
    return ", ".join(f"{key} was {old[key]!r}, is {new[key]!r}" for key in changed)


def same_data(stored: dict[str, Any], splits: Splits) -> bool:
    """Whether the content of a run's split.json is of these images, labels and held-out part."""
    return stored.get("hash") == dataset_hash(splits.train, splits.val)


def _frozen_hash(model: MultiLabelClassifier) -> str | None:
    """Of the backbone; None for random weights, which the seed gives, and for trained ones."""
    trained = any(parameter.requires_grad for parameter in model.vit.parameters())
    if trained or model.backbone_source == "random":
        return None
    return backbone_hash(model.vit)
