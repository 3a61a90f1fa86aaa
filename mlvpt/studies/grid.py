"""Grids of training runs that are recorded as they finish, and resumed after a stop.

A study is a file of JSON lines, one per run, each a record of how it came about (command, commit,
seed, device, versions, seconds) with the configuration and what was measured, or with the reason
why the run failed. A run is recognised by a hash of its whole configuration: killed and started
again, a grid does what is missing, and a run that another study in the same folder made is not made
twice. Settings that a record does not name, because they were added later or stood at a default,
are in unnamed.json with the value that they had then: a changed default changes no old record.
"""

import dataclasses
import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from importlib import resources
from multiprocessing import connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlvpt.errors import InputError, Stopped
from mlvpt.files import write_text
from mlvpt.training.checkpoint import run_lock
from mlvpt.training.config import EXECUTION, RENAMED, TrainConfig, flatten
from mlvpt.training.record import make_record


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of a study.

    Attributes:
        variant: its name in the study.
        config: what is trained; the seed is in it.
        prune: train, prune and rewind, train again (E2VPT).
        thresholds: (K,) tuned on validation images by another run, for a run that trains on them.
        pairs: (label, partner) names on which co-occurrence is measured, see studies/pairs.py.
    """

    variant: str
    config: TrainConfig
    prune: bool = False
    thresholds: tuple[float, ...] | None = None
    pairs: tuple[tuple[str, str], ...] = ()

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.config.optim.seed

    @property
    def key(self) -> str:
        """Hash of every setting; see `key_of`."""
        return key_of(flatten(self.config), self.prune)


def key_of(settings: dict[str, Any], prune: bool) -> str:
    """Hash of a run's settings.

    How the work is executed decides no result and is left out. Paths count as written.

    Args:
        settings: by dotted name; what it does not name has its value in unnamed.json.
        prune: see `Job`.
    """
    text = (resources.files("mlvpt.studies") / "unnamed.json").read_text(encoding="utf-8")
    whole = json.loads(text) | {RENAMED.get(name, name): v for name, v in settings.items()}
    whole = {name: value for name, value in whole.items() if name not in EXECUTION}
    text = json.dumps({**whole, "prune": prune}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a study; a last line that a killed process left unfinished is dropped.

    The key of a row follows from its settings, whatever the version that wrote it called it.
    """
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if "config" in row:  # other records may lie in the same folder
                pruned = row.get("prune", row["variant"].split(",")[0].endswith("_pruned"))
                row["key"] = key_of(row["config"], pruned)
            rows.append(row)
        except ValueError:
            if number < len(lines):
                raise InputError(
                    f"Line {number} of {path} is no JSON: remove it, and the run is made again."
                ) from None
    return rows


def run_grid(
    jobs: Sequence[Job], path: str | Path, *, workers: int | None = None, quiet: bool = False
) -> list[dict[str, Any]]:
    """The rows of all jobs, after making the runs that `path` does not hold yet.

    Args:
        jobs: the runs.
        path: the study's file; others in its folder are looked up too.
        workers: processes. None: one per GPU, or one per CPU core with one thread each.
        quiet: print nothing.

    Returns:
        The rows of the jobs, in their order. A run that failed has a row, too, with its reason
        under "error" and nothing measured; it is not tried again while that row stands.

    Raises:
        InputError: another process works in the same folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with run_lock(path.parent):
        rows = {row["key"]: row for row in read_rows(path)}
        _rewrite(path, rows)
        elsewhere = {
            row["key"]: row
            for other in sorted(path.parent.glob("*.jsonl"))
            if other != path
            for row in read_rows(other)
            if "key" in row  # other records may lie there
        }
        missing = []
        for job in {job.key: job for job in jobs}.values():
            if job.key in elsewhere and job.key not in rows:
                rows[job.key] = {**elsewhere[job.key], "variant": job.variant}
                _append(path, rows[job.key])
            elif job.key not in rows:
                missing.append(job)
        total = len(missing)
        if total < len(jobs) and not quiet:
            there = {rows[job.key].get("commit") or "unknown" for job in jobs if job.key in rows}
            print(
                f"{path.stem}: {len(jobs) - total} of {len(jobs)} runs are there, made at commit "
                f"{', '.join(sorted(there))}; to make them again, remove their lines from every "
                f"file of {path.parent}.",
                flush=True,
            )
        with _pool(workers, total) as pool:
            waiting = {pool.submit(_run, job): job for job in missing}
            for done, future in enumerate(as_completed(waiting), start=1):
                job = waiting[future]
                name = f"{job.variant}, seed {job.seed}"
                rows[job.key] = row = future.result()
                _append(path, row)
                if not quiet:
                    print(f"{path.stem} {done}/{total}  {name}: {_shown(row)}", flush=True)
    return [rows[job.key] for job in jobs]


@contextmanager
def _pool(workers: int | None, n_jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes, each with a GPU or a thread of its own, ended at once on Ctrl-C."""
    import torch

    from mlvpt.training.data import n_cores

    n_gpus = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")  # the user may leave some to others
    gpus = visible.split(",") if visible else [str(number) for number in range(n_gpus)]
    workers = max(1, min(workers or n_gpus or n_cores(), n_jobs))
    context = multiprocessing.get_context("spawn")
    turns = context.Queue()
    for turn in range(workers):
        turns.put(gpus[turn % n_gpus] if n_gpus else None)
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(turns,))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    pool.shutdown()


def _start_worker(turns: Any) -> None:
    """Claim a GPU before CUDA starts, or one thread: runs side by side share nothing."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gpu = turns.get()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    import torch

    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """A killed grid must not leave workers behind that go on training."""
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _run(job: Job) -> dict[str, Any]:
    """Make one run in a worker. A failed run must not end the others."""
    try:
        return make_run(job)
    except Stopped as stop:
        if stop.exit_code > 128:  # by a signal: no other job must begin in this worker
            os._exit(stop.exit_code)
        return _failed(job, str(stop))
    except Exception as error:
        return _failed(job, f"{type(error).__name__}: {error}")


def _failed(job: Job, reason: str) -> dict[str, Any]:
    """The row of a run that came to nothing."""
    record = make_record(None, seconds=0.0, seed=job.seed)
    del record["results"]
    return {**_head(job), **record, "error": reason, "config": flatten(job.config)}


def _head(job: Job) -> dict[str, Any]:
    return {"key": job.key, "variant": job.variant, "prune": job.prune}


def _shown(row: dict[str, Any]) -> str:
    """What a line of progress says of a run."""
    if "error" in row:
        return f"failed: {row['error']}"
    split = "val" if "val_mAP" in row else "test"
    return f"{split} mAP {100 * row[f'{split}_mAP']:.2f}"


def make_run(job: Job) -> dict[str, Any]:
    """Train and measure one run; its files are temporary, its row is what remains.

    Returns:
        The row: key, variant, seed, the record's fields, the measures of `measure`, config.
    """
    from mlvpt.studies.measures import measure
    from mlvpt.training.build import load_model
    from mlvpt.training.data import pick_device
    from mlvpt.training.loop import train

    config, seconds, device = job.config, 0.0, pick_device(job.config.optim.device)
    with TemporaryDirectory() as folder:
        if job.prune:
            first = train(config, Path(folder) / "first", progress=False)
            seconds += first["seconds"]
            trained = load_model(Path(folder) / "first").to(device)
            _prune(trained, config, Path(folder) / "pruned")
            start = dataclasses.replace(config.model, start_from=str(Path(folder) / "pruned"))
            config = dataclasses.replace(config, model=start)
        summary = train(config, Path(folder) / "run", progress=False)
        model = load_model(Path(folder) / "run").to(device)
        found = measure(Path(folder) / "run", config, summary, job.thresholds, job.pairs)
    results = summary.pop("results")
    return {
        **_head(job),
        **summary,
        "seconds": round(seconds + summary["seconds"], 2),
        "trained_parameters": getattr(model, "n_effective", results["trainable_parameters"]),
        "best_epoch": results["best_epoch"],
        **found,
        "config": flatten(job.config),
    }


def _prune(model: Any, config: TrainConfig, folder: Path) -> None:
    """Prune and rewind a trained E2VPT on its training images, and save it."""
    import torch

    from mlvpt.images import eval_transform, normalize
    from mlvpt.training.build import build_loss
    from mlvpt.training.data import EvaluationImages, load_data, make_loader

    data = load_data(config.data, config.optim.seed).train
    size = config.optim.batch_size
    batches = [list(range(i, min(i + size, len(data)))) for i in range(0, len(data), size)]
    device, skip = next(model.parameters()).device, config.data.skip_corrupt
    images = EvaluationImages(data, eval_transform(model.image_size), model.image_size, skip)
    loader = make_loader(images, batches, config.optim.workers)
    targets = torch.from_numpy(data.targets)
    pairs = (
        (
            normalize(pixels.to(device), model.mean, model.std),
            targets[batch].masked_fill(~readable[:, None], -1).to(device),
        )
        for batch, (pixels, readable) in zip(batches, loader, strict=True)
    )
    torch.manual_seed(config.optim.seed)
    model.prune(pairs, build_loss(config.loss))
    model.save_pretrained(folder)


def _append(path: Path, row: dict[str, Any]) -> None:
    """One line, on the disk before the next run's result is waited for."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _rewrite(path: Path, rows: dict[str, dict[str, Any]]) -> None:
    """Drop a half-written last line before anything is appended to it."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.values())
    if path.exists() and path.read_text(encoding="utf-8") != text:
        write_text(path, text)
