"""An experiment tracker beside metrics.jsonl: TensorBoard, Weights & Biases or Trackio.

Through Accelerate's `log_with`. Nothing is read back from a tracker, and a run ends in the same
numbers with it and without it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers

from mlvpt.errors import InputError
from mlvpt.training.config import TrainConfig, flatten
from mlvpt.training.folder import RunFolder

LOGGED = ("loss", "val_mAP", "lr", "images_per_second", "skipped_images")


def require_tracker(name: str | None) -> None:
    """Refuse a tracker that cannot be used here.

    Raises:
        InputError: its package is not installed, or Accelerate is too old to know it.
    """
    if name is not None and name not in [tracker.value for tracker in get_available_trackers()]:
        raise InputError(
            f"optim.track is {name}, and {name} is not installed or too new for this accelerate: "
            f"pip install -U {name} accelerate, or leave the option out."
        )


@contextmanager
def tracked(accelerator: Accelerator, config: TrainConfig, folder: RunFolder) -> Iterator[None]:
    """A block in which `track` reaches the tracker of the configuration; main process only.

    The run is called as its folder, in the project "mlvpt"; TensorBoard's and Weights & Biases'
    files go to the folder itself.

    Raises:
        InputError: the tracker cannot be started, such as one that has no account.
    """
    name = config.optim.track
    if name is None or not accelerator.is_main_process:
        yield
        return
    project = "tensorboard" if name == "tensorboard" else "mlvpt"  # the name of its folder
    options = {
        "wandb": {"name": folder.path.name, "dir": str(folder.path)},
        "trackio": {"name": folder.path.name},
    }
    settings = {
        key: value if isinstance(value, (bool, int, float, str)) else str(value)
        for key, value in flatten(config).items()
    }
    try:
        accelerator.init_trackers(project, settings, options)
    except Exception as error:  # whatever a service raises
        raise InputError(
            f"{name} could not be started ({error}): correct that, or leave optim.track out."
        ) from error
    try:
        yield
    finally:
        while accelerator.trackers:  # else Accelerate ends them once more
            accelerator.trackers.pop().finish()


def track(accelerator: Accelerator, line: dict[str, Any]) -> None:
    """Log a finished epoch, at its step; `line` is what metrics.jsonl gets."""
    accelerator.log({name: line[name] for name in LOGGED}, step=line["step"])
