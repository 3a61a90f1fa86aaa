"""Benchmarks that need a GPU run in every part on a tiny model here, so that they run there."""

import json
import runpy
from pathlib import Path

import torch

from mlvpt import plots

GPU = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "gpu.py"), run_name="gpu")


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


def test_a_product_has_a_rate(tmp_path):
    assert torch.isfinite(torch.tensor(GPU["matrix_rate"](_Options())))


class _Options:
    tiny, device, warm_up, turns = True, "cpu", 1, 2
