"""The training loop, on Accelerate: one process or many, interrupted and resumed exactly.

One step: a batch of uint8 images is normalised on the device, scored, and the gradients of the
trained parameters (never the backbone's) are followed by AdamW on a one-cycle schedule; a moving
average of those parameters trails behind. After every epoch the average is scored on the
validation images, and the best one is kept. Test images are used once, at the end.

Source: Ma et al., CVPR 2025, section 4.1, with the values of the authors' release where the paper
has none. Ours: selection on validation images, no decay on biases, everything about interruption.
"""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors.torch import save
from torch import Tensor

from mlvpt.datasets import DecodedCache, MultiLabelDataset
from mlvpt.errors import Stopped
from mlvpt.files import write_bytes
from mlvpt.training import checkpoint
from mlvpt.training.config import TrainConfig, to_dict
from mlvpt.training.console import StopSignals
from mlvpt.training.data import model_input
from mlvpt.training.evaluation import (
    evaluate,
    mean_ap,
    metrics_table,
    predict_dataset,
    tuned_thresholds,
)
from mlvpt.training.folder import RunFolder
from mlvpt.training.record import write_record
from mlvpt.training.run import Position, Run, make_accelerator, process_state_kept
from mlvpt.training.tracking import track, tracked


def train(
    config: TrainConfig, out_dir: str | Path, *, resume: bool = False, progress: bool = True
) -> dict[str, Any]:
    """Train a model and evaluate it.

    Args:
        config: what to train on what.
        out_dir: the run folder, see folder.py; it must not hold a run unless `resume`.
        resume: continue the run in `out_dir` exactly where its last checkpoint left it.
        progress: show a bar, or a line per epoch where there is no terminal.

    Returns:
        What summary.json holds: a record (see record.py) whose "results" are val and test metrics
        in fractions, the number of trained parameters, the best epoch and the thresholds. Of
        several processes all but the first return {}.

    Raises:
        InputError: configuration, data or folder cannot be used, or a file cannot be written.
        Stopped: a signal, or a loss that is not finite; names what is kept.
    """
    folder = RunFolder(out_dir)
    signals = StopSignals(folder.kept)
    with ExitStack() as stack:
        stack.enter_context(process_state_kept())
        stack.enter_context(signals.installed())
        accelerator = make_accelerator(config, folder)
        if accelerator.is_main_process:
            stack.enter_context(checkpoint.run_lock(folder.path))
            folder.check(config, resume)
        accelerator.wait_for_everyone()
        run = Run(config, folder, accelerator, signals, progress)
        if resume and folder.last.exists():
            run.restore()
        elif resume:
            run.bar.write(f"{folder.path} has no checkpoint yet: it starts at step 0.")
        accelerator.wait_for_everyone()  # nobody writes before everybody has read
        if accelerator.is_main_process:
            folder.begin(config, run.splits, run.model)
        try:
            with run.bar, tracked(accelerator, config, folder):
                while run.position.epoch < config.optim.epochs and not run.out_of_patience():
                    stopping = train_epoch(run)
                    select(run, stopping)
            summary = finish(run)
        except RuntimeError as error:
            if accelerator.num_processes > 1 and _lost_connection(error):
                raise Stopped(f"another process of the run ended; {folder.kept()}", 1) from error
            raise
        accelerator.end_training()
    return summary


def _lost_connection(error: RuntimeError) -> bool:
    """Whether a collective operation failed because a process is gone."""
    if isinstance(error, torch.distributed.DistError):  # NCCL
        return True
    # Gloo raises a bare RuntimeError, from the backward pass, too: its words are all there is. To
    # take every RuntimeError for it would hide a bug of this process, or a full GPU.
    words = ("gloo", "peer", "Connection reset", "Connection closed")
    return any(word in str(error) for word in words)


def train_epoch(run: Run) -> bool:
    """Take the steps of one epoch, from wherever the position is in it.

    Returns:
        Whether a signal asks to stop.

    Raises:
        Stopped: after a signal, with the checkpoint written; or the loss is not finite.
    """
    accelerator, optim, at = run.accelerator, run.config.optim, run.position
    if at.batch == run.batches.per_epoch:
        return False  # resumed after the last step; an empty loader breaks some Accelerates
    run.batches.epoch, run.batches.start = at.epoch, at.batch
    run.wrapped.train()
    began, began_at, stopping = time.perf_counter(), at.batch, False
    waiting: Tensor | None = None  # a step's numbers are read one step late: a GPU can run ahead
    with run.signals.deferred():
        for pixels, targets in run.loader:
            images = model_input(run.model, pixels)  # (B, 3, H, W)
            with accelerator.accumulate(run.wrapped):
                with accelerator.autocast():
                    loss = run.criterion(run.wrapped(images), targets)
                loss = loss * _share_of_known(accelerator, targets)
                accelerator.backward(loss)
                if accelerator.sync_gradients and optim.clip_grad:
                    accelerator.clip_grad_norm_(run.parameters.values(), optim.clip_grad)
                run.optimizer.step()
                run.optimizer.zero_grad()
            at.batch += 1
            if accelerator.sync_gradients:  # the last of `accumulate` batches
                at.step += 1
                if not run.optimizer.step_was_skipped:  # by the fp16 scaler
                    run.schedule.step()
                    if run.ema is not None:
                        run.ema.update()
            stopping |= _read(run, waiting)
            waiting = _numbers(run, loss, targets)
            run.bar.advance(
                run.global_batch, at.loss_sum / (at.batch - 1) if at.batch > 1 else None
            )
            if accelerator.sync_gradients and (stopping or run.checkpoint_due()):
                stopping |= _read(run, waiting)
                waiting = None
                if accelerator.is_main_process:
                    run.save()
                if stopping:
                    accelerator.wait_for_everyone()
                    raise run.signals.stop()
        stopping |= _read(run, waiting)
        if accelerator.num_processes == 1:
            stopping |= run.signals.received is not None
    seconds = time.perf_counter() - began
    run.images_per_second = (at.batch - began_at) * run.global_batch / max(seconds, 1e-9)
    return stopping


def _share_of_known(accelerator: Accelerator, targets: Tensor) -> Tensor | float:
    """Weight that makes the mean over processes the mean over all known labels of the batch."""
    if accelerator.num_processes == 1:
        return 1.0
    known = (targets != -1).sum().float()
    return known / accelerator.reduce(known, "mean").clamp(min=1)


def _numbers(run: Run, loss: Tensor, targets: Tensor) -> Tensor:
    """Loss, wish to stop, and unreadable images of a step, agreed on by all processes."""
    skipped = (targets == -1).all(dim=1).sum() if run.config.data.skip_corrupt else 0
    stop = run.signals.received is not None
    own = torch.tensor([0.0, float(stop), 0.0], device=loss.device)
    own[0], own[2] = loss.detach(), skipped
    return run.accelerator.reduce(own, "sum")


def _read(run: Run, numbers: Tensor | None) -> bool:
    """Account for the numbers of a step; True: stop after this one."""
    if numbers is None:
        return False
    loss, stop, skipped = numbers.tolist()
    loss /= run.accelerator.num_processes
    if not torch.isfinite(torch.tensor(loss)):
        raise run.not_finite("the loss")
    run.position.loss_sum += loss
    run.position.skipped += int(skipped)
    return stop > 0


def select(run: Run, stopping: bool = False) -> None:
    """End an epoch: score the validation images, note the epoch, keep the best, checkpoint."""
    at, main = run.position, run.accelerator.is_main_process
    if main:
        run.save()  # from here a signal ends the run at once, and nothing is lost
    if stopping:
        run.accelerator.wait_for_everyone()
        raise run.signals.stop()
    val = run.splits.val
    with run.averaged():
        score = [mean_ap(val.targets, predict(run, val))]
    broadcast_object_list(score)  # all processes must agree on when to stop
    line = {
        "epoch": at.epoch + 1,
        "step": at.step,
        "loss": at.loss_sum / run.batches.per_epoch,
        "val_mAP": score[0],
        "lr": run.schedule.get_last_lr()[0],
        "images_per_second": round(run.images_per_second, 1),
        "skipped_images": at.skipped,
    }
    run.position = Position(at.epoch + 1, 0, at.step, history=[*at.history, line])
    if not main:
        return
    if run.best is line:
        with run.averaged():
            state = {"epoch": line["epoch"], "val_mAP": score[0]}
            checkpoint.save(run.folder.best, run.parameters, state)
            run.folder.save_model(run.model)
    run.folder.write_metrics(run.position.history)
    run.save()
    track(run.accelerator, line)
    run.bar.epoch(line, run.config.optim.epochs)


def predict(run: Run, dataset: MultiLabelDataset) -> np.ndarray:
    """(N, K) probabilities with the run's precision and processes."""
    # starting workers takes longer than reading decoded images from memory
    in_memory = isinstance(dataset, DecodedCache) and dataset.n_cached == len(dataset)
    with run.accelerator.autocast():
        return predict_dataset(
            run.model,
            dataset,
            batch_size=run.batches.batch_size,
            workers=0 if in_memory else run.config.optim.workers,
            skip_corrupt=run.config.data.skip_corrupt,
            accelerator=run.accelerator,
        )


def finish(run: Run) -> dict[str, Any]:
    """Evaluate the best weights on val and, once, on the test splits; write the summary."""
    weights, best = checkpoint.load(run.folder.best)
    checkpoint.copy_weights(run.parameters, weights, run.folder.best)
    held_out = run.config.data.hold_out  # else val was trained on, and says nothing
    parts = {"val": run.splits.val} if held_out else {}
    parts |= run.splits.tests
    probabilities = {name: predict(run, part) for name, part in parts.items()}
    if not run.accelerator.is_main_process:
        return {}
    class_names, thresholds = run.splits.val.class_names, None
    if held_out:
        thresholds = tuned_thresholds(run.splits.val.targets, probabilities["val"])
    found = {name: torch.from_numpy(p).float() for name, p in probabilities.items()}
    write_bytes(run.folder.probabilities, save(found))
    metrics = {
        name: evaluate(part.targets, probabilities[name], class_names, thresholds)
        for name, part in parts.items()
    }
    results = {
        "metrics": metrics,
        "best_epoch": best["epoch"],
        "epochs": run.position.epoch,
        "trainable_parameters": sum(p.numel() for p in run.parameters.values()),
        "thresholds": dict(zip(class_names, thresholds or (), strict=bool(thresholds))),
        "config": to_dict(run.config),
    }
    run.bar.write(metrics_table(metrics))
    return write_record(
        run.folder.summary,
        results,
        seconds=run.seconds(),
        seed=run.config.optim.seed,
        device=run.device,
    )
