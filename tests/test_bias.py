"""Co-occurrence bias against hand-made cases, plain loops, scikit-learn and invariances."""

import json
import time

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mlvpt.bias import (
    biased_pairs,
    claim,
    conditional_rates,
    exclusive_and_cooccur_ap,
    pairs_from_json,
    pairs_to_json,
)
from mlvpt.errors import InputError
from mlvpt.grouping import cooccurrence_counts
from mlvpt.metrics import induced_false_positives

PAIRS = [(0, 1), (2, 3), (4, 0)]
AP_NAMES = tuple(
    name
    for measure in ("AP", "AP_matched")
    for name in (f"cooccur_{measure}", f"exclusive_{measure}", f"{measure}_difference")
)
RATE_NAMES = tuple(
    f"{rate}_{kind}"
    for rate in ("TPR", "FPR")
    for kind in ("with_partner", "without_partner", "difference")
)


def random_case(seed, n_images=300, n_classes=5, unknown=0.0, levels=None):
    rng = np.random.default_rng(seed)
    targets = (rng.random((n_images, n_classes)) < 0.35).astype(np.int8)
    probabilities = np.clip(rng.random(targets.shape) * 0.7 + 0.3 * targets, 0, 1)
    if levels:
        probabilities = np.round(probabilities * levels) / levels
    targets[rng.random(targets.shape) < unknown] = -1
    return targets, probabilities


def planted_case(n_images=400):
    """Four classes of chance; class 0 is believed more where class 1 is."""
    rng = np.random.default_rng(7)
    targets = (rng.random((n_images, 4)) < 0.5).astype(int)
    probabilities = rng.uniform(0.4, 0.6, targets.shape)
    probabilities[:, 0] = np.where(targets[:, 1] == 1, 0.9, 0.3)
    return targets, probabilities


# The pairs


def test_bias_is_the_ratio_of_two_means_worked_by_hand():
    targets = [[1, 1], [1, 1], [1, 0], [0, 1]]
    probabilities = [[0.9, 0.5], [0.7, 0.5], [0.2, 0.0], [1.0, 1.0]]
    (pair,) = biased_pairs(targets, probabilities, n_pairs=1, min_images=1)
    assert pair == {
        "label": 0,
        "partner": 1,
        "bias": pytest.approx(0.8 / 0.2),
        "share": pytest.approx(2 / 3),
        "n_cooccur": 2,
        "n_exclusive": 1,
    }


@pytest.mark.parametrize("seed", range(4))
def test_pairs_equal_those_of_a_plain_loop(seed):
    targets, probabilities = random_case(seed, unknown=0.1)
    expected = {}
    for b in range(5):
        for z in range(5):
            both = (targets[:, b] == 1) & (targets[:, z] == 1)
            alone = (targets[:, b] == 1) & (targets[:, z] == 0)
            if min(both.sum(), alone.sum()) < 10 or both.sum() / (both | alone).sum() < 0.3:
                continue
            bias = probabilities[both, b].mean() / probabilities[alone, b].mean()
            if bias > expected.get(b, (0.0,))[0]:
                expected[b] = (bias, z)
    pairs = biased_pairs(targets, probabilities, share=0.3)
    found = {pair["label"]: (pair["bias"], pair["partner"]) for pair in pairs}
    assert found == {b: (pytest.approx(bias), z) for b, (bias, z) in expected.items()}
    assert [pair["bias"] for pair in pairs] == sorted(
        (pair["bias"] for pair in pairs), reverse=True
    )


def test_planted_bias_is_found_first():
    pairs = biased_pairs(*planted_case())
    assert (pairs[0]["label"], pairs[0]["partner"]) == (0, 1)
    assert pairs[0]["bias"] == pytest.approx(3.0, rel=1e-6)


def test_every_class_has_one_pair_and_no_more_than_asked_for_are_kept():
    targets, probabilities = random_case(0)
    labels = [pair["label"] for pair in biased_pairs(targets, probabilities)]
    assert sorted(labels) == list(range(5))
    assert [pair["label"] for pair in biased_pairs(targets, probabilities, n_pairs=2)] == labels[:2]


def test_partner_on_too_few_of_the_images_of_a_class_makes_no_pair():
    targets, probabilities = planted_case()
    targets[20:, 1] = 0  # class 1 on at most a tenth of the images of any class
    pairs = biased_pairs(targets, probabilities, share=0.2)
    assert all(pair["partner"] != 1 for pair in pairs)


def test_class_that_is_never_without_its_partner_makes_no_pair():
    targets, probabilities = planted_case()
    targets[:, 1] |= targets[:, 0]
    assert (0, 1) not in [(p["label"], p["partner"]) for p in biased_pairs(targets, probabilities)]


def test_pairs_follow_the_order_of_the_classes_and_ignore_that_of_the_images():
    targets, probabilities = random_case(1)
    rng = np.random.default_rng(0)
    images, classes = rng.permutation(len(targets)), rng.permutation(5)
    moved = biased_pairs(
        targets[np.ix_(images, classes)], probabilities[np.ix_(images, classes)], share=0.1
    )
    back = [(classes[pair["label"]], classes[pair["partner"]]) for pair in moved]
    pairs = biased_pairs(targets, probabilities, share=0.1)
    assert back == [(pair["label"], pair["partner"]) for pair in pairs]


def test_bias_of_probabilities_that_are_all_zero_is_one():
    targets, probabilities = planted_case()
    pairs = biased_pairs(targets, np.zeros_like(probabilities))
    assert {pair["bias"] for pair in pairs} == {1.0}


def test_pairs_survive_json_and_another_order_of_the_classes():
    names = ["a", "b", "c", "d", "e"]
    pairs = biased_pairs(*random_case(2))
    stored = json.loads(json.dumps(pairs_to_json(pairs, names)))
    assert stored[0]["bias"] == pairs[0]["bias"]
    assert pairs_from_json(stored, names) == [(p["label"], p["partner"]) for p in pairs]
    again = pairs_from_json(stored, names[::-1])
    assert [(4 - b, 4 - z) for b, z in again] == pairs_from_json(stored, names)


# Average precision


def test_ap_of_both_kinds_worked_by_hand():
    #  score of b   0.9  0.8  0.7  0.6  0.5
    #  b            1    0    1    1    0
    #  z            1    1    0    1    0
    targets = [[1, 1], [0, 1], [1, 0], [1, 1], [0, 0]]
    scores = [[0.9, 0], [0.8, 0], [0.7, 0], [0.6, 0], [0.5, 0]]
    found = exclusive_and_cooccur_ap(targets, scores, [(0, 1)], n_resamples=0)
    (pair,) = found["pairs"]
    assert pair["cooccur_AP"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert pair["exclusive_AP"] == pytest.approx(1 / 2)
    assert (pair["n_cooccur"], pair["n_exclusive"], pair["n_without"]) == (2, 1, 2)


@pytest.mark.parametrize("levels", [None, 8])
@pytest.mark.parametrize("seed", range(3))
def test_ap_equals_scikit_learn_on_the_images_of_each_kind(seed, levels):
    targets, scores = random_case(seed, unknown=0.1, levels=levels)
    found = exclusive_and_cooccur_ap(targets, scores, PAIRS, n_resamples=0)
    for pair, (b, z) in zip(found["pairs"], PAIRS, strict=True):
        for name, partner in (("cooccur_AP", 1), ("exclusive_AP", 0)):
            positive = (targets[:, b] == 1) & (targets[:, z] == partner)
            used = positive | (targets[:, b] == 0)
            oracle = average_precision_score(positive[used], scores[used, b])
            assert pair[name] == pytest.approx(oracle, abs=1e-12)


@pytest.mark.parametrize("levels", [None, 8])
def test_ap_interval_is_that_of_a_plain_loop_over_the_same_resamples(levels):
    targets, scores = random_case(3, n_images=150, unknown=0.1, levels=levels)
    found = exclusive_and_cooccur_ap(targets, scores, PAIRS, n_resamples=50, seed=5)
    rng = np.random.default_rng(5)
    drawn = rng.multinomial(150, np.full(150, 1 / 150), size=50)
    differences = []
    for b, z in PAIRS:
        for weights in drawn:
            images = np.repeat(np.arange(150), weights)
            ap = []
            for partner in (1, 0):
                positive = (targets[images, b] == 1) & (targets[images, z] == partner)
                used = positive | (targets[images, b] == 0)
                ap.append(average_precision_score(positive[used], scores[images, b][used]))
            differences.append(ap[0] - ap[1])
    differences = np.array(differences).reshape(3, 50)
    for pair, values in zip(found["pairs"], differences, strict=True):
        oracle = np.quantile(values, [0.025, 0.975])
        assert pair["AP_difference_interval"] == pytest.approx(oracle, abs=1e-5)
    oracle = np.quantile(differences.mean(axis=0), [0.025, 0.975])
    assert found["AP_difference_interval"] == pytest.approx(oracle, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_matched_ap_is_that_of_scikit_learn_with_positives_weighed_up_to_all_of_the_class(seed):
    targets, scores = random_case(seed, unknown=0.1, levels=20)
    found = exclusive_and_cooccur_ap(targets, scores, PAIRS, n_resamples=0)
    for pair, (b, z) in zip(found["pairs"], PAIRS, strict=True):
        n_class = ((targets[:, b] == 1) & (targets[:, z] != -1)).sum()
        for name, partner in (("cooccur_AP_matched", 1), ("exclusive_AP_matched", 0)):
            positive = (targets[:, b] == 1) & (targets[:, z] == partner)
            used = positive | (targets[:, b] == 0)
            weights = np.where(positive, n_class / positive.sum(), 1)[used]
            oracle = average_precision_score(positive[used], scores[used, b], sample_weight=weights)
            assert pair[name] == pytest.approx(oracle, abs=1e-6)


def test_matched_ap_does_not_mistake_a_rare_partner_for_bias():
    rng = np.random.default_rng(0)
    targets = (rng.random((4000, 2)) < (0.3, 0.1)).astype(int)
    scores = rng.normal(size=targets.shape) + targets  # whether the partner is there is all one
    found = exclusive_and_cooccur_ap(targets, scores, [(0, 1)], n_resamples=200)
    assert found["AP_difference_interval"][1] < -0.1
    low, high = found["AP_matched_difference_interval"]
    assert low < 0 < high


def test_model_that_leans_on_the_partner_loses_exclusive_ap():
    targets, probabilities = planted_case()
    found = exclusive_and_cooccur_ap(targets, probabilities, [(0, 1)], n_resamples=200)
    low, _ = found["AP_difference_interval"]
    assert low > 0.1


def test_means_leave_out_a_pair_that_lacks_one_kind_of_image():
    targets, scores = random_case(4)
    targets[:, 3] = targets[:, 2]  # class 2 is never without class 3
    found = exclusive_and_cooccur_ap(targets, scores, PAIRS, n_resamples=20)
    assert found["pairs"][1]["exclusive_AP"] is None
    assert found["pairs"][1]["AP_difference_interval"] is None
    assert found["pairs"][1]["cooccur_AP"] is not None
    others = [found["pairs"][k]["cooccur_AP"] for k in (0, 2)]
    assert found["cooccur_AP"] == pytest.approx(np.mean(others))


def test_class_that_is_in_every_image_has_no_ap_to_compare():
    targets, scores = random_case(4)
    targets[:, 0] = 1
    with pytest.raises(InputError, match="No pair can be compared"):
        exclusive_and_cooccur_ap(targets, scores, [(0, 1)])


# Rates


def test_rates_worked_by_hand():
    targets = [[1, 1], [1, 1], [1, 0], [0, 1], [0, 1], [0, 0], [0, 0]]
    scores = [0.9, 0.5, 0.4, 0.6, 0.1, 0.2, 0.3]
    probabilities = [[score, 0.0] for score in scores]
    (pair,) = conditional_rates(targets, probabilities, [(0, 1)], 0.5, n_resamples=0)["pairs"]
    assert [pair[name] for name in RATE_NAMES] == [1.0, 0.0, 1.0, 0.5, 0.0, 0.5]
    kinds = ("both", "label_only", "partner_only", "neither")
    assert [pair[f"n_{kind}"] for kind in kinds] == [2, 1, 2, 2]


@pytest.mark.parametrize("seed", range(3))
def test_rates_equal_those_of_a_plain_loop(seed):
    targets, probabilities = random_case(seed, unknown=0.1)
    thresholds = np.linspace(0.3, 0.7, 5)
    found = conditional_rates(targets, probabilities, PAIRS, thresholds, n_resamples=0)
    for pair, (b, z) in zip(found["pairs"], PAIRS, strict=True):
        for rate, there in (("TPR", 1), ("FPR", 0)):
            for kind, partner in (("with", 1), ("without", 0)):
                predicted = [
                    p[b] >= thresholds[b]
                    for t, p in zip(targets, probabilities, strict=True)
                    if t[b] == there and t[z] == partner
                ]
                assert pair[f"{rate}_{kind}_partner"] == pytest.approx(np.mean(predicted))


def test_rates_interval_is_that_of_a_plain_loop_over_the_same_resamples():
    targets, probabilities = random_case(6, n_images=80)
    found = conditional_rates(targets, probabilities, [(0, 1)], n_resamples=60, seed=2)
    drawn = np.random.default_rng(2).multinomial(80, np.full(80, 1 / 80), size=60)
    rates = []
    for weights in drawn:
        images = np.repeat(np.arange(80), weights)
        both = (targets[images, 0] == 1) & (targets[images, 1] == 1)
        rates.append((probabilities[images, 0][both] >= 0.5).mean())
    oracle = np.quantile(rates, [0.025, 0.975])
    assert found["TPR_with_partner_interval"] == pytest.approx(oracle, abs=1e-6)


def test_difference_of_false_positive_rates_is_the_induced_rate_of_the_same_pairs():
    targets, probabilities = random_case(7, unknown=0.1)
    induced = induced_false_positives(
        targets, probabilities, cooccurrence_counts(targets), min_conditional=0.3
    )
    found = conditional_rates(targets, probabilities, induced["pairs"], n_resamples=0)
    assert found["FPR_difference"] == pytest.approx(induced["rate_difference"])
    assert found["n_pairs"] == induced["n_pairs"]


def test_rates_of_a_kind_without_images_are_none():
    targets, probabilities = random_case(8)
    targets[:, 1] |= targets[:, 0]
    (pair,) = conditional_rates(targets, probabilities, [(0, 1)], n_resamples=10)["pairs"]
    assert pair["TPR_without_partner"] is None
    assert pair["TPR_without_partner_interval"] is None
    assert pair["TPR_with_partner"] is not None


# Everything together


def test_claim_is_json_with_names_and_holds_both_parts():
    targets, probabilities = random_case(9)
    names = ["a", "b", "c", "d", "e"]
    pairs = biased_pairs(targets, probabilities)
    found = json.loads(
        json.dumps(claim(targets, probabilities, pairs, class_names=names, n_resamples=20))
    )
    assert pairs_from_json(found["pairs"], names) == [(p["label"], p["partner"]) for p in pairs]
    assert found["n_images"] == 300
    for name in (*AP_NAMES, *RATE_NAMES):
        assert name in found["pairs"][0]
        low, high = found[f"{name}_interval"]
        assert low < high


@pytest.mark.parametrize("seed", range(3))
def test_intervals_cover_the_point(seed):
    targets, probabilities = random_case(seed)
    found = claim(targets, probabilities, PAIRS, n_resamples=300)
    for values in (found, *found["pairs"]):
        for name in (*AP_NAMES, *RATE_NAMES):
            low, high = values[f"{name}_interval"]
            assert low <= values[name] <= high


def test_claim_ignores_the_order_of_images_and_follows_that_of_classes():
    targets, probabilities = random_case(10, unknown=0.1)
    rng = np.random.default_rng(0)
    images, classes = rng.permutation(300), rng.permutation(5)
    place = np.argsort(classes)
    moved = claim(
        targets[np.ix_(images, classes)],
        probabilities[np.ix_(images, classes)],
        [(place[b], place[z]) for b, z in PAIRS],
        np.linspace(0.3, 0.7, 5)[classes],
        n_resamples=0,
    )
    found = claim(targets, probabilities, PAIRS, np.linspace(0.3, 0.7, 5), n_resamples=0)
    for name in (*AP_NAMES, *RATE_NAMES):
        assert moved[name] == pytest.approx(found[name], abs=1e-12)
        for pair, other in zip(moved["pairs"], found["pairs"], strict=True):
            assert pair[name] == pytest.approx(other[name], abs=1e-12)


def test_images_with_unknown_labels_change_nothing():
    targets, probabilities = random_case(11)
    unknown = np.full((40, 5), -1)
    more = np.vstack([targets, unknown]), np.vstack([probabilities, np.full((40, 5), 0.9)])
    found = claim(targets, probabilities, PAIRS, n_resamples=0)
    assert claim(*more, PAIRS, n_resamples=0)["pairs"] == found["pairs"]
    pairs = biased_pairs(targets, probabilities)
    assert [pytest.approx(pair, rel=1e-12) for pair in biased_pairs(*more)] == pairs


def test_the_same_seed_gives_the_same_intervals_and_another_seed_others():
    targets, probabilities = random_case(12)
    first, again, other = (
        claim(targets, probabilities, PAIRS, n_resamples=50, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first["AP_difference_interval"] != other["AP_difference_interval"]


def test_intervals_do_not_depend_on_the_size_of_a_batch(monkeypatch):
    targets, probabilities = random_case(13)
    whole = claim(targets, probabilities, PAIRS, n_resamples=50)
    monkeypatch.setattr("mlvpt.metrics.BOOTSTRAP_ENTRIES", 7 * 300)
    assert claim(targets, probabilities, PAIRS, n_resamples=50) == whole


def test_twenty_pairs_of_five_thousand_images_take_seconds():
    targets, probabilities = random_case(14, n_images=5000, n_classes=20)
    pairs = biased_pairs(targets, probabilities)
    assert len(pairs) == 20
    start = time.process_time()
    claim(targets, probabilities, pairs)
    assert time.process_time() - start < 30  # 1.2 s on 2 idle cores


# Input that cannot be used


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([], "There are no pairs"),
        ([(0, 0)], "two different classes from 0 to 4"),
        ([(0, 5)], "two different classes from 0 to 4"),
        ([(-1, 2)], "two different classes from 0 to 4"),
        ([(0, 1, 2)], "numbers of two classes"),
        ([("cup", "fork")], "pairs_from_json"),
        ([3], "numbers of two classes"),
    ],
)
def test_pairs_that_are_none_are_refused(pairs, words):
    with pytest.raises(InputError, match=words):
        claim(*random_case(0), pairs)


def test_options_out_of_range_are_refused():
    case = random_case(0)
    with pytest.raises(InputError, match="share must lie"):
        biased_pairs(*case, share=1.5)
    with pytest.raises(InputError, match="at least 1"):
        biased_pairs(*case, n_pairs=0)
    with pytest.raises(InputError, match="No two classes share"):
        biased_pairs(*case, min_images=1000)
    with pytest.raises(InputError, match="n_resamples"):
        claim(*case, PAIRS, n_resamples=-1)
    with pytest.raises(InputError, match="threshold"):
        conditional_rates(*case, PAIRS, [0.5, 0.5])
    with pytest.raises(InputError, match="sigmoid"):
        biased_pairs(case[0], case[1] * 3)


def test_stored_pairs_of_other_classes_are_refused():
    with pytest.raises(InputError, match="'cup', which is none of the 2 classes"):
        pairs_from_json([{"label": "a", "partner": "cup"}], ["a", "b"])
    with pytest.raises(InputError, match="needs a label and a partner"):
        pairs_from_json([("a", "b")], ["a", "b"])
