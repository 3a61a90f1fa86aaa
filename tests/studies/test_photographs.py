"""Tables and figure of the studies on photographs say what the rows say, and what was not run."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

from mlvpt.studies import photographs

matplotlib.use("Agg")
VOC, CLOTHING = photographs.PHOTOGRAPHS
PAIRS = {
    f"{name}{end}": value
    for name in photographs.CLAIM.values()
    for end, value in (("", 0.1), ("_interval", [0.05, 0.2]))
}


def rows(values, **more):
    """Rows of variants from {variant: mAP of seeds 0, 1, ...}."""
    fixed = {"test_CF1": 0.5, "test_OF1": 0.6, "seconds": 10.0, "trained_parameters": 7}
    return [
        {"variant": variant, "seed": seed, "test_mAP": value, **fixed, **more}
        for variant, found in values.items()
        for seed, value in enumerate(found)
    ]


@pytest.fixture
def records(monkeypatch):
    """{(data set, study): rows}; what is not in it was not run."""
    found = {}

    def load(name):
        try:
            return found[name]
        except KeyError:
            raise FileNotFoundError(name) from None

    monkeypatch.setattr(photographs, "load", load)
    return found


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_methods_stand_side_by_side_with_mean_and_deviation(records):
    records[f"{VOC}/baselines"] = rows({"linear_probe": [0.8], "mlvpt": [0.82, 0.84]})
    records[f"{CLOTHING}/baselines"] = rows({"mlvpt": [0.2, 0.3]}, trained_parameters=9)
    head, _, first, second = cells(photographs.photographs_table())
    assert first[:3] == ["ML-VPT", "7", "83.0 ± 1.4"]
    assert first[head.index("Clothing Co-Parsing mAP")] == "25.0 ± 7.1"
    assert second[0] == "linear probe"
    assert second[head.index("Clothing Co-Parsing mAP")] == "not run"


def test_of_two_choices_of_rate_and_decay_the_later_one_is_told(records):
    def at(decay, method, values):
        config = {"model.method": method, "optim.lr": 0.01, "optim.weight_decay": decay}
        return rows(values, config=config)

    records[f"{VOC}/groups"] = [
        *at(1.0, "mlvpt", {"labels, 5": [0.7], "random, 5": [0.8]}),
        *at(1.0, "linear_probe", {"linear_probe": [0.6]}),
        *at(3.0, "mlvpt", {"labels, 5": [0.9]}),
    ]
    found = photographs.recorded(VOC, "groups")
    assert {row["variant"]: row["test_mAP"] for row in found} == {
        "linear_probe": 0.6,
        "labels, 5": 0.9,
    }
    assert len(photographs.recorded(VOC, "groups", earlier=True)) == 4


def test_every_number_of_prompted_blocks_has_a_choice_of_its_own(records):
    records[f"{VOC}/blocks"] = [
        *rows({"mlvpt, 1": [0.7]}, config={"model.depth": 1, "optim.lr": 0.05}),
        *rows({"mlvpt, 3": [0.8]}, config={"model.depth": 3, "optim.lr": 0.01}),
    ]
    assert [row["test_mAP"] for row in photographs.recorded(VOC, "blocks")] == [0.7, 0.8]


def test_groups_are_compared_with_those_by_labels_seed_by_seed(records):
    labels, chance = [0.80, 0.82, 0.81], [0.81, 0.80, 0.84]
    records[f"{VOC}/groups"] = rows({"labels, 5": labels, "random, 5": chance})
    records[f"{CLOTHING}/groups"] = rows({"labels, 13": [0.25], "single, 13": [0.24]})
    head, _, voc, clothing = cells(photographs.groups_table())
    differences = np.subtract(chance, labels)
    interval = stats.t.interval(0.95, 2, differences.mean(), stats.sem(differences))
    low, high = (f"{100 * end:+.1f}" for end in interval)
    by = {column.removesuffix("; difference"): place for place, column in enumerate(head)}
    assert voc[by["by labels"]] == "81.0 ± 1.0"
    assert voc[by["by chance"]] == f"81.7 ± 2.1; +0.7 ({low} to {high})"
    assert voc[by["authors'"]] == "not run"
    assert clothing[by["authors'"]] == "none released"
    assert clothing[by["none"]] == "24.0; -1.0"


def test_ablations_have_their_question_and_the_difference_from_the_base(records):
    assert photographs.ablations_table() == "Ablations: not run yet."
    records[f"{VOC}/ablations"] = rows({"mlvpt": [0.8, 0.8], "gate_mean": [0.7, 0.7]})
    _, _, base, mean = cells(photographs.ablations_table())
    assert base == ["`mlvpt`", "the base", "80.0 ± 0.0", "", "not run", ""]
    assert mean[:2] == ["`gate_mean`", "without mixture: mean over experts"]
    assert mean[2:] == ["70.0 ± 0.0", "-10.0 (-10.0 to -10.0)", "not run", ""]


def test_the_claim_is_told_of_methods_and_of_parts_that_it_is_about(records):
    records[f"{VOC}/baselines"] = rows({"mlvpt": [0.8, 0.8]}, test_pairs=PAIRS)
    records[f"{VOC}/ablations"] = rows({"one_group": [0.8], "bce": [0.8]}, test_pairs=PAIRS)
    _, _, base, group = cells(photographs.claim_table())
    assert base[:3] == ["VOC2007", "ML-VPT", "10.0 ± 0.0"]
    assert base[-1] == "+10.0 ± 0.0 (+5.0 to +20.0)"
    assert group[:3] == ["VOC2007", "one_group", "10.0"]


def test_the_figure_has_each_method_once_and_waits_for_the_study_of_blocks(records):
    records[f"{VOC}/baselines"] = rows({"mlvpt": [0.8], "linear_probe": [0.79]})
    assert photographs.cost_figure(VOC) is None
    records[f"{VOC}/blocks"] = rows({"mlvpt, 1": [0.8, 0.81], "mlvpt, deep": [0.82]})
    ax = photographs.cost_figure(VOC)
    names = {text.get_text() for text in ax.get_legend().get_texts()}
    plt.close(ax.figure)
    assert names == {"ML-VPT", "linear probe"}
    assert [text.get_text() for text in ax.texts] == ["1", "all", ""]


def test_the_figure_is_written_of_the_data_set_whose_study_of_blocks_was_run(records, tmp_path):
    records[f"{CLOTHING}/blocks"] = rows({"vpt_deep, 1": [0.2]})
    photographs.draw(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"cost_{CLOTHING}.png"]


def test_a_difference_of_nothing_is_no_text():
    assert photographs.difference({}, {0: 0.5}) == ""
    assert photographs.difference({0: 0.5}, {0: 0.5}) == ""
    assert photographs.difference({0: 0.6}, {0: 0.5, 1: 0.5}) == "+10.0"
