"""Benchmarks: those that need a GPU run on a tiny model here, so that they run there."""

import json
import runpy
from pathlib import Path

import pytest
import timm
import torch

from mlvpt import plots
from mlvpt.prompts import PromptedViT
from mlvpt.training.recipes import load, recipe_path

SPEED = runpy.run_path(
    str(Path(__file__).parents[1] / "benchmarks" / "prompted_vit.py"), run_name="speed"
)
GPU = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "gpu.py"), run_name="gpu")
FEWER = runpy.run_path(
    str(Path(__file__).parents[1] / "benchmarks" / "fewer_tags.py"), run_name="fewer_tags"
)


def test_gpu_benchmark_measures_every_form_with_every_backend_and_names_what_fails(tmp_path):
    GPU["main"](["--tiny", "--parts", "sizes", "attention", "--out", str(tmp_path)])
    rows = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    sizes, *backends = rows
    assert sizes["part"] == "sizes"
    assert "errors" not in sizes
    assert sizes["step_prefix_over_plain"] > 0
    assert sizes["step_prefix_share_of_rate"] > 0
    assert sizes["matrix_rate"] > 0
    assert {row["attention"] for row in backends} == set(GPU["BACKENDS"])
    for row in backends:
        names = ("step_plain", "step_prefix", "inference_plain", "inference_prefix", "unprompted")
        assert all(f"{name}_s" in row or name in row["errors"] for name in names)
    memory = {f"step_{form}_mb": 1.0 for form in ("plain", "prefix", "unprompted")}
    assert GPU["drawable"]({**sizes, **memory})
    assert len(plots.speed_figure([{**sizes, **memory}]).axes) == 3


def test_gpu_benchmark_covers_modes_models_sides_and_batches():
    rows = GPU["cases"](tiny=False)
    sizes = {(r["model"], r["side"], r["batch_size"]) for r in rows if r["part"] == "sizes"}
    assert len(sizes) == 2 * 2 * 2
    assert {r["compile"] for r in rows if r["part"] == "compile"} == set(GPU["MODES"][1:])


def test_gpu_benchmark_measures_compiled_forms(monkeypatch):
    by_inductor = torch.compile  # calls a C++ compiler, for minutes

    def traced(forward, mode):
        return by_inductor(forward, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", traced)
    (row, *_) = (row for row in GPU["cases"](tiny=True) if row["part"] == "compile")
    found = GPU["measure"](row, 1e9, _Options())
    assert "errors" not in found
    assert found["step_prefix_over_plain"] > 0
    assert found["inference_prefix_over_unprompted"] > 0


def test_a_product_has_a_rate(tmp_path):
    assert torch.isfinite(torch.tensor(GPU["matrix_rate"](_Options())))


def test_a_step_keeps_ten_numbers_per_token_and_channel_of_each_block_with_prompts():
    n_images, n_tokens, width = 2, 17, 192  # of scenes' size: 16 patches and a class token
    images = torch.randn(n_images, 3, 64, 64)
    kept = {n: SPEED["saved_mb"](small_vit(n), images) for n in (2, 3, 4)}
    of_a_block = (10 * n_images * n_tokens + 2 * 5) * width * 4 / 1e6  # and 5 keys and values
    assert kept[4] - kept[3] == pytest.approx(of_a_block, rel=0.01)  # norms' moments, log-sum-exps
    assert kept[3] - kept[2] == pytest.approx(of_a_block, rel=0.01)


def test_the_parts_of_a_step_run_and_each_takes_less_than_the_step_that_needs_them():
    model, clock = small_vit(4), SPEED["CLOCKS"]["processor"]
    images = torch.randn(8, 3, 64, 64)
    forms = {"step": SPEED["calls"](model, images, "no")["step"]["prefix"]}
    forms["products"] = SPEED["products"](model, 8)
    forms |= SPEED["beside_products"](model, 8)
    seconds = SPEED["interleaved"](forms, 5, clock)
    for part in ("products", "gelu", "norms"):
        assert 0 < SPEED["median_ratio"](seconds[part], seconds["step"]) < 1, part


def test_fewer_tags_keeps_the_most_frequent_of_the_training_images_and_every_image(tmp_path):
    manifest = tmp_path / "labels.csv"
    rows = [
        "a.jpg,hat;shoes,train",
        "b.jpg,shoes,train",
        "c.jpg,hat;ring;ring 2,test",
        "d.jpg,,test",
    ]
    manifest.write_text("\n".join(["path,labels,split", *rows, ""]))
    kept = FEWER["keep_tags"](manifest, 2, tmp_path / "made" / "two.csv")
    found = kept.read_text().splitlines()
    assert found == ["path,labels,split", *rows[:2], "c.jpg,hat,test", "d.jpg,,test"]


def test_fewer_tags_gives_every_source_as_many_experts():
    jobs = FEWER["jobs_of"](load(recipe_path("clothing_deit_tiny")), 12, 2)
    models = [job.config.model for job in jobs]
    experts = {
        model.experts_per_group * (1 if model.group_source == "single" else model.n_groups)
        for model in models
    }
    assert len({job.key for job in jobs}) == 6
    assert experts == {15}


def small_vit(depth):
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64, depth=4)
    return PromptedViT(vit, 5, depth=depth)


class _Options:
    tiny, device, warm_up, turns = True, "cpu", 1, 2
