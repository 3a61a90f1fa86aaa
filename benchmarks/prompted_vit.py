"""Speed and memory of prompting: plain form, prefix form, and the unprompted frozen forward.

    python benchmarks/prompted_vit.py               # everything, about 25 minutes on 2 cores
    python benchmarks/prompted_vit.py --only sizes  # or growth, memory, blocks, heads
    python benchmarks/prompted_vit.py --clock processor --threads 1   # on a busy machine
    python benchmarks/prompted_vit.py --device cuda --precision bf16 --batch-sizes 64 256

Forms are timed in turn, A B C A B C ..., so that a machine that slows down slows all of them; the
figures are medians, the ratios medians over the turns. Memory is the peak of a training step over
what the model and the images take: on the CPU of a process of its own, on CUDA of the allocator.
With --no-memory the rows are of part "time".

"products" are the matrix products and the attention that a training step of the prefix form cannot
do without, alone, on numbers that are in the cache: no block that is written better gets below
them. "gelu" and "norms" are timed alone, too, and what is left of a step is copies, sums and fresh
memory. "saved" is what the step keeps for its backward pass, the least that it can take unless it
computes things twice. "blocks" has prompts in the last n blocks only; "kept" is a step that begins
with kept tokens, as data.token_cache has them.

The peak is what the system gives out, and holds what malloc keeps for later: some percent more or
less from run to run. Part "memory" makes malloc return what is freed at once (Linux with glibc):
its peaks are those of the tensors in use, and a busy machine changes nothing about them.

The rows go to results/speed.jsonl, in place of older ones of the same case; the figures show all
that have memory.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from mlvpt import frozen_block, plots
from mlvpt.experts import GroupExperts
from mlvpt.prompts import PromptedViT
from mlvpt.training.record import make_record

RESULTS = Path(__file__).parents[1] / "results"
# of a busy machine: the processor's time in one thread counts no waiting
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
FORMS = ("plain", "prefix", "unprompted")
RETURNED_AT_ONCE = "MALLOC_MMAP_THRESHOLD_"  # glibc returns freed blocks from this size on
# (model, side in pixels, prompts)
SIZES = tuple((f"vit_{size}_patch16_224", 224, 30) for size in ("tiny", "small", "base"))
LAST_BLOCKS = (1, 3, 6, 12)  # of ViT-S/16 with 30 prompts, at 224 pixels
GROWTH = tuple(
    ("vit_small_patch16_224", side, n_prompts)
    for side, n_prompts in ((224, 10), (224, 30), (224, 100), (320, 30), (448, 30))
)


def prompted(
    name: str, side: int, n_prompts: int, device: str, depth: str | int = "deep"
) -> PromptedViT:
    """A prompted ViT with random weights: its speed does not depend on them."""
    torch.manual_seed(0)
    vit = timm.create_model(name, num_classes=0, img_size=side)
    return PromptedViT(vit, n_prompts, depth=depth).to(device)


def calls(
    model: PromptedViT, images: torch.Tensor, precision: str
) -> dict[str, dict[str, Callable[[], None]]]:
    """What is timed: {"step" or "inference": {form: call}}."""
    kind = images.device.type
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32

    def autocast() -> torch.autocast:
        return torch.autocast(kind, dtype, enabled=precision == "bf16")

    def step(forward: Callable) -> Callable[[], None]:
        def run() -> None:
            model.prompts.grad = None
            with autocast():
                loss = forward(images).float().square().mean()
            loss.backward()
            synchronise(kind)

        return run

    def infer(forward: Callable) -> Callable[[], None]:
        def run() -> None:
            with torch.inference_mode(), autocast():
                forward(images)
            synchronise(kind)

        return run

    frozen = infer(model.backbone.forward_features)
    return {
        "step": {
            "plain": step(model.forward_plain),
            "prefix": step(model.forward),
            "unprompted": frozen,
        },
        "inference": {
            "plain": infer(model.forward_plain),
            "prefix": infer(model.forward),
            "unprompted": frozen,
        },
    }


def products(model: PromptedViT, batch_size: int) -> Callable[[], None]:
    """The products and the attention of a training step of the prefix form, in deep prompting."""
    vit, n_prompts, width = model.backbone, model.n_prompts, model.embed_dim
    n_image = vit.num_prefix_tokens + model.n_patches
    n_heads = vit.blocks[0].attn.num_heads
    image, read = batch_size * n_image, batch_size * n_prompts
    images = torch.randn(batch_size, vit.in_chans, *vit.patch_embed.img_size)
    shape = (batch_size, n_heads, n_prompts + n_image, width // n_heads)
    q, k, v = torch.randn(shape)[:, :, n_prompts:], torch.randn(shape), torch.randn(shape)
    tokens = {(m, n): torch.randn(m, n * width) for m in (image, read) for n in (1, 2, 3, 4)}

    def product(rows: int, weight: torch.Tensor) -> None:
        frozen_block._product(tokens[rows, weight.shape[1] // width], weight)

    def mlp(rows: int, block: torch.nn.Module) -> None:
        for layer in (block.attn.proj, block.mlp.fc1, block.mlp.fc2):
            product(rows, layer.weight)

    def mlp_back(rows: int, block: torch.nn.Module) -> None:
        for layer in (block.mlp.fc2, block.mlp.fc1, block.attn.proj):
            product(rows, layer.weight.t())

    @torch.no_grad()
    def run() -> None:
        vit.patch_embed.proj(images)
        *blocks, last = vit.blocks
        for block in blocks:
            product(image, block.attn.qkv.weight)
            attended, lse = frozen_block.FLASH(q, k, v)
            mlp(image, block)
        product(image, last.attn.qkv.weight[width:])  # keys and values are all that is read
        mlp(read, last)
        mlp_back(read, last)
        product(image, last.attn.qkv.weight[width:].t())
        for block in reversed(blocks):
            mlp_back(image, block)
            if block is not blocks[0]:  # there only the prefix wants a gradient
                frozen_block.FLASH_BACKWARD(attended, q, k, v, attended, lse, 0.0, False)
                product(image, block.attn.qkv.weight.t())

    return run


def beside_products(model: PromptedViT, batch_size: int) -> dict[str, Callable[[], None]]:
    """GELU and the norms of a step on the image tokens, forward and back, in all blocks but one.

    Of the last block only a norm is needed for all tokens, of the first one norm less.
    """
    vit, width = model.backbone, model.embed_dim
    rows = batch_size * (vit.num_prefix_tokens + model.n_patches)
    x, (hidden, d) = torch.randn(rows, width), torch.randn(2, rows, 4 * width)
    gradient = torch.empty_like(d)

    @torch.no_grad()
    def gelu() -> None:
        for _ in vit.blocks[1:]:
            F.gelu(hidden)
            torch.ops.aten.gelu_backward.grad_input(d, hidden, grad_input=gradient)

    @torch.no_grad()
    def norms() -> None:
        for block in vit.blocks[1:]:
            for norm in (block.norm1, block.norm2):
                y, *moments = frozen_block._norm(norm, x)
                frozen_block._norm_backward(norm, y, x, *moments)

    return {"gelu": gelu, "norms": norms}


def saved_mb(model: PromptedViT, images: torch.Tensor) -> float:
    """MB that the forward pass of the prefix form keeps for the backward pass, weights aside."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(images).sum()
    return sum(kept.values()) / 1e6


def synchronise(kind: str) -> None:
    """Wait for the GPU: its calls return before their work is done."""
    if kind == "cuda":
        torch.cuda.synchronize()


def interleaved(
    forms: dict[str, Callable[[], None]], turns: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each form in each turn, after one warm-up."""
    for call in forms.values():
        call()
    seconds: dict[str, list[float]] = {form: [] for form in forms}
    for _ in range(turns):
        for form, call in forms.items():
            start = clock()
            call()
            seconds[form].append(clock() - start)
    return seconds


def time_case(case: tuple[str, int, int], batch_size: int, options: Any) -> dict[str, Any]:
    """Median seconds and ratios of one case."""
    name, side, n_prompts = case
    model = prompted(name, side, n_prompts, options.device)
    images = torch.randn(batch_size, 3, side, side, device=options.device)
    row: dict[str, Any] = {
        "part": "prompts" if options.memory else "time",
        "model": name,
        "side": side,
        "prompts": n_prompts,
        "batch_size": batch_size,
        "precision": options.precision,
        "turns": options.turns,
        "clock": options.clock,
        "note": options.note,
    }
    for what, forms in calls(model, images, options.precision).items():
        if what == "step" and options.device == "cpu" and options.precision == "no":
            forms["products"] = products(model, batch_size)
            forms |= beside_products(model, batch_size)
        seconds = interleaved(forms, options.turns, CLOCKS[options.clock])
        row |= {f"{what}_{form}_s": round(statistics.median(s), 5) for form, s in seconds.items()}
        for over in ("plain", "unprompted"):
            row[f"{what}_prefix_over_{over}"] = median_ratio(seconds["prefix"], seconds[over])
        for part in ("products", "gelu", "norms"):
            if part in seconds:
                row[f"{what}_{part}_over_plain"] = median_ratio(seconds[part], seconds["plain"])
    if options.precision == "no":
        row["step_prefix_saved_mb"] = round(saved_mb(model, images), 1)
    return row


def kept_tokens(model: PromptedViT, batch_size: int) -> torch.Tensor:
    """Tokens in place of those before the first block with prompts."""
    n_tokens = model.backbone.num_prefix_tokens + model.n_patches
    return torch.randn(batch_size, n_tokens, model.embed_dim, device=model.prompts.device)


def median_ratio(ours: list[float], others: list[float]) -> float:
    """Median over the turns."""
    return round(statistics.median(a / b for a, b in zip(ours, others, strict=True)), 4)


def time_blocks(batch_size: int, options: Any) -> list[dict[str, Any]]:
    """A training step with prompts in the last n blocks, from images and from kept tokens."""
    case = name, side, n_prompts = SIZES[1]
    forms, images = {}, torch.randn(batch_size, 3, side, side, device=options.device)
    for n in LAST_BLOCKS:
        model = prompted(name, side, n_prompts, options.device, n)
        of_images = calls(model, images, options.precision)["step"]
        forms[n, "step"] = of_images["prefix"]
        tokens = kept_tokens(model, batch_size)
        forms[n, "kept"] = calls(model, tokens, options.precision)["step"]["prefix"]
    forms["unprompted"] = of_images["unprompted"]
    seconds = interleaved(forms, options.turns, CLOCKS[options.clock])
    return [
        {
            "part": "blocks",
            "model": name,
            "side": side,
            "prompts": n_prompts,
            "blocks": n,
            "batch_size": batch_size,
            "precision": options.precision,
            "turns": options.turns,
            "clock": options.clock,
            "note": options.note,
            "unprompted_s": round(statistics.median(seconds["unprompted"]), 5),
        }
        | {
            f"{form}_{key}": value
            for form in ("step", "kept")
            for key, value in {
                "s": round(statistics.median(seconds[n, form]), 5),
                "over_all": median_ratio(seconds[n, form], seconds[LAST_BLOCKS[-1], "step"]),
                "mb": round(peak_memory(case, batch_size, form, options, n), 1),
            }.items()
        }
        for n in LAST_BLOCKS
    ]


def memory_in_use(case: tuple[str, int, int], batch_size: int, options: Any) -> dict[str, Any]:
    """Peaks of a training step in both forms without what malloc keeps for later."""
    name, side, n_prompts = case
    images = torch.randn(batch_size, 3, side, side)
    row = {
        "part": "memory",
        "model": name,
        "side": side,
        "prompts": n_prompts,
        "batch_size": batch_size,
        "precision": options.precision,
        "note": options.note,
        "step_prefix_saved_mb": round(saved_mb(prompted(name, side, n_prompts, "cpu"), images), 1),
    }
    os.environ[RETURNED_AT_ONCE] = "65536"  # bytes; the process that measures starts with it
    for form in ("plain", "prefix"):
        row[f"step_{form}_mb"] = round(peak_memory(case, batch_size, form, options), 1)
    del os.environ[RETURNED_AT_ONCE]
    return row


def peak_memory(
    case: tuple[str, int, int],
    batch_size: int,
    form: str,
    options: Any,
    depth: str | int = "deep",
) -> float:
    """MB that a training step (for "unprompted": inference) takes at its peak."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_memory, (case, batch_size, form, options, depth))


def peak_of(call: Callable[[], None]) -> float:
    """MB by which a call raises this process's resident memory at its peak; Linux."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is resident
    before = resident("VmRSS")
    call()
    return (resident("VmHWM") - before) / 1e3


def resident(what: str) -> int:
    """A line of /proc/self/status, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))


def _peak_memory(
    case: tuple[str, int, int], batch_size: int, form: str, options: Any, depth: str | int
) -> float:
    name, side, n_prompts = case
    torch.set_num_threads(options.threads)
    model = prompted(name, side, n_prompts, options.device, depth)
    # threads and libraries take their memory in a first step on one image
    small = torch.randn(1, 3, side, side, device=options.device)
    images = torch.randn(batch_size, 3, side, side, device=options.device)
    if form == "kept":
        small, images = kept_tokens(model, 1), kept_tokens(model, batch_size)
    form = form if form in FORMS else "prefix"
    calls(model, small, options.precision)["step"][form]()
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        calls(model, images, options.precision)["step"][form]()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    return peak_of(calls(model, images, options.precision)["step"][form])


def time_heads(n_classes: int, options: Any) -> dict[str, Any]:
    """A training step of one branch's experts on 16 images, for K classes."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        seconds, megabytes = pool.apply(_time_heads, (n_classes, options))
    return {
        "part": "heads",
        "classes": n_classes,
        "batch_size": 16,
        "step_s": round(seconds, 5),
        "step_mb": round(megabytes, 1),
        "full_tensor_mb": round(16 * n_classes * 3 * 768 * 4 / 1e6, 1),  # (B, K, E, D)
    }


def _time_heads(n_classes: int, options: Any) -> tuple[float, float]:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    head = GroupExperts(np.arange(n_classes) % 5, 3, 768)
    tokens = torch.randn(16, 15, 768)

    def step() -> None:
        head.zero_grad()
        logits, gate_logits, _ = head(tokens)
        (logits.square().mean() + gate_logits.square().mean()).backward()

    megabytes = peak_of(step)
    seconds = interleaved({"step": step}, options.turns, CLOCKS[options.clock])["step"]
    return statistics.median(seconds), megabytes


def identity(row: dict[str, Any]) -> tuple:
    """What was measured, and where."""
    keys = ("part", "device", "model", "side", "prompts", "batch_size", "precision", "classes")
    return tuple(row.get(key) for key in (*keys, "blocks"))


def main() -> None:
    """Measure, print a line per row, write rows and figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("sizes", "growth", "memory", "blocks", "heads"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="no", choices=("no", "bf16"))
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16])
    parser.add_argument("--models", nargs="+", help="only these timm models")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", default="wall", choices=CLOCKS)
    parser.add_argument("--note", help="kept in the rows, such as how busy the machine was")
    parser.add_argument("--memory", default=True, action=argparse.BooleanOptionalAction)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows, start = [], time.perf_counter()
    cases = {"sizes": SIZES, "growth": GROWTH, None: SIZES + GROWTH}.get(options.only, ())
    if cases:
        cases = [c for c in cases if not options.models or c[0] in options.models]
        for case in tqdm(cases, desc="prompts"):
            for batch_size in options.batch_sizes:
                row = time_case(case, batch_size, options)
                for form in FORMS if options.memory else ():
                    row[f"step_{form}_mb"] = round(peak_memory(case, batch_size, form, options), 1)
                rows.append(row)
    if options.device == "cpu" and options.only in (None, "memory"):
        cases = [c for c in SIZES if not options.models or c[0] in options.models]
        for case in tqdm(cases, desc="memory"):
            rows += [memory_in_use(case, size, options) for size in options.batch_sizes]
    if options.only in (None, "blocks"):
        for batch_size in tqdm(options.batch_sizes, desc="blocks"):
            rows += time_blocks(batch_size, options)
    if options.only in (None, "heads"):
        rows += [time_heads(k, options) for k in tqdm((80, 1000, 10_000), desc="heads")]
    for row in rows:
        print(json.dumps(row))
    record = make_record(None, seconds=time.perf_counter() - start, seed=0)
    del record["results"], record["peak_memory_mb"]  # each row has its own
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "speed.jsonl"
    new = [{**record, **row} for row in rows]
    old = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    measured_again = [identity(row) for row in new]
    rows = [row for row in old if identity(row) not in measured_again] + new
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    processors = ("thread", "threads")  # how the name of a processor ends
    here = [row for row in rows if row["device"].endswith(processors) == (options.device == "cpu")]
    for part, name, draw in (
        ("prompts", "speed", plots.speed_figure),
        ("heads", "heads", lambda rows: plots.heads_memory(rows).figure),
    ):
        drawn = [row for row in here if row["part"] == part]
        drawn.sort(key=lambda row: (row["device"], row.get("model"), row["batch_size"]))
        if drawn := [row for row in drawn if part == "heads" or "step_prefix_mb" in row]:
            path = options.out / f"{name}_{options.device}.png"
            draw(drawn).savefig(path, dpi=110)
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
