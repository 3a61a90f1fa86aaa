"""A step of the prefix form that computes GELU's inputs again (prefix.py beside this file), and one that keeps them.

Tried and not kept: python compare.py MODEL BATCH_SIZE TURNS, processor time of one thread.
"""

import importlib.util
import statistics
import sys
import time
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]
import prompted_vit as pv

from mlvpt import prefix

spec = importlib.util.spec_from_file_location("mlvpt_prefix2", HERE / "prefix.py")
again = importlib.util.module_from_spec(spec)
spec.loader.exec_module(again)
assert again.hand_equals_autograd() and prefix.hand_equals_autograd()
torch.set_num_threads(1)
name, batch, turns = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
KEEP = prefix.FrozenBlock
model = pv.prompted(name, 224, 30, "cpu")
images = torch.randn(batch, 3, 224, 224)
c = pv.calls(model, images, "no")["step"]


def use(block, call):
    def run():
        prefix.FrozenBlock = block
        call()

    return run


forms = {
    "plain": c["plain"],
    "keep": use(KEEP, c["prefix"]),
    "again": use(again.FrozenBlock, c["prefix"]),
    "unprompted": c["unprompted"],
    "products": pv.products(model, batch),
}
use(KEEP, c["prefix"])()
g1 = model.prompts.grad.clone()
use(again.FrozenBlock, c["prefix"])()
print("grad differ", (model.prompts.grad - g1).abs().max().item() / g1.abs().max().item())
s = pv.interleaved(forms, turns, time.process_time)
r = lambda a, b: round(statistics.median(x / y for x, y in zip(s[a], s[b])), 3)
mb = {}
for k, b in (("keep", KEEP), ("again", again.FrozenBlock)):
    prefix.FrozenBlock = b
    mb[k] = round(pv.saved_mb(model, images), 1)
print(
    prefix.ONEDNN is not None,
    name,
    batch,
    {k: round(statistics.median(v), 3) for k, v in s.items()},
    "keep/plain",
    r("keep", "plain"),
    "again/plain",
    r("again", "plain"),
    "again/keep",
    r("again", "keep"),
    "again/unpr",
    r("again", "unprompted"),
    "keep/unpr",
    r("keep", "unprompted"),
    "products/plain",
    r("products", "plain"),
    mb,
    flush=True,
)
