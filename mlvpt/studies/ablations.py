"""Named variants of one base run, and the studies made of them.

    pooling    the baselines with a linear head: class token or mean of the patches
    lr_sweep   every method at the same learning rates; val decides
    decay      every method at learning rates and weight decays together; val decides
    baselines  every method at the rate and the weight decay that val chose
    ablations  ML-VPT with one part changed at a time
    groups     ML-VPT with 2 to 13 groups, by labels, by chance, by k-means, as the authors released
               them where they did, and without grouping
    blocks     ML-VPT and VPT-deep with prompts, and BitFit with trained biases, in the last 1, 3,
               6 or in all blocks
    strength   eight methods as the planted co-occurrence of scenes grows from 0 to 1

Everything is compared on the same data, loop, loss and number of epochs, with the same seeds. A
seed decides initial weights, order of the images and the clustering, not the data. On photographs
the studies after the sweep train on the validation images too, at the learning rates and thresholds
that those chose; the test images are read once per run.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlvpt.backbones import create_backbone
from mlvpt.errors import InputError
from mlvpt.studies.grid import Job, read_rows, run_grid
from mlvpt.studies.pairs import reference_pairs
from mlvpt.studies.tables import study_table
from mlvpt.studies.variants import (
    BASE,
    GROUPS,
    METHODS,
    POOLED,
    PRUNED,
    Variant,
    ablation_variants,
    has_authors_groups,
    model_variant,
    strength_variants,
)
from mlvpt.training.config import DataConfig, ModelConfig, OptimConfig, TrainConfig
from mlvpt.training.data import load_data
from mlvpt.training.recipes import change

LEARNING_RATES = (5e-4, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1, 2e-1)
SWEPT_AT = 1e-2  # weight decay of the sweep: the release's
# together: what AdamW takes off a weight is rate times decay, so the best rate depends on the decay
DECAYED = tuple((lr, decay) for lr in (5e-3, 1e-2, 2e-2) for decay in (1.0, 3.0, 10.0, 30.0))
DECAYED += tuple((5e-2, decay) for decay in (1.0, 3.0, 10.0))
DECAYED += tuple((1e-1, decay) for decay in (1.0, 3.0))
BLOCKS = (1, 3, 6, "deep")
Run = tuple[Job, dict[str, Any]]  # and its row
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def scenes_base() -> TrainConfig:
    """The base on the embedded data: 16 prompts for every method, 8 epochs, seconds per run.

    Features are pooled over patches: the packaged backbone learned dense labels, and its class
    token says little (pooling study).
    """
    return TrainConfig(
        data=DataConfig(name="scenes"),
        model=ModelConfig(
            backbone="scenes", n_groups=4, experts_per_group=2, n_prompts=16, pool="patches"
        ),
        optim=OptimConfig(lr=2e-2, epochs=8, device="auto"),
    )


ABLATIONS = ablation_variants(scenes_base())


def ablate(
    name: str,
    *,
    seeds: int = 5,
    base: TrainConfig | None = None,
    out: str | Path = "results",
    workers: int | None = None,
    only: Sequence[str] = (),
    quiet: bool = False,
) -> str:
    """Make a study, or what is missing of it, and return its table.

    Args:
        name: pooling, lr_sweep, decay, baselines, ablations, groups, blocks or strength; "all" is
            all of them in this order, but strength for scenes alone, and decay, groups and blocks
            for photographs alone.
        seeds: number of seeds, 0 to seeds - 1. Pooling and the sweep use the first
            alone, strength the first three.
        base: the run that is varied; None is `scenes_base()`. strength is for scenes only.
        out: folder of the studies' files.
        workers: see `run_grid`.
        only: names of methods or variants; the others are left for another time.
        quiet: print nothing while it runs.

    Returns:
        The table, mAP in percent; for "all" the tables.
    """
    studies: dict[str, Callable[..., list[Job]]] = {
        "pooling": pooling_jobs,
        "lr_sweep": sweep_jobs,
        "decay": decay_jobs,
        "baselines": baseline_jobs,
        "ablations": ablation_jobs,
        "groups": group_jobs,
        "blocks": block_jobs,
        "strength": strength_jobs,
    }
    base = scenes_base() if base is None else base
    if seeds < 1:
        raise InputError(f"seeds is {seeds}: ask for at least one.")
    if name == "all":
        other = ("decay", "groups", "blocks") if base.data.name == "scenes" else ("strength",)
        chosen = [study for study in studies if study not in other]
    elif name in studies:
        chosen = [name]
    else:
        raise InputError(f"There is no study {name!r}: choose all, {', '.join(studies)}.")
    _check_once(base)
    tables, searches = [], ("pooling", "lr_sweep", "decay")
    for study in chosen:
        jobs = _asked_for(studies[study](base, range(seeds), Path(out)), only)
        if base.data.name != "scenes" and study not in searches:
            pairs = reference_pairs(reference_run(base, Path(out)), Path(out) / "pairs.json")
            named = tuple((pair["label"], pair["partner"]) for pair in pairs)
            jobs = [dataclasses.replace(job, pairs=named) for job in jobs]
        if study not in searches and not quiet and not best_runs(base, Path(out)):
            print(
                f"{study}: {out} has no sweep of this base, so every method takes the learning "
                f"rate {base.optim.lr:g}; `mlvpt ablate lr_sweep` makes one."
            )
        rows = run_grid(jobs, Path(out) / f"{study}.jsonl", workers=workers, quiet=quiet)
        reference = BASE if study in ("baselines", "ablations") else None
        tables.append(f"{study}\n{study_table(rows, reference)}")
    return "\n\n".join(tables)


def _check_once(base: TrainConfig) -> None:
    """Load data and backbone before the first job, so that a wrong path is one sentence, not 100.

    Raises:
        InputError: whatever the loaders refuse.
    """
    load_data(base.data, base.optim.seed)
    model = base.model
    create_backbone(
        model.backbone,
        pretrained=model.pretrained,
        image_size=model.image_size,
        checkpoint=model.backbone_checkpoint,
    )


def pooling_jobs(base: TrainConfig, seeds: Sequence[int], out: Path) -> list[Job]:
    """Both poolings of the baselines that a frozen or tuned feature decides most."""
    pools = [
        Variant(f"{name}, {pool}", {"model.method": name, "model.pool": pool})
        for name in POOLED
        for pool in ("class", "patches")
    ]
    return _jobs(pools, base, seeds[:1])


def sweep_jobs(base: TrainConfig, seeds: Sequence[int], out: Path) -> list[Job]:
    """Every method at every learning rate, with the release's weight decay.

    On photographs the test images are left alone.
    """
    base = change(base, {"model.pool": best_pool(base, out)})
    if base.data.name != "scenes":
        base = change(base, {"data.test": False})
    base = change(base, {"optim.weight_decay": SWEPT_AT})
    sweep = [
        Variant(f"{method.name}, {lr:g}", {**method.changes, "optim.lr": lr})
        for method in METHODS
        for lr in LEARNING_RATES
    ]
    return _jobs(sweep, base, seeds[:1])


def decay_jobs(base: TrainConfig, seeds: Sequence[int], out: Path) -> list[Job]:
    """Every method at pairs of learning rate and weight decay; no test images."""
    base = change(base, {"model.pool": best_pool(base, out), "data.test": False})
    pairs = [
        Variant(
            f"{method.name}, {lr:g}, {decay:g}",
            {**method.changes, "optim.lr": lr, "optim.weight_decay": decay},
        )
        for method in METHODS
        for lr, decay in DECAYED
    ]
    return _jobs(pairs, base, seeds[:1])


def baseline_jobs(base: TrainConfig, seeds: Sequence[int], out: Path) -> list[Job]:
    """Every method at its own learning rate."""
    base = change(base, {"model.pool": best_pool(base, out)})
    best = best_runs(base, out)
    return _jobs(_tuned((*METHODS, PRUNED), best), base, seeds, best)


def ablation_jobs(base: TrainConfig, seeds: Sequence[int], out: Path) -> list[Job]:
    """ML-VPT with one part changed, all at ML-VPT's learning rate."""
    base = change(base, {"model.pool": best_pool(base, out)})
    best = best_runs(base, out)
    return _jobs(_tuned(ablation_variants(base), best), base, seeds, best)


def group_jobs(base: TrainConfig, seeds: Sequence[int], out: Path) -> list[Job]:
    """Which classes share a group: by labels, chance, k-means or the authors' file, and one group.

    The number of prompts grows with the number of groups, and so does that of the single group.
    """
    base = change(base, {"model.pool": best_pool(base, out)})
    experts, n_classes = base.model.experts_per_group, _n_classes(base)
    grouped = [
        model_variant(f"{source}, {n}", "groups", group_source=source, n_groups=n)
        for n in GROUPS
        if n <= n_classes
        for source in ("labels", "random", "kmeans", "authors")
        if source != "authors" or has_authors_groups(base, n)
    ]
    single = [
        model_variant(f"single, {n}", "none", group_source="single", experts_per_group=n * experts)
        for n in GROUPS
        if n <= n_classes
    ]
    best = best_runs(base, out)
    return _jobs(_tuned([*grouped, *single], best), base, seeds, best)


def block_jobs(base: TrainConfig, seeds: Sequence[int], out: Path) -> list[Job]:
    """Prompts or trained biases in the last blocks alone, what they reach and what they cost.

    Rate and decay are those that decay chose with as many blocks (`--model.depth 3`), or else with
    the most blocks below.
    """
    base = change(base, {"model.pool": best_pool(base, out)})
    methods = [variant for variant in METHODS if variant.name in (BASE, "vpt_deep", "bitfit")]
    best: dict[str, Run] = {}
    jobs: list[Job] = []
    for n in BLOCKS:
        best |= best_runs(change(base, {"model.depth": n}), out)
        blocks = [
            Variant(f"{method.name}, {n}", {**method.changes, "model.depth": n, **_uncached(n)})
            for method in methods
        ]
        jobs += _jobs(_tuned(blocks, best), base, seeds, best)
    return sorted(jobs, key=lambda job: job.seed)


def _uncached(depth: int | str) -> dict[str, Any]:
    """Where every block has prompts there are no tokens to keep."""
    return {"data.token_cache": None} if depth == "deep" else {}


def _n_classes(base: TrainConfig) -> int:
    return len(load_data(base.data, 0).train.class_names)


def strength_jobs(base: TrainConfig, seeds: Sequence[int], out: Path) -> list[Job]:
    """Methods and parts of ML-VPT at five strengths of the planted co-occurrence."""
    base = change(base, {"model.pool": best_pool(base, out)})
    grown = [
        Variant(f"{v.name}, {strength:g}", {**v.changes, "data.strength": strength})
        for v in _tuned(strength_variants(base), best_runs(base, out))
        for strength in STRENGTHS
    ]
    return _jobs(grown, base, seeds[:3])


def best_pool(base: TrainConfig, out: Path) -> str | None:
    """The pooling with the better mean val mAP in the pooling study; the base's own without it."""
    found: dict[str, list[float]] = {}
    for row in _rows_of(pooling_jobs(base, range(1), out), out / "pooling.jsonl"):
        found.setdefault(row["variant"].split(", ")[1], []).append(row["val_mAP"])
    if not found:
        return base.model.pool
    return max(found, key=lambda pool: sum(found[pool]) / len(found[pool]))


def best_runs(base: TrainConfig, out: Path) -> dict[str, Run]:
    """The run with the best val mAP of each method, of all that its rate and decay are chosen by.

    Returns:
        {method: (job, row)} from the studies lr_sweep and decay of this base.
    """
    best: dict[str, Run] = {}
    for study, jobs_of in (("lr_sweep", sweep_jobs), ("decay", decay_jobs)):
        jobs = {job.key: job for job in jobs_of(base, range(1), out)}
        for row in _rows_of(list(jobs.values()), out / f"{study}.jsonl"):
            job = jobs[row["key"]]
            method = job.config.model.method
            if method not in best or row["val_mAP"] > best[method][1]["val_mAP"]:
                best[method] = job, row
    return best


def reference_run(base: TrainConfig, out: Path) -> TrainConfig:
    """The run whose model names the biased pairs: a linear probe at its best rate, seed 0.

    It holds half of the training images out: with fewer, few pairs have images enough.
    """
    probe = Variant("linear_probe", {"model.method": "linear_probe", "optim.seed": 0})
    (tuned,) = _tuned([probe], best_runs(base, out))
    return change(base, {**tuned.changes, "data.val_fraction": 0.5, "data.test": False})


def _rows_of(jobs: Sequence[Job], path: Path) -> list[dict[str, Any]]:
    """The recorded rows of these jobs; those of another base, which lie there too, are not."""
    keys = {job.key for job in jobs}
    return [row for row in read_rows(path) if row.get("key") in keys and "error" not in row]


def _tuned(variants: Sequence[Variant], best: Mapping[str, Run]) -> list[Variant]:
    """The variants, each at its method's learning rate and weight decay, where val chose them."""
    tuned = []
    for variant in variants:
        method, chosen = variant.changes.get("model.method", BASE), {}
        if method in best:
            optim = best[method][0].config.optim
            chosen = {"optim.lr": optim.lr, "optim.weight_decay": optim.weight_decay}
        tuned.append(dataclasses.replace(variant, changes={**chosen, **variant.changes}))
    return tuned


def _jobs(
    variants: Sequence[Variant],
    base: TrainConfig,
    seeds: Sequence[int],
    best: Mapping[str, Run] | None = None,
) -> list[Job]:
    """Jobs seed by seed, so that a grid cut short has every variant, with fewer seeds.

    A variant that equals an earlier one, such as "5 groups" where the base has five, is that one
    and no job of its own. With `best` these are final runs: on photographs they train on the
    validation images too, and take the thresholds that their method's best run found.
    """
    final = best is not None and base.data.name != "scenes"
    jobs: dict[str, Job] = {}
    for seed in seeds:
        for v in variants:
            changes = {**v.changes, "optim.seed": seed}
            if final:
                changes["data.hold_out"] = False
            _, chosen = (best or {}).get(v.changes.get("model.method", BASE), (None, {}))
            found = tuple(chosen["thresholds"]) if "thresholds" in chosen else None
            job = Job(v.name, change(base, changes), v.prune, found)
            jobs.setdefault(job.key, job)
    return list(jobs.values())


def _asked_for(jobs: Sequence[Job], only: Sequence[str]) -> list[Job]:
    """The jobs of the methods or variants in `only`; all of them without it."""
    if not only:
        return list(jobs)
    names = {name for job in jobs for name in (job.variant, job.variant.split(", ")[0])}
    unknown = sorted(set(only) - names)
    if unknown:
        raise InputError(f"the study has no {unknown[0]!r}: choose {', '.join(sorted(names))}.")
    return [job for job in jobs if {job.variant, job.variant.split(", ")[0]} & set(only)]
