"""The state of a run between two steps: building, saving and restoring it."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from mlvpt.datasets import require_trainable
from mlvpt.errors import InputError, Stopped
from mlvpt.images import train_transform
from mlvpt.training import checkpoint
from mlvpt.training.build import build_groups, build_loss, build_model
from mlvpt.training.config import OptimConfig, TrainConfig, to_dict
from mlvpt.training.console import Progress, StopSignals
from mlvpt.training.data import AugmentedImages, EpochBatches, as_is, cached, load_data, make_loader
from mlvpt.training.ema import EMA
from mlvpt.training.folder import RunFolder
from mlvpt.training.tokens import kept
from mlvpt.training.tracking import require_tracker

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@dataclass
class Position:
    """Place of a run in its epochs; with weights and optimiser, all that a checkpoint needs.

    Attributes:
        epoch: finished epochs.
        batch: global batches done in the epoch under way.
        step: optimiser steps done in all.
        loss_sum: of the batches of the epoch under way.
        skipped: unreadable images met in the epoch under way.
        history: a dict per finished epoch, the lines of metrics.jsonl.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    skipped: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def best(self) -> dict[str, Any] | None:
        """Line of the best epoch so far; of equals, the first."""
        return max(self.history, key=lambda line: line["val_mAP"], default=None)


class Run:
    """A run: model, data, optimiser and position, built from its configuration.

    Attributes:
        model: the model itself; `wrapped` is it, or DistributedDataParallel around it.
        parameters: {name: trained parameter}.
        position: see Position.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        accelerator: Accelerator,
        signals: StopSignals,
        progress: bool,
    ) -> None:
        optim, shown = config.optim, progress and accelerator.is_main_process
        self.began = self.saved_at = time.monotonic()
        self.config, self.folder = config, folder
        self.accelerator, self.signals = accelerator, signals
        self.device = accelerator.device
        set_seed(optim.seed)
        splits = load_data(config.data, optim.seed)
        if not folder.last.exists():  # else the run passed when it began, on the same data
            require_trainable(
                splits, skip_corrupt=config.data.skip_corrupt, held_out=config.data.hold_out
            )
        names = splits.train.class_names
        groups = build_groups(config.model, splits.train.targets, names, optim.seed)
        self.model = build_model(config.model, groups, names)
        folder.check_data(splits, self.model)
        self.model.to(self.device)
        if config.data.mean_std == "imagenet":
            self.model.mean, self.model.std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        self.criterion = build_loss(config.loss)
        transform = train_transform(config.data.transform, self.model.image_size)
        if config.data.token_cache:
            self.splits = kept(splits, self.model, config.data.token_cache, shown)
            transform = as_is
        else:
            self.splits = cached(splits, self.model.image_size, config.data)
        self.batches = EpochBatches(
            len(splits.train), optim.batch_size, accelerator.num_processes, optim.seed
        )
        images = AugmentedImages(
            self.splits.train,
            transform,
            self.model.image_size,
            config.data.skip_corrupt,
            seed=optim.seed,
        )
        loader = make_loader(images, self.batches, optim.workers, self.device.type == "cuda")
        self.parameters = dict(self.model.trainable_parameters())
        steps = -(-self.batches.per_epoch // optim.accumulate) * optim.epochs
        optimizer = make_optimizer(self.parameters, optim, self.device)
        self.schedule = make_schedule(optimizer, optim, steps)
        self.ema = None
        if optim.ema:
            self.ema = EMA(self.parameters.items(), EMA.decay_for(optim.ema_left, steps))
        if optim.compile:
            self.model.compile()
        self.wrapped, self.optimizer, self.loader = accelerator.prepare(
            self.model, optimizer, loader
        )
        self.position = Position()
        self.images_per_second = 0.0
        self.seconds_before = 0.0  # of the processes that this one continues
        n_images = self.batches.per_epoch * self.global_batch * optim.epochs
        self.bar = Progress(shown, n_images, folder.path)

    @property
    def global_batch(self) -> int:
        """Images per step over all processes."""
        return self.batches.batch_size * self.batches.share

    def averaged(self) -> Any:
        """A block in which the model holds the averaged weights, if they are kept."""
        return nullcontext() if self.ema is None else self.ema.swapped_in()

    @property
    def best(self) -> dict[str, Any] | None:
        """Line of the epoch to keep, the best on val, or the last where val is trained on."""
        if self.config.data.hold_out:
            return self.position.best
        return self.position.history[-1] if self.position.history else None

    def out_of_patience(self) -> bool:
        """Whether `patience` epochs have passed since the best one."""
        best, patience = self.best, self.config.optim.patience
        return bool(patience and best and self.position.epoch - best["epoch"] >= patience)

    def seconds(self) -> float:
        """Wall time of the run so far, over all processes that worked on it in turn."""
        return self.seconds_before + time.monotonic() - self.began

    def checkpoint_due(self) -> bool:
        """Whether it is time for a checkpoint within the epoch."""
        optim = self.config.optim
        by_steps = optim.checkpoint_steps and self.position.step % optim.checkpoint_steps == 0
        return bool(by_steps) or time.monotonic() - self.saved_at > 60 * optim.checkpoint_minutes

    def save(self) -> None:
        """Write the last checkpoint; called by the main process between two steps."""
        weights = {f"model/{name}": value for name, value in self.parameters.items()}
        for name, value in weights.items():
            if not torch.isfinite(value).all():
                raise self.not_finite(f"the weights {name.removeprefix('model/')}")
        average = {} if self.ema is None else self.ema.average
        names = {parameter: name for name, parameter in self.parameters.items()}
        slots, groups = checkpoint.pack_optimizer(self.optimizer.optimizer, names)
        randomness, random_state = checkpoint.rng_state()
        tensors = {
            **weights,
            **{f"ema/{name}": value for name, value in average.items()},
            **{f"optimizer/{name}": value for name, value in slots.items()},
            **{f"random/{name}": value for name, value in randomness.items()},
        }
        scaler = self.accelerator.scaler
        state = {
            "settings": to_dict(self.config),
            "position": asdict(self.position),
            "seconds": self.seconds(),
            "optimizer": groups,
            "schedule": self.schedule.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "random": random_state,
        }
        checkpoint.save(self.folder.last, tensors, state)
        self.saved_at = time.monotonic()

    @torch.no_grad()
    def restore(self) -> None:
        """Load the last checkpoint: weights, averages, optimiser, randomness and position."""
        tensors, state = checkpoint.load(self.folder.last)
        part = {
            kind: {n.removeprefix(kind): t for n, t in tensors.items() if n.startswith(kind)}
            for kind in ("model/", "ema/", "optimizer/", "random/")
        }
        checkpoint.copy_weights(self.parameters, part["model/"], self.folder.last)
        if self.ema is not None:
            self.ema.load(part["ema/"])
        names = {parameter: name for name, parameter in self.parameters.items()}
        checkpoint.unpack_optimizer(
            self.optimizer.optimizer, names, part["optimizer/"], state["optimizer"]
        )
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        checkpoint.set_rng_state(part["random/"], state["random"])
        self.position = Position(**state["position"])
        self.seconds_before = state["seconds"]
        done = self.position.epoch * self.batches.per_epoch + self.position.batch
        self.bar.start = done * self.global_batch

    def not_finite(self, what: str) -> Stopped:
        """The exception for a number that is not finite."""
        at = self.position
        return Stopped(
            f"{what} became infinite or NaN at step {at.step} (epoch {at.epoch + 1}, batch "
            f"{at.batch}); {self.folder.kept()} Lower optim.lr or set optim.clip_grad.",
            exit_code=1,
        )


@contextmanager
def process_state_kept() -> Iterator[None]:
    """A block after which the settings that `make_accelerator` changes are the caller's again.

    They are torch's deterministic mode, the variable CUBLAS_WORKSPACE_CONFIG, and the state that
    Accelerate keeps per process, so that an Accelerator of the caller works on.
    """
    mode = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cublas = os.environ.get(CUBLAS)
    kinds = (PartialState, AcceleratorState, GradientState)
    shared = [dict(kind._shared_state) for kind in kinds]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode, warn_only=warn_only)
        if cublas is None:
            os.environ.pop(CUBLAS, None)
        else:
            os.environ[CUBLAS] = cublas
        for kind, state in zip(kinds, shared, strict=True):
            kind._shared_state.clear()  # in place: every object of the class has this very dict
            kind._shared_state.update(state)


def make_accelerator(config: TrainConfig, folder: RunFolder) -> Accelerator:
    """Accelerator of a run: its device, precision, processes and tracker.

    Sets what must be set before the first kernel runs; `process_state_kept` puts it back.

    Raises:
        InputError: fp16 is asked for on a CPU, or a tracker that is not installed.
    """
    optim = config.optim
    require_tracker(optim.track)
    if optim.deterministic:
        os.environ.setdefault(CUBLAS, ":4096:8")  # cuBLAS reads it at its start
    torch.use_deterministic_algorithms(optim.deterministic)
    # Accelerate keeps one state per process; a second run may want another precision
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    # a branch without weight in the loss leaves its parameters without gradient
    some_unused = config.model.method == "mlvpt" and not all(
        getattr(config.loss, name) for name in ("co", "dc", "co_gate", "dc_gate")
    )
    accelerator = Accelerator(
        cpu=optim.device == "cpu",
        mixed_precision=optim.precision,
        gradient_accumulation_steps=optim.accumulate,
        log_with=optim.track,
        project_dir=str(folder.path),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=some_unused)],
    )
    if optim.precision == "fp16" and accelerator.device.type == "cpu":
        raise InputError("optim.precision fp16 needs a GPU: use no or bf16 on a CPU.")
    return accelerator


def make_optimizer(
    parameters: dict[str, nn.Parameter], optim: OptimConfig, device: torch.device
) -> torch.optim.AdamW:
    """AdamW, fused where there is a fused kernel; no decay on biases, norms and gates' biases."""
    plain = {n for n, p in parameters.items() if p.ndim < 2 or "bias" in n or "norm" in n}
    groups = [
        {"params": [p for n, p in parameters.items() if n not in plain]},
        {"params": [p for n, p in parameters.items() if n in plain], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=optim.lr,
        weight_decay=optim.weight_decay,
        fused=device.type in ("cuda", "cpu"),
    )


def make_schedule(
    optimizer: torch.optim.Optimizer, optim: OptimConfig, steps: int
) -> torch.optim.lr_scheduler.OneCycleLR:
    """One cycle over `steps` optimiser steps."""
    warmup = optim.warmup_fraction
    if abs(warmup * steps - 1) < 1e-6:
        warmup *= 1.01  # torch divides by zero where the warm-up is exactly one step
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=optim.lr, total_steps=max(steps, 1), pct_start=warmup
    )
