"""Everything that a GPU must show about prompting, in one command of about ten minutes.

    python benchmarks/gpu.py          # on a GPU; also `make gpu`
    python benchmarks/gpu.py --tiny   # every part on a tiny model, on whatever is there: a try

Parts: (1) a training step and inference of the plain form (prompts among the tokens, with its
mask), the prefix form, and the unprompted frozen forward, in bf16, for ViT-B/16 and L/16, 224 and
448 px, batches of 64 and 256; (2) the modes of torch.compile; (3) the backends of attention, one at
a time; (4) a whole run of VOC2007's size, by voc_size_run.py.

Forms are timed in turn, A B C A B C ..., by CUDA events, 50 times after 30 warm-ups; the figures
are medians. Memory is the allocator's peak over what the model and the images take. `share_of_rate`
is the multiplications and additions of a form over its time and over the rate of one large matrix
product on the same card. What a card cannot do (no memory, no such backend) is a row that says so.
Rows go to results/gpu.jsonl, the figure to results/gpu.png.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import timm
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from mlvpt import plots
from mlvpt.prompts import PromptedViT
from mlvpt.training.record import make_record

RESULTS = Path(__file__).parents[1] / "results"
N_PROMPTS = 30
MODES = (None, "default", "reduce-overhead", "max-autotune-no-cudagraphs")
BACKENDS = ("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION", "MATH")
TINY = {"embed_dim": 48, "depth": 2, "num_heads": 2}


def cases(tiny: bool) -> list[dict[str, Any]]:
    """What is measured, a dictionary per row."""
    if tiny:
        sizes = [("vit_base_patch16_224", 32, 2)]
    else:
        models = ("vit_base_patch16_224", "vit_large_patch16_224")
        sizes = [(m, side, b) for m in models for side in (224, 448) for b in (64, 256)]
    rows = [{"part": "sizes", "model": m, "side": s, "batch_size": b} for m, s, b in sizes]
    first = {name: rows[0][name] for name in ("model", "side", "batch_size")}
    rows += [{"part": "compile", **first, "compile": mode} for mode in MODES[1:]]
    rows += [{"part": "attention", **first, "attention": backend} for backend in BACKENDS]
    return rows


def forms_of(
    row: dict[str, Any], options: argparse.Namespace
) -> tuple[dict[str, Callable[[], None]], torch.Tensor]:
    """The timed calls by name, "step_plain" and so on, and the images that they read."""
    torch.manual_seed(0)
    size = TINY if options.tiny else {}
    vit = timm.create_model(row["model"], num_classes=0, img_size=row["side"], **size)
    model = PromptedViT(vit, N_PROMPTS, norm_output=True).to(options.device)
    images = torch.randn(row["batch_size"], 3, row["side"], row["side"], device=options.device)
    kind, mode = torch.device(options.device).type, row.get("compile")

    def compiled(forward: Callable) -> Callable:
        return forward if mode is None else torch.compile(forward, mode=mode)

    def step(forward: Callable) -> Callable[[], None]:
        def run() -> None:
            model.prompts.grad = None
            with torch.autocast(kind, torch.bfloat16):
                loss = forward(images).float().square().mean()
            loss.backward()

        return run

    def infer(forward: Callable) -> Callable[[], None]:
        def run() -> None:
            with torch.inference_mode(), torch.autocast(kind, torch.bfloat16):
                forward(images)

        return run

    plain, prefix, unprompted = map(
        compiled, (model.forward_plain, model.forward, vit.forward_features)
    )
    calls = {
        "step_plain": step(plain),
        "step_prefix": step(prefix),
        "inference_plain": infer(plain),
        "inference_prefix": infer(prefix),
        "unprompted": infer(unprompted),
    }
    return calls, images


def seconds_of(call: Callable[[], None], device: str) -> float:
    """Time of one call: on a GPU between two events, so that its queue is not waited for twice."""
    if torch.device(device).type != "cuda":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def peak_mb(call: Callable[[], None], device: str) -> float | None:
    """Peak of the allocator in a call over what lies there before; None off the GPU."""
    if torch.device(device).type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return round((torch.cuda.max_memory_allocated() - before) / 1e6, 1)


def measure(row: dict[str, Any], rate: float, options: argparse.Namespace) -> dict[str, Any]:
    """One row, measured; a form that fails is named under "errors", the others are measured."""
    backend = row.get("attention")
    only = sdpa_kernel(getattr(SDPBackend, backend)) if backend else nullcontext()
    calls, images = forms_of(row, options)
    errors, results = {}, {}
    with only:
        for name, call in list(calls.items()):
            # compiled code is not counted, nor can the counter read prompts outside of a graph
            counted = row["part"] == "sizes" and not name.startswith("inference")
            try:
                with FlopCounterMode(display=False) if counted else nullcontext() as counter:
                    call()
                for _ in range(options.warm_up - 1):
                    call()
                results[f"{name}_mb"] = peak_mb(call, options.device)
                if counted:
                    results[f"{name}_flops"] = counter.get_total_flops()
            except (RuntimeError, torch._dynamo.exc.BackendCompilerFailed) as error:
                errors[name] = str(error).strip().splitlines()[0][:200]
                del calls[name]
                if options.device == "cuda":
                    torch.cuda.empty_cache()
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(options.turns):
            for name, call in calls.items():
                seconds[name].append(seconds_of(call, options.device))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    results |= {f"{name}_s": round(median, 6) for name, median in medians.items()}
    for what in ("step", "inference"):
        for over in (f"{what}_plain", "unprompted"):
            prefix = f"{what}_prefix"
            if prefix in medians and over in medians:
                ratio = medians[prefix] / medians[over]
                results[f"{prefix}_over_{over.removeprefix(what + '_')}"] = round(ratio, 4)
    for name, median in medians.items():
        if flops := results.pop(f"{name}_flops", None):
            results[f"{name}_share_of_rate"] = round(flops / median / rate, 4)
    results["step_unprompted_mb"] = results.pop("unprompted_mb", None)
    if "step_prefix" in medians:
        results["images_per_second"] = round(len(images) / medians["step_prefix"], 1)
    return {**row, **results, **({"errors": errors} if errors else {})}


def drawable(row: dict[str, Any]) -> bool:
    """Whether every form of the row ran, and memory was measured, as it is on a GPU alone."""
    memory = [row.get(f"step_{form}_mb") for form in ("plain", "prefix", "unprompted")]
    return row["part"] == "sizes" and "errors" not in row and None not in memory


def matrix_rate(options: argparse.Namespace) -> float:
    """Multiplications and additions per second of one large bf16 product on this device."""
    side = 256 if options.tiny else 8192
    a, b = torch.randn(2, side, side, device=options.device, dtype=torch.bfloat16)
    for _ in range(options.warm_up):
        a @ b
    times = [seconds_of(lambda: a @ b, options.device) for _ in range(options.turns)]
    return 2 * side**3 / statistics.median(times)


def whole_run(options: argparse.Namespace) -> None:
    """The run of VOC2007's size, in a process of its own; tiny: a few images."""
    script = Path(__file__).with_name("voc_size_run.py")
    words = [sys.executable, str(script), "--out", str(options.out / "voc_size_run.json")]
    if options.tiny:
        words += [
            "--images",
            "8",
            "--epochs",
            "1",
            "--workers",
            "0",
            "--precision",
            "no",
            "--device",
            "cpu",
        ]
    subprocess.run(words, check=True)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print a line per row, write rows and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="a tiny model: is everything there?")
    parser.add_argument("--parts", nargs="+", default=["sizes", "compile", "attention", "run"])
    parser.add_argument("--warm-up", type=int, default=30)
    parser.add_argument("--turns", type=int, default=50)
    parser.add_argument("--out", type=Path, help="folder; results/, with --tiny a temporary one")
    options = parser.parse_args(words)
    if options.out is None:  # a try must not write over what a GPU measured
        options.out = Path(tempfile.mkdtemp()) if options.tiny else RESULTS
    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.device == "cpu" and not options.tiny:
        parser.error("there is no GPU here: --tiny tries every part on the CPU")
    if options.tiny:
        options.warm_up, options.turns = 1, 2
    start, rate, rows = time.perf_counter(), matrix_rate(options), []
    todo = [row for row in cases(options.tiny) if row["part"] in options.parts]
    for row in tqdm(todo, desc="cases"):
        torch.compiler.reset()
        rows.append(measure({**row, "prompts": N_PROMPTS, "precision": "bf16"}, rate, options))
        print(json.dumps(rows[-1]))
    device = torch.device(options.device)
    record = make_record(None, seconds=time.perf_counter() - start, seed=0, device=device)
    del record["results"], record["peak_memory_mb"]  # each row has its own
    record |= {"turns": options.turns, "matrix_rate": rate}
    options.out.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({**record, **row}) + "\n" for row in rows]
    (options.out / "gpu.jsonl").write_text("".join(lines), encoding="utf-8")
    if drawn := [row for row in rows if drawable(row)]:
        plots.speed_figure(drawn).savefig(options.out / "gpu.png", dpi=110)
    if "run" in options.parts:
        whole_run(options)
    print(f"wrote {options.out / 'gpu.jsonl'}")


if __name__ == "__main__":
    main()
