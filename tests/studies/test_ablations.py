"""Studies make the runs they name, once, and compare them seed by seed."""

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from layouts import make_voc
from scipy import stats

from mlvpt import results
from mlvpt.baselines import BASELINES
from mlvpt.cli import main as cli
from mlvpt.datasets.scenes import SPLIT_SIZES
from mlvpt.errors import InputError, Stopped
from mlvpt.studies import ablations, grid
from mlvpt.studies.ablations import (
    ABLATIONS,
    LEARNING_RATES,
    METHODS,
    ablate,
    ablation_jobs,
    baseline_jobs,
    best_pool,
    best_runs,
    block_jobs,
    change,
    decay_jobs,
    group_jobs,
    pooling_jobs,
    scenes_base,
    strength_jobs,
    sweep_jobs,
)
from mlvpt.studies.grid import Job, make_run, read_rows, run_grid
from mlvpt.studies.measures import look_alike_confusion
from mlvpt.studies.pairs import reference_pairs
from mlvpt.studies.statistics import mean_std, paired_test, summarise
from mlvpt.studies.tables import results_frame
from mlvpt.studies.variants import ablation_variants
from mlvpt.training import recipes
from mlvpt.training.config import TrainConfig


def tiny_base() -> TrainConfig:
    return change(scenes_base(), {"optim.epochs": 1, "data.n_images": 64, "optim.device": "cpu"})


def fake_row(job: Job, **values) -> dict:
    row = {"key": job.key, "variant": job.variant, "seed": job.seed, "seconds": 1.0}
    return {**row, "trained_parameters": 5, "val_mAP": 0.5, "test_mAP": 0.5, **values}


class InlinePool:
    """Runs a grid in this process; counts what is run."""

    def __init__(self, run):
        self.run, self.made = run, []

    def __call__(self, workers, n_jobs):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def submit(self, _, job):
        from concurrent.futures import Future

        self.made.append(job)
        future = Future()
        future.set_result(self.run(job))
        return future


@pytest.fixture
def small_splits(monkeypatch):
    for split in ("val", "test", "test_shifted"):
        monkeypatch.setitem(SPLIT_SIZES, split, 60)


@pytest.fixture
def pool(monkeypatch):
    inline = InlinePool(fake_row)
    monkeypatch.setattr(grid, "_pool", inline)
    return inline


def test_every_ablation_differs_from_the_base_and_from_the_others():
    keys = [Job(v.name, change(scenes_base(), v.changes)).key for v in ABLATIONS]
    assert len(set(keys)) == len(ABLATIONS)
    assert len({v.name for v in ABLATIONS}) == len(ABLATIONS)


def test_ablations_of_photographs_differ_but_for_those_that_equal_the_base():
    base = photographs_base("voc2007_deit_tiny")
    variants = ablation_variants(base)
    names_of = {}
    for variant in variants:
        names_of.setdefault(Job("", change(base, variant.changes)).key, []).append(variant.name)
    assert [names for names in names_of.values() if len(names) > 1] == [
        ["mlvpt", "groups_5", "experts_3"]
    ]
    experts = {v.changes.get("model.experts_per_group") for v in variants if "experts_" in v.name}
    assert experts == {1, 2, 3, 4, 6, 8}


@pytest.mark.parametrize("name", ["co_only_x2", "dc_only_x2", "one_group", "random_groups"])
@pytest.mark.parametrize(("groups", "experts"), [(4, 2), (5, 3), (2, 1)])
def test_variants_that_ask_about_groups_keep_the_number_of_prompts(name, groups, experts):
    base = change(scenes_base(), {"model.n_groups": groups, "model.experts_per_group": experts})
    variant = next(v for v in ablation_variants(base) if v.name == name)
    model = change(base, variant.changes).model
    groups_of = 1 if model.group_source == "single" else model.n_groups
    assert len(model.views) * groups_of * model.experts_per_group == 2 * groups * experts


@pytest.mark.parametrize("depth", ["deep", 1])
def test_prompts_before_the_first_block_are_a_variant_of_prompts_in_all_blocks_alone(depth):
    names = {v.name for v in ablation_variants(change(scenes_base(), {"model.depth": depth}))}
    assert ("shallow" in names) == (depth == "deep")


def test_groups_of_the_authors_are_compared_where_they_released_some(tmp_path, monkeypatch):
    monkeypatch.setattr(ablations, "_n_classes", lambda _: 20)
    for name, expected in (("voc2007", True), ("manifest", False)):
        base = change(photographs_base("voc2007_deit_tiny"), {"data.name": name})
        sources = {j.config.model.group_source for j in group_jobs(base, [0], tmp_path)}
        assert ("authors" in sources) == expected
        assert ("authors_groups" in {v.name for v in ablation_variants(base)}) == expected


def test_the_parts_of_the_papers_own_ablation_are_marked():
    marked = {v.name for v in ABLATIONS if v.paper}
    assert {"co_only", "dc_only", "gate_mean", "no_gate_loss", "groups_2", "experts_1"} <= marked
    assert {"random_groups", "one_group", "bce", "shallow", "root_1"}.isdisjoint(marked)


def test_the_sweep_gives_every_method_the_same_learning_rates(tmp_path):
    jobs = sweep_jobs(scenes_base(), range(5), tmp_path)
    tried = {}
    for job in jobs:
        tried.setdefault(job.config.model.method, set()).add((job.config.optim.lr, job.seed))
    assert tried.keys() == {"mlvpt", *BASELINES}
    assert set(map(frozenset, tried.values())) == {frozenset((lr, 0) for lr in LEARNING_RATES)}


def test_baselines_use_the_learning_rate_and_pooling_that_val_prefers(tmp_path):
    base = scenes_base()
    for job in pooling_jobs(base, range(1), tmp_path):
        better = job.config.model.pool == "patches"
        grid._append(tmp_path / "pooling.jsonl", fake_row(job, val_mAP=0.6 if better else 0.4))
    for job in sweep_jobs(base, range(1), tmp_path):
        wanted = 2e-2 if job.config.model.method == "vpt_deep" else 5e-4
        score = 0.6 if job.config.optim.lr == wanted else 0.4
        grid._append(tmp_path / "lr_sweep.jsonl", fake_row(job, val_mAP=score))
    by_name = {job.variant: job.config for job in baseline_jobs(base, range(1), tmp_path)}
    assert {c.model.pool for c in by_name.values()} == {"patches"}
    assert by_name["vpt_deep"].optim.lr == 2e-2
    assert by_name["lora"].optim.lr == by_name["e2vpt_pruned"].optim.lr == 5e-4


def test_the_swept_runs_are_those_of_the_study_with_the_same_seeds(tmp_path):
    swept = {job.key for job in sweep_jobs(scenes_base(), range(1), tmp_path)}
    methods = [j for j in baseline_jobs(scenes_base(), range(1), tmp_path) if not j.prune]
    assert len(methods) == len(METHODS)
    assert {job.key for job in methods} <= swept


def test_jobs_are_ordered_seed_by_seed(tmp_path):
    seeds = [job.seed for job in ablation_jobs(scenes_base(), range(3), tmp_path)]
    assert seeds == sorted(seeds)


def test_strength_changes_the_data_of_methods_and_of_parts_with_as_many_prompts(tmp_path):
    jobs = strength_jobs(scenes_base(), range(1), tmp_path)
    assert len(jobs) == 40
    assert {"one_group, 0", "co_only_x2, 0", "dc_only_x2, 1"} <= {job.variant for job in jobs}
    assert {job.config.data.strength for job in jobs} == {0.0, 0.25, 0.5, 0.75, 1.0}


def test_a_killed_grid_makes_only_what_is_missing(tmp_path, pool):
    jobs = [Job("a", change(tiny_base(), {"optim.seed": seed})) for seed in range(4)]
    path = tmp_path / "study.jsonl"
    run_grid(jobs[:2], path, quiet=True)
    with path.open("a") as file:
        file.write('{"key": "half a li')  # killed while it wrote
    pool.made.clear()
    rows = run_grid(jobs, path, quiet=True)
    assert pool.made == jobs[2:]
    assert [row["seed"] for row in rows] == [0, 1, 2, 3]
    assert len(read_rows(path)) == 4


def test_a_run_of_another_study_is_taken_over_under_the_new_name(tmp_path, pool):
    job = Job("vpt_deep, 0.005", tiny_base())
    run_grid([job], tmp_path / "sweep.jsonl", quiet=True)
    pool.made.clear()
    (row,) = run_grid(
        [dataclasses.replace(job, variant="vpt_deep")], tmp_path / "b.jsonl", quiet=True
    )
    assert pool.made == []
    assert row["variant"] == "vpt_deep"


def test_a_failed_run_is_a_row_with_its_reason_and_is_not_made_again(tmp_path, pool):
    pool.run = lambda job: grid._failed(job, "boom") if job.seed == 0 else fake_row(job)
    jobs = [Job("a", change(tiny_base(), {"optim.seed": seed})) for seed in range(2)]
    rows = run_grid(jobs, tmp_path / "study.jsonl", quiet=True)
    assert [row.get("error") for row in rows] == ["boom", None]
    pool.made.clear()
    assert run_grid(jobs, tmp_path / "study.jsonl", quiet=True)[0]["error"] == "boom"
    assert pool.made == []


def test_the_table_is_made_of_the_runs_that_succeeded_and_names_the_others(tmp_path, pool):
    def diverged_once(job):
        return grid._failed(job, "boom") if job.variant == "co_only" else fake_row(job)

    pool.run = diverged_once
    table = ablate("ablations", seeds=1, base=tiny_base(), out=tmp_path, quiet=True)
    assert table.splitlines()[-1] == "failed: co_only, seed 0: boom"
    assert sum(line.startswith("co_only ") for line in table.splitlines()) == 0


@pytest.mark.parametrize("settings", [{"n_groups": 5, "experts_per_group": 3}, {"bottleneck": 1}])
def test_a_variant_that_equals_the_base_is_the_base(settings, tmp_path, pool):
    base = change(tiny_base(), {f"model.{name}": value for name, value in settings.items()})
    table = ablate("ablations", seeds=2, base=base, out=tmp_path, quiet=True)
    names = [line.split()[0] for line in table.splitlines()[2:]]
    assert len(set(names)) == len(names) == len({job.key for job in pool.made}) / 2
    assert names[0] == "mlvpt"


def test_a_changed_default_leaves_old_records_valid_and_makes_new_runs(tmp_path, monkeypatch):
    job = Job("mlvpt", tiny_base())
    recorded = {
        "data.n_images": 64,
        "optim.lr": 2e-2,
        "optim.epochs": 1,
        "model.backbone": "scenes",
    }
    recorded |= {"model.n_groups": 4, "model.experts_per_group": 2, "model.n_prompts": 16}
    recorded |= {"model.backbone": "scenes"}
    recorded |= {"model.pool": "patches"}
    path = tmp_path / "old.jsonl"  # as version 0.1 wrote it: what differs from its defaults
    path.write_text(json.dumps({"key": "old", "variant": "mlvpt", "seed": 0, "config": recorded}))
    assert read_rows(path)[0]["key"] == job.key
    other = change(tiny_base(), {"optim.weight_decay": 0.02})  # a new default, say
    assert Job("mlvpt", other).key != job.key


PHOTOGRAPHS = {
    "voc2007_deit_tiny": "data/voc2007",
    "clothing_deit_tiny": "data/clothing/labels.csv",
}


def photographs_base(name: str) -> TrainConfig:
    """The base of the recorded runs, with the paths that their commands name."""
    paths = {
        "data.root": PHOTOGRAPHS[name],
        "model.backbone_checkpoint": "data/deit_tiny_patch16_224.safetensors",
    }
    return change(recipes.load(recipes.recipe_path(name)), paths)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_recorded_choices_of_val_on_photographs_are_recognised_and_stand_in_the_recipe(name):
    folder = Path(results.__file__).parent / name
    base = photographs_base(name)
    # more prompted blocks and a longer run have choices of their own
    bases = [base, change(base, {"model.depth": 3}), change(base, {"optim.epochs": 30})]
    for study, jobs_of in (("lr_sweep", sweep_jobs), ("decay", decay_jobs)):
        recorded = {row["key"] for row in read_rows(folder / f"{study}.jsonl")}
        assert recorded
        assert recorded <= {job.key for base in bases for job in jobs_of(base, [0], folder)}
    job, _ = best_runs(base, folder)["mlvpt"]
    assert (base.optim.lr, base.optim.weight_decay) == (
        job.config.optim.lr,
        job.config.optim.weight_decay,
    )


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_the_recipe_trained_on_all_images_is_a_recorded_run(name):
    folder = Path(results.__file__).parent / name
    keys = {row["key"] for row in read_rows(folder / "baselines.jsonl")}
    run = change(photographs_base(name), {"data.hold_out": False})
    assert Job("mlvpt", run).key in keys


def test_a_method_that_was_swept_keeps_the_weight_decay_of_the_sweep(tmp_path):
    base = change(tiny_base(), {"optim.weight_decay": 10.0})
    for job in sweep_jobs(base, [0], tmp_path):
        assert job.config.optim.weight_decay == 0.01
        grid._append(tmp_path / "lr_sweep.jsonl", fake_row(job))
    (job,) = [j for j in baseline_jobs(base, [0], tmp_path) if j.variant == "lora"]
    assert job.config.optim.weight_decay == 0.01


@pytest.mark.parametrize("study", ["lr_sweep", "baselines", "ablations", "strength"])
def test_every_recorded_run_on_scenes_is_recognised(study):
    folder = Path(results.__file__).parent
    jobs = {
        "lr_sweep": sweep_jobs,
        "baselines": baseline_jobs,
        "ablations": ablation_jobs,
        "strength": strength_jobs,
    }[study](scenes_base(), range(5), folder)
    keys = {row["key"] for row in read_rows(folder / f"{study}.jsonl")}
    assert keys
    assert keys <= {job.key for job in jobs}


def test_wrong_data_is_one_sentence_before_the_first_job(tmp_path, pool):
    base = change(tiny_base(), {"data.name": "voc2007", "data.root": str(tmp_path / "nowhere")})
    with pytest.raises(InputError, match="nothing is there"):
        ablate("lr_sweep", base=base, out=tmp_path)
    assert pool.made == []


def test_a_study_can_be_asked_for_some_of_its_methods(tmp_path, pool):
    ablate("lr_sweep", base=tiny_base(), out=tmp_path, only=["mlvpt", "bitfit"], quiet=True)
    assert {job.config.model.method for job in pool.made} == {"mlvpt", "bitfit"}
    with pytest.raises(InputError, match="the study has no 'bitfti'"):
        ablate("lr_sweep", base=tiny_base(), out=tmp_path, only=["bitfti"], quiet=True)


def test_a_damaged_line_in_the_middle_is_reported(tmp_path):
    path = tmp_path / "study.jsonl"
    path.write_text('{"key": 1}\nnonsense\n{"key": 2}\n')
    with pytest.raises(InputError, match="Line 2"):
        read_rows(path)


def test_a_study_that_was_recorded_is_found_among_all_recorded_files(tmp_path, pool):
    folder = Path(results.__file__).parent
    for path in folder.glob("*.jsonl"):
        shutil.copy(path, tmp_path)
    table = ablate("baselines", seeds=5, out=tmp_path, quiet=True)
    assert pool.made == []
    assert len(table.splitlines()) == 2 + len(METHODS) + 1  # and the pruned one


def test_rows_of_another_base_choose_no_learning_rate_and_no_pooling(tmp_path):
    for study, jobs_of in (("pooling", pooling_jobs), ("lr_sweep", sweep_jobs)):
        for job in jobs_of(tiny_base(), [0], tmp_path):
            grid._append(tmp_path / f"{study}.jsonl", fake_row(job))
    other = change(tiny_base(), {"data.name": "manifest", "data.root": "mine.csv"})
    assert best_runs(tiny_base(), tmp_path).keys() == {"mlvpt", *BASELINES}
    assert best_runs(other, tmp_path) == {}
    assert best_pool(tiny_base(), tmp_path) == "class"  # the first of equal ones
    assert best_pool(other, tmp_path) == other.model.pool == "patches"
    assert {job.config.optim.lr for job in baseline_jobs(other, [0], tmp_path)} == {other.optim.lr}


@pytest.mark.parametrize("recipe", [[], ["--recipe", "voc2007_vit_b16_in21k"]])
def test_another_base_needs_a_folder_of_its_own(recipe, pool, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["ablate", "baselines", *recipe, "--quiet"]
    assert cli.main([*words, "--optim.epochs", "2"]) == 2
    assert "have another optim.epochs: name a folder for yours" in capsys.readouterr().err
    assert pool.made == []
    for reader in ("_check_once", "reference_pairs"):  # there is no data here
        monkeypatch.setattr(ablations, reader, lambda *_: [])
    assert cli.main([*words, "--data.root", "here"]) == (0 if recipe else 2)
    assert cli.main([*words, "--optim.workers", "2"]) == 0


def test_methods_without_a_sweep_of_their_base_are_announced(tmp_path, pool, capsys):
    ablate("baselines", seeds=1, base=tiny_base(), out=tmp_path)
    assert "has no sweep of this base" in capsys.readouterr().out


def test_two_rows_of_one_variant_and_seed_are_refused():
    rows = [{"variant": "a", "seed": 0, "test_mAP": x} for x in (0.5, 0.6)]
    with pytest.raises(InputError, match="a, seed 0 has two rows"):
        summarise(rows)


def test_reused_rows_are_announced_with_their_commit(tmp_path, pool, capsys):
    jobs = [Job("a", change(tiny_base(), {"optim.seed": seed})) for seed in range(2)]
    pool.run = lambda job: fake_row(job, commit="abc")
    run_grid(jobs[:1], tmp_path / "study.jsonl", quiet=True)
    run_grid(jobs, tmp_path / "study.jsonl")
    assert "study: 1 of 2 runs are there, made at commit abc" in capsys.readouterr().out


def test_a_run_that_diverges_is_a_row_of_its_own_and_ends_no_other(monkeypatch):
    def diverged(job):
        raise Stopped("the loss is not finite at step 3", 1)

    monkeypatch.setattr(grid, "make_run", diverged)
    row = grid._run(Job("a", tiny_base()))
    assert row["error"] == "the loss is not finite at step 3"
    assert (row["variant"], row["seed"]) == ("a", 0)


def test_a_worker_that_is_told_to_stop_begins_no_other_job(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(
        "from mlvpt.studies import grid\n"
        "from mlvpt.errors import Stopped\n"
        "def stopped(job):\n"
        "    raise Stopped('by SIGTERM', 143)\n"
        "grid.make_run = stopped\n"
        "grid._run(None)\n"
        "print('went on')\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (143, "")


@pytest.mark.parametrize(("visible", "expected"), [("2,3", ["2", "3"]), (None, ["0", "1"])])
def test_workers_get_the_gpus_that_the_user_left_visible(visible, expected, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with grid._pool(None, 5) as pool:
        turns = pool._initargs[0]
        assert [turns.get(timeout=5) for _ in range(2)] == expected


def test_the_key_depends_on_what_is_computed_and_not_on_how(tmp_path):
    base = tiny_base()
    keys = {
        Job("a", change(base, changes), prune).key
        for changes, prune in (
            ({}, False),
            ({"optim.workers": 3}, False),
            ({"data.root": str(tmp_path)}, False),
            ({"model.backbone_checkpoint": "other.pth"}, False),
            ({"optim.seed": 1}, False),
            ({"model.bottleneck": 6}, False),
            ({}, True),
        )
    }
    assert len(keys) == 6


def test_a_run_is_measured_on_val_and_both_test_splits_and_recorded(small_splits):
    row = make_run(Job("mlvpt", tiny_base()))
    assert {"command", "commit", "device", "versions", "date", "seed"} <= row.keys()
    assert row["seconds"] > 0
    for split in ("val", "test", "test_shifted"):
        assert 0 < row[f"{split}_mAP"] < 1
    assert row["drop"] == pytest.approx(row["test_mAP"] - row["test_shifted_mAP"], abs=2e-5)
    assert 0 <= row["test_look_alike"] <= 1
    assert -1 < row["test_induced_probability"] < 1
    assert row["config"]["data.n_images"] == 64
    json.dumps(row, allow_nan=False)


def test_a_run_on_all_images_is_measured_at_the_thresholds_of_another(small_splits):
    base = change(tiny_base(), {"data.hold_out": False})
    low, high = (make_run(Job("a", base, thresholds=(t,) * 10)) for t in (0.0, 1.0))
    assert low["test_mAP"] == high["test_mAP"]
    assert low["test_CF1"] > high["test_CF1"] == 0.0
    assert "val_mAP" not in low


def test_a_pruned_run_counts_only_the_parameters_that_masks_leave(small_splits):
    base = change(tiny_base(), {"model.method": "e2vpt"})
    plain, pruned = 4 * 16 * 96 + 4 * 5 * 96 + 10 * 97, 4 * 4 * 96 + 4 * 5 * 96 + 10 * 97
    assert make_run(Job("e2vpt_pruned", base, prune=True))["trained_parameters"] == pruned
    assert plain - pruned == 4 * 12 * 96  # half of the tokens, then half of the segments


def test_ablate_returns_the_table_of_a_study(tmp_path, pool):
    table = ablate("ablations", seeds=2, base=tiny_base(), out=tmp_path, quiet=True)
    assert len(table.splitlines()) == len(ABLATIONS) + 2
    assert len(read_rows(tmp_path / "ablations.jsonl")) == 2 * len(ABLATIONS)


def test_all_studies_run_in_the_order_in_which_they_depend_on_each_other(tmp_path, pool):
    ablate("all", seeds=1, base=tiny_base(), out=tmp_path, quiet=True)
    assert {path.stem for path in tmp_path.glob("*.jsonl")} == {
        "pooling",
        "lr_sweep",
        "baselines",
        "ablations",
        "strength",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("nothing",), "no study 'nothing'"), (("all", 0), "seeds is 0")],
)
def test_bad_requests_are_refused(arguments, message, tmp_path):
    name, seeds = (*arguments, 1)[:2]
    with pytest.raises(InputError, match=message):
        ablate(name, seeds=seeds, out=tmp_path)


def test_an_unknown_setting_is_refused():
    with pytest.raises(InputError, match=r"optim\.epochs"):
        change(TrainConfig(), {"optim.epoch": 2})


def test_paired_test_agrees_with_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=7), rng.normal(size=7)
    found = paired_test(a, b)
    assert found["t_p"] == pytest.approx(stats.ttest_rel(a, b).pvalue)
    exact = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    )
    assert found["permutation_p"] == pytest.approx(exact.pvalue)


def test_paired_test_of_many_pairs_draws_sign_flips():
    rng = np.random.default_rng(0)
    a = rng.normal(size=40)
    assert paired_test(a, a - 1 - 0.1 * rng.random(40))["permutation_p"] < 1e-4
    assert paired_test(a, a[::-1])["permutation_p"] > 0.5


def test_equal_values_are_no_difference_and_one_seed_is_no_test():
    assert paired_test([0.5, 0.5], [0.5, 0.5])["t_p"] == 1.0
    assert math.isnan(paired_test([0.5], [0.4])["t_p"])
    assert math.isnan(mean_std([0.5])[1])


def test_summary_pairs_the_seeds_that_both_have():
    rows = [
        {"variant": v, "seed": s, "test_mAP": x, "trained_parameters": 3, "seconds": 2.0}
        for v, s, x in (("a", 0, 0.5), ("a", 1, 0.7), ("b", 1, 0.8), ("b", 2, 0.1))
    ]
    first, second = summarise(rows, "a", measures=("test_mAP",))
    assert first["test_mAP"] == pytest.approx(0.6)
    assert "test_mAP_vs_base" not in first
    assert second["test_mAP_vs_base"]["n"] == 1
    assert second["test_mAP_vs_base"]["difference"] == pytest.approx(0.1)


def test_table_prints_percent_with_spread_and_difference():
    rows = [
        {"variant": v, "seed": s, "test_mAP": x, "trained_parameters": 3000, "seconds": 2.0}
        for v, values in (("base", (0.50, 0.52)), ("new", (0.60, 0.63)))
        for s, x in enumerate(values)
    ]
    table = results_frame(summarise(rows, "base")).to_string()
    assert "51.0 ± 1.4" in table
    assert "+10.5" in table
    assert "3,000" in table


def test_table_prints_no_p_value_of_a_single_seed():
    rows = [
        {"variant": v, "seed": 0, "test_mAP": x, "trained_parameters": 3000, "seconds": 2.0}
        for v, x in (("base", 0.50), ("new", 0.62))
    ]
    *_, line = results_frame(summarise(rows, "base")).to_string().splitlines()
    assert line.split() == ["new", "1", "3,000", "62.0", "+12.0", "2", "s"]


def test_look_alike_confusion_counts_images_with_exactly_one_of_the_pair():
    targets = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    probabilities = np.array([[0.9, 0.6], [0.4, 0.9], [0.9, 0.9], [0.9, 0.9]])
    assert look_alike_confusion(targets, probabilities, ((0, 1),)) == 0.5
    assert look_alike_confusion(targets, probabilities, ((0, 1),), np.array([0.3, 0.5])) == 1.0
    assert math.isnan(look_alike_confusion(targets, probabilities, ()))


def test_every_setting_of_a_variant_exists():
    for variant in (*ABLATIONS, *METHODS, ablations.PRUNED):
        assert isinstance(change(scenes_base(), variant.changes), TrainConfig)


def test_the_command_changes_the_base_by_options(tmp_path, pool, capsys):
    words = f"ablate strength --seeds 1 --out {tmp_path} --optim.epochs 2 --quiet".split()
    assert cli.main(words) == 0
    assert {job.config.optim.epochs for job in pool.made} == {2}
    assert capsys.readouterr().out.startswith("strength\n")


def test_the_command_makes_a_study_of_a_recipe_on_its_data(tmp_path, monkeypatch):
    make_voc(tmp_path)
    monkeypatch.setattr(grid, "_pool", InlinePool(make_run))
    words = f"ablate pooling --recipe voc2007_vit_b16_in21k --out {tmp_path / 'out'} --seeds 1"
    words += f" --data.root {tmp_path} --model.backbone scenes --model.image_size 48"
    words += " --optim.epochs 1 --optim.batch_size 4 --optim.workers 0 --optim.precision no"
    assert cli.main([*words.split(), "--optim.device", "cpu", "--quiet"]) == 0
    rows = read_rows(tmp_path / "out" / "pooling.jsonl")
    assert {row["variant"] for row in rows} == {
        f"{method}, {pool}" for method in ablations.POOLED for pool in ("class", "patches")
    }
    assert all(0 < row["test_mAP"] < 1 and "test_shifted_mAP" not in row for row in rows)


def test_the_command_names_the_nearest_of_an_unknown_setting(capsys):
    assert cli.main(["ablate", "all", "--optim.epoch", "2"]) == 2
    assert "optim.epochs" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="asks for a process by its number")
def test_workers_end_when_the_grid_is_killed(tmp_path):
    script = tmp_path / "grid_of_one.py"
    script.write_text(
        "import os, time\n"
        "from mlvpt.studies.grid import _pool\n"
        "if __name__ == '__main__':\n"
        "    with _pool(1, 1) as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        pool.submit(time.sleep, 600).result()\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as grid:
        worker = int(grid.stdout.readline())
        grid.kill()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"worker {worker} outlived the grid")


@pytest.mark.parametrize("name", ["root_1", "root_3"])
def test_rows_recorded_when_tau_was_called_root_are_found(name):
    rows = [
        row
        for row in read_rows(Path(results.__file__).parent / "ablations.jsonl")
        if row["variant"] == name
    ]
    assert len(rows) == 5
    for row in rows:
        assert "model.root" in row["config"]
        values: dict = {}
        for key, value in row["config"].items():
            section, setting = key.split(".")
            values.setdefault(section, {})[setting] = value
        assert Job(name, recipes.from_dict(values)).key == row["key"]


def test_biased_pairs_are_made_once_and_measured_on_every_final_run(small_splits, tmp_path):
    pairs = reference_pairs(tiny_base(), tmp_path / "pairs.json")
    assert reference_pairs(tiny_base(), tmp_path / "pairs.json") == pairs
    named = tuple((pair["label"], pair["partner"]) for pair in pairs)
    found = make_run(Job("mlvpt", tiny_base(), pairs=named))["test_pairs"]
    assert len(found["AP_matched_difference_by_pair"]) == len(pairs)
    low, high = found["FPR_difference_interval"]
    assert low <= found["FPR_difference"] <= high


def test_final_runs_on_photographs_take_rate_and_thresholds_of_the_sweep(tmp_path):
    base = change(tiny_base(), {"data.name": "manifest", "data.root": "mine.csv"})
    for job in sweep_jobs(base, [0], tmp_path):
        value = 0.9 if job.variant == "mlvpt, 0.02" else 0.5
        row = fake_row(job, val_mAP=value, thresholds=[value] * 10)
        grid._append(tmp_path / "lr_sweep.jsonl", row)
    (job,) = [j for j in baseline_jobs(base, [3], tmp_path) if j.variant == "mlvpt"]
    assert job.config.optim.lr == 0.02
    assert job.config.data.hold_out is False
    assert job.thresholds == (0.9,) * 10


def test_every_method_takes_the_rate_and_the_decay_that_val_prefers_together(tmp_path):
    base = change(tiny_base(), {"data.name": "manifest", "data.root": "mine.csv"})
    best = {"mlvpt": (0.02, 1.0), "bitfit": (0.005, 30.0)}
    for job in decay_jobs(base, [0], tmp_path):
        optim = job.config.optim
        value = 0.9 if best.get(job.config.model.method) == (optim.lr, optim.weight_decay) else 0.5
        grid._append(tmp_path / "decay.jsonl", fake_row(job, val_mAP=value))
    optim = {j.variant: j.config.optim for j in baseline_jobs(base, [0], tmp_path)}
    assert {name: (optim[name].lr, optim[name].weight_decay) for name in best} == best


def test_the_sweep_on_photographs_leaves_the_test_images_alone(tmp_path):
    base = change(tiny_base(), {"data.name": "manifest", "data.root": "mine.csv"})
    assert not any(job.config.data.test for job in sweep_jobs(base, [0], tmp_path))
    assert all(job.config.data.test for job in baseline_jobs(base, [0], tmp_path))


def test_a_run_without_test_images_is_measured_on_val_alone(small_splits):
    row = make_run(Job("a", change(tiny_base(), {"data.test": False})))
    assert 0 < row["val_mAP"] < 1
    assert not any(name.startswith("test") for name in row)


@pytest.mark.parametrize("n", [2, 5])
def test_the_group_study_compares_equal_numbers_of_prompts(n, tmp_path):
    by_source = {}
    for job in group_jobs(scenes_base(), [0], tmp_path):
        source, number = job.variant.split(", ")
        if int(number) == n:
            model = job.config.model
            groups = 1 if source == "single" else model.n_groups
            by_source[source] = groups * model.experts_per_group
    assert set(by_source) == {"labels", "random", "kmeans", "single"}
    assert len(set(by_source.values())) == 1


def test_the_block_study_keeps_tokens_only_where_blocks_are_frozen(tmp_path):
    base = change(scenes_base(), {"data.token_cache": "tokens"})
    kept = {
        j.config.model.depth: j.config.data.token_cache for j in block_jobs(base, [0], tmp_path)
    }
    assert kept == {1: "tokens", 3: "tokens", 6: "tokens", "deep": None}


def test_more_prompted_blocks_take_the_rate_that_was_chosen_with_the_most_blocks_below(tmp_path):
    base = change(tiny_base(), {"data.name": "manifest", "data.root": "m.csv", "model.depth": 1})
    best = {1: (0.05, 1.0), 3: (0.01, 3.0)}
    for depth, chosen in best.items():
        for job in decay_jobs(change(base, {"model.depth": depth}), [0], tmp_path):
            optim = job.config.optim
            value = 0.9 if chosen == (optim.lr, optim.weight_decay) else 0.5
            row = fake_row(job, val_mAP=value, thresholds=[float(depth)])
            grid._append(tmp_path / "decay.jsonl", row)
    jobs = {job.config.model.depth: job for job in block_jobs(base, [0], tmp_path)}
    rates = {n: (job.config.optim.lr, job.config.optim.weight_decay) for n, job in jobs.items()}
    assert rates == {1: best[1], 3: best[3], 6: best[3], "deep": best[3]}
    assert [job.thresholds for job in jobs.values()] == [(1.0,), (3.0,), (3.0,), (3.0,)]


def test_a_variant_with_a_comma_in_its_name_can_be_asked_for(pool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["ablate", "lr_sweep", "--only", "mlvpt, 0.01,bitfit, 0.02", "--quiet"]
    assert cli.main(words) == 0
    assert [job.variant for job in pool.made] == ["mlvpt, 0.01", "bitfit, 0.02"]
