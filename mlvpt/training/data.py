"""Splits of a run, and loaders whose order and augmentation can be resumed anywhere.

The order of an epoch is a function of (seed, epoch), and the randomness of an image's augmentation
of (seed, epoch, index). So a run continued at step n of an epoch sees exactly what it would have
seen, whatever the number of workers and devices.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mlvpt.datasets import DecodedCache, MultiLabelDataset, Splits, load_splits
from mlvpt.errors import InputError
from mlvpt.images import normalize
from mlvpt.training.config import DataConfig


def dataset_hash(*datasets: MultiLabelDataset) -> str:
    """SHA-256 over class names, image ids and targets, to recognise a changed data set."""
    digest = hashlib.sha256()
    for dataset in datasets:
        digest.update("\0".join(dataset.class_names).encode())
        digest.update("\0".join(dataset.image_ids).encode())
        digest.update(np.ascontiguousarray(dataset.targets, dtype=np.int8).tobytes())
    return digest.hexdigest()


class EvaluationImages(Dataset):
    """Images through a deterministic transform, each with whether it could be read.

    Args:
        dataset: images; its targets are not used.
        transform: PIL image to uint8 tensor (3, H, W).
        image_size: (H, W).
        skip_corrupt: give an unreadable image as (zeros, False) instead of raising.
    """

    def __init__(
        self,
        dataset: MultiLabelDataset,
        transform: Callable[[Any], torch.Tensor],
        image_size: tuple[int, int],
        skip_corrupt: bool = False,
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.blank = torch.zeros(3, *image_size, dtype=torch.uint8)
        self.skip_corrupt = skip_corrupt

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, bool]:
        image = self.load(index)
        return (self.blank, False) if image is None else (self.transform(image), True)

    def load(self, index: int) -> Any:
        """The image before the transform; None if it is unreadable and may be skipped."""
        try:
            return self.dataset.load_image(index)
        except InputError:
            if not self.skip_corrupt:
                raise
            return None


class AugmentedImages(EvaluationImages):
    """Training images by (epoch, index); the augmentation is a function of both and the seed.

    Args:
        seed: of the run.
        others: see `EvaluationImages`; the transform draws from torch's generator alone. The
            targets of an unreadable image that is skipped are all -1, which the loss ignores.
    """

    def __init__(self, *others: Any, seed: int) -> None:
        super().__init__(*others)
        self.seed = seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, index = key
        target, image = torch.from_numpy(self.dataset.targets[index]), self.load(index)
        if image is None:
            return self.blank, torch.full_like(target, -1)
        if self.transform is as_is:  # draws nothing, so that seeding would be a third of the time
            return image, target
        seed = int(np.random.SeedSequence([self.seed, epoch, index]).generate_state(1)[0])
        with torch.random.fork_rng(devices=[]):  # leaves the loop's own random stream alone
            torch.default_generator.manual_seed(seed)
            return self.transform(image), target


class EpochBatches:
    """Batches of (epoch, index) keys in an order that is a function of (seed, epoch).

    Every image occurs at most once per epoch; the incomplete last batch is dropped, as in the
    release. `share` consecutive batches make one global batch, one for each process.

    Args:
        n_images: N.
        batch_size: images per global batch; lowered to N if there are fewer.
        share: number of processes, which must divide the batch size.
        seed: of the run.

    Attributes:
        epoch, start: set both before iterating; `start` is the global batch to begin with.
    """

    def __init__(self, n_images: int, batch_size: int, share: int, seed: int) -> None:
        if n_images < share:
            raise InputError(f"{n_images} training images cannot be shared by {share} processes.")
        batch_size = min(batch_size, n_images // share * share)
        if batch_size % share:
            raise InputError(
                f"optim.batch_size {batch_size} cannot be shared evenly by {share} processes: "
                f"choose a multiple of {share}."
            )
        self.n_images = n_images
        self.batch_size = batch_size // share  # Accelerate reads it
        self.drop_last = False  # nothing incomplete is ever given out
        self.share = share
        self.seed = seed
        self.per_epoch = n_images // batch_size
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return (self.per_epoch - self.start) * self.share

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n_images)
        size = self.batch_size
        for batch in range(self.start * self.share, self.per_epoch * self.share):
            yield [(self.epoch, int(i)) for i in order[batch * size : (batch + 1) * size]]


def make_loader(
    images: Dataset, batches: Sequence[Any] | EpochBatches, workers: int, on_gpu: bool = False
) -> DataLoader:
    """A DataLoader over given batches, with pinned memory for a GPU.

    There are never more workers than processors; what is loaded does not depend on their number.
    """
    workers = min(workers, n_cores())
    return DataLoader(
        images,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=on_gpu,
        persistent_workers=workers > 0 and isinstance(batches, EpochBatches),
        prefetch_factor=4 if workers else None,
        worker_init_fn=_start_worker if workers else None,
        generator=torch.Generator(),  # starting a loader must not draw from the loop's stream
    )


def model_input(model: Any, batch: torch.Tensor) -> torch.Tensor:
    """What a model reads of a batch: normalised images, or kept tokens, in the model's precision.

    Args:
        model: has the `mean` and `std` of its images.
        batch: (B, 3, H, W) uint8, or (B, T, D) float tokens.
    """
    dtype = next(model.parameters()).dtype
    if batch.dtype == torch.uint8:
        return normalize(batch, model.mean, model.std, dtype)
    return batch.to(dtype)


def as_is(tokens: torch.Tensor) -> torch.Tensor:
    """The transform of kept tokens: none."""
    return tokens


def n_cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pick_device(name: str) -> torch.device:
    """A device by name, checked; "auto" is the CUDA GPU where there is one, else the CPU.

    Raises:
        InputError: there is no such device here.
    """
    try:
        device = torch.device(
            ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
        )
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise InputError(f"the device {name!r} cannot be used here ({reason}).") from None
    return device


def _start_worker(_: int) -> None:
    """Ctrl-C reaches every process of the terminal; only the main one must act on it."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def load_data(config: DataConfig, seed: int) -> Splits:
    """Load the splits that a configuration names.

    Args:
        config: which data.
        seed: of the split of training images into train and val.

    Raises:
        InputError: whatever `load_splits` refuses.
    """
    found = load_splits(
        config.name,
        config.root,
        image_root=config.image_root,
        val_fraction=config.val_fraction,
        seed=seed,
        difficult=config.difficult,
        n_images=config.n_images,
        strength=config.strength,
    )
    train = found.train if config.hold_out else found.train.joined_with(found.val)
    return Splits(train, found.val, found.tests if config.test else {})


def cached(splits: Splits, image_size: tuple[int, int], config: DataConfig) -> Splits:
    """Keep decoded images of train and val in memory, sharing `config.cache_gb` by their numbers.

    They are stored at the image size, a third larger for the transform that crops.
    """
    if not config.cache_gb:
        return splits
    margin = 4 / 3 if config.transform == "ours" else 1
    total = len(splits.train) + len(splits.val)
    parts = []
    for part, scale in ((splits.train, margin), (splits.val, 1)):
        size = tuple(round(side * scale) for side in image_size)
        parts.append(DecodedCache(part, size, config.cache_gb * len(part) / total))
    return Splits(*parts, splits.tests)
