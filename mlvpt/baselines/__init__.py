"""Baselines that ML-VPT is compared with, on the same backbone, loop, loss and data.

Below are the name of each in the settings, its class, and what it trains:

    linear_probe     LinearProbe      a linear head on the frozen feature
    full_finetuning  FullFineTuning   every weight
    vpt_shallow      VPT              prompts before the first block
    vpt_deep         VPT              prompts before every block
    gate_vpt         GateVPT          shallow prompts with a gate and a temperature per block
    e2vpt            E2VPT            deep prompts and key-value prompts, which can be pruned
    bitfit           BitFit           biases
    lora             LoRA             low-rank updates of the attention projections (peft)
    query_head       QueryHead        one query per class on the frozen patches
"""

from mlvpt.baselines.e2vpt import E2VPT
from mlvpt.baselines.prompted import VPT, GateVPT, LinearProbe
from mlvpt.baselines.query_head import QueryHead
from mlvpt.baselines.tuned import BitFit, FullFineTuning, LoRA
from mlvpt.classifier import MultiLabelClassifier

__all__ = [
    "BASELINES",
    "E2VPT",
    "VPT",
    "BitFit",
    "FullFineTuning",
    "GateVPT",
    "LinearProbe",
    "LoRA",
    "QueryHead",
]

# every baseline by its name in the settings, in the order of the studies
BASELINES: dict[str, type[MultiLabelClassifier]] = {
    name: MultiLabelClassifier.methods[name]
    for name in (
        "linear_probe",
        "full_finetuning",
        "vpt_shallow",
        "vpt_deep",
        "gate_vpt",
        "e2vpt",
        "bitfit",
        "lora",
        "query_head",
    )
}
