"""Pairs of classes are found by file, by name, by classes or in the run; what they show is said."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mlvpt.bias import claim, conditional_rates
from mlvpt.cli import main as cli
from mlvpt.datasets.shipped import label_statistics
from mlvpt.errors import InputError
from mlvpt.files import read_json
from mlvpt.grouping import cooccurrence_counts
from mlvpt.studies.pairs import Pairs, held_against, pairs_of_run, pairs_table, read_pairs

NAMES = ["cup", "fork", "car"]


def scored(seed=0):
    """Labels in which forks come with cups, and probabilities that lean on it."""
    rng = np.random.default_rng(seed)
    cup = (rng.random(300) < 0.5).astype(int)
    fork = np.where(rng.random(300) < 0.8, cup, rng.random(300) < 0.3).astype(int)
    targets = np.column_stack([cup, fork, rng.random(300) < 0.3]).astype(int)
    noise = rng.random(targets.shape)
    return targets, np.clip(0.3 * noise + 0.4 * targets + 0.2 * targets[:, [1, 0, 2]], 0, 1)


def report(thresholds=None):
    targets, probabilities = scored()
    counts = cooccurrence_counts(scored(1)[0])
    pairs = Pairs([(0, 1), (1, 0)], "here")
    return held_against(targets, probabilities, NAMES, pairs, thresholds, counts)


@pytest.mark.parametrize("name", ["voc2007_deit_tiny", "clothing_deit_tiny"])
def test_pairs_of_a_recorded_study_are_found_by_its_name_and_by_its_classes(name, tmp_path):
    names = label_statistics(name.split("_")[0]).class_names
    by_name, by_classes = read_pairs(name, names), pairs_of_run(tmp_path, names, None)
    assert by_name == by_classes
    assert by_name.source == f"results/{name}/pairs.json"
    assert len(by_name.indices) > 10


def test_pairs_are_read_from_a_record_and_from_a_plain_list(tmp_path):
    pairs = [{"label": "fork", "partner": "cup"}]
    for content in (pairs, {"results": {"pairs": pairs}}):
        (tmp_path / "mine.json").write_text(json.dumps(content))
        assert read_pairs(tmp_path / "mine.json", NAMES) == Pairs([(1, 0)], "mine.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there are no pairs .*voc2007_deit_tiny"),
        ([{"label": "fork"}], "partner"),
        ([{"label": "fork", "partner": "spoon"}], "'spoon', which is none of the 3 classes"),
    ],
)
def test_pairs_that_cannot_be_used_are_refused(content, message, tmp_path):
    if content is not None:
        (tmp_path / "mine.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_pairs(tmp_path / "mine.json", NAMES)


def test_a_run_on_other_data_has_the_pairs_of_its_own_model_on_val(tmp_path):
    targets, probabilities = scored()
    save_file(
        {"val": torch.from_numpy(probabilities).float()}, tmp_path / "probabilities.safetensors"
    )
    found = pairs_of_run(tmp_path, NAMES, targets)
    assert {(0, 1), (1, 0)} <= set(found.indices)
    assert pairs_of_run(tmp_path, NAMES, None) is None  # val was trained on
    assert pairs_of_run(tmp_path, NAMES, np.zeros_like(targets)) is None


def test_the_report_is_the_claim_with_induced_false_positives_and_their_intervals():
    targets, probabilities = scored()
    found = report([0.4, 0.5, 0.6])
    assert (
        found["pairs"]
        == claim(targets, probabilities, [(0, 1), (1, 0)], [0.4, 0.5, 0.6], class_names=NAMES)[
            "pairs"
        ]
    )
    for pair in found["induced"]["pairs"]:
        two = [(NAMES.index(pair["label"]), NAMES.index(pair["partner"]))]
        (rates,) = conditional_rates(targets, probabilities, two, [0.4, 0.5, 0.6])["pairs"]
        assert pair["rate_with_partner"] == pytest.approx(rates["FPR_with_partner"])
        assert pair["rate_without_partner"] == pytest.approx(rates["FPR_without_partner"])
        assert pair["rate_difference_interval"] == pytest.approx(rates["FPR_difference_interval"])
    low, high = found["induced"]["rate_difference_interval"]
    assert low < found["induced"]["rate_difference"] < high
    json.dumps(found, allow_nan=False)


def test_the_table_has_a_line_for_each_pair_and_says_what_it_rests_on():
    found = report()
    lines = pairs_table(found).splitlines()
    assert lines[0] == "pairs of here; thresholds: 0.5 for every class"
    assert lines[2].startswith("cup, fork ")
    assert lines[4].startswith("mean of 2 pairs ")
    assert f"{100 * found['pairs'][0]['exclusive_AP']:.1f}" in lines[2]
    assert f"{100 * found['FPR_difference']:+.1f} (" in lines[4]
    assert f"adds {100 * found['induced']['rate_difference']:+.1f}" in lines[-1]


def test_evaluate_measures_given_pairs_and_writes_them(tiny_run, tmp_path, capsys):
    pairs, out = tmp_path / "pairs.json", tmp_path / "e.json"
    pairs.write_text(json.dumps([{"label": "0", "partner": "1"}, {"label": "1", "partner": "0"}]))
    words = ["evaluate", str(tiny_run), "--pairs", str(pairs), "--json", str(out)]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert "pairs of pairs.json; thresholds: tuned on val" in text
    found = read_json(out, "the evaluation")["results"]["test"]["bias"]
    assert [pair["label"] for pair in found["pairs"]] == ["0", "1"]
    before = pairs.read_bytes()
    assert cli.main([*words[:-1], str(pairs)]) == 2  # the result would replace the pairs
    assert pairs.read_bytes() == before


def test_evaluate_goes_without_pairs_where_the_data_allow_none(tiny_run, capsys):
    assert cli.main(["evaluate", str(tiny_run)]) == 0  # ten images on val
    assert "pairs of" not in capsys.readouterr().out
