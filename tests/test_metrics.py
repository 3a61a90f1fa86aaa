"""Metrics against scikit-learn, hand-worked cases and invariances."""

import doctest
import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

import mlvpt.metrics
from mlvpt.errors import InputError
from mlvpt.grouping import cooccurrence_counts
from mlvpt.metrics import (
    average_precision,
    bootstrap_map,
    induced_false_positives,
    multilabel_metrics,
    tune_thresholds,
)

# Four images, four classes, worked by hand at threshold 0.5:
#   class      0    1    2    3
#   TP         2    1    1    0
#   predicted  3    1    2    0      precision 2/3  1  1/2  0
#   positive   2    2    1    1      recall    1   1/2  1   0
TARGETS = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
PROBABILITIES = np.array(
    [
        [0.9, 0.8, 0.1, 0.0],
        [0.7, 0.3, 0.6, 0.2],
        [0.6, 0.4, 0.9, 0.1],
        [0.1, 0.2, 0.3, 0.4],
    ]
)


def random_case(seed, n_images=60, n_classes=6, levels=None, unknown=0.0):
    rng = np.random.default_rng(seed)
    targets = (rng.random((n_images, n_classes)) < 0.3).astype(np.int8)
    targets[0] = 1  # every class has a positive
    scores = np.clip(rng.random(targets.shape) * 0.8 + 0.2 * targets, 0, 1)
    if levels:
        scores = np.round(scores * levels) / levels
    targets[rng.random(targets.shape) < unknown] = -1
    targets[0] = 1
    return targets, scores


# Average precision


@pytest.mark.parametrize("levels", [None, 10, 2])
@pytest.mark.parametrize("seed", range(8))
def test_area_equals_scikit_learn_also_with_tied_scores(seed, levels):
    targets, scores = random_case(seed, levels=levels)
    oracle = average_precision_score(targets, scores, average=None)
    np.testing.assert_allclose(average_precision(targets, scores), oracle, rtol=0, atol=1e-12)


def test_area_equals_scikit_learn_on_the_known_entries():
    targets, scores = random_case(0, unknown=0.3)
    ours = average_precision(targets, scores)
    for k in range(targets.shape[1]):
        known = targets[:, k] != -1
        oracle = average_precision_score(targets[known, k], scores[known, k])
        assert ours[k] == pytest.approx(oracle, abs=1e-12)


def test_three_definitions_of_a_hand_worked_ranking():
    # precision 1, 1/2, 1/3, 2/4, 3/5 at recall 1/3, 1/3, 1/3, 2/3, 1
    targets = np.array([[1, 0, 0, 1, 1]]).T
    scores = np.array([[5, 4, 3, 2, 1]]).T
    assert average_precision(targets, scores, "area") == pytest.approx((1 + 1 / 2 + 3 / 5) / 3)
    assert average_precision(targets, scores, "voc2010") == pytest.approx((1 + 3 / 5 + 3 / 5) / 3)
    # recall 0 to 0.3 reach precision 1, the seven points above reach 3/5
    assert average_precision(targets, scores, "voc2007") == pytest.approx((4 * 1 + 7 * 0.6) / 11)


def test_eleven_points_meet_recalls_that_are_tenths_exactly():
    # 10 positives, ranked 3 positives, 27 negatives, 7 positives: recall 0.3 is reached exactly
    targets = np.array([1] * 3 + [0] * 27 + [1] * 7)[:, None]
    scores = -np.arange(37.0)[:, None]
    expected = (4 * 1 + 7 * 10 / 37) / 11
    assert average_precision(targets, scores, "voc2007") == pytest.approx(expected)


@pytest.mark.parametrize("definition", ["area", "voc2010", "voc2007"])
def test_perfect_ranking_has_ap_one_and_constant_scores_the_base_rate(definition):
    targets = np.array([[1, 1, 0, 0, 0]]).T
    assert average_precision(targets, targets * 1.0, definition) == pytest.approx(1.0)
    assert average_precision(targets, np.zeros((5, 1)), definition) == pytest.approx(0.4)


def test_class_without_positives_has_no_ap():
    ap = average_precision([[1, 0, -1], [0, 0, 0]], np.zeros((2, 3)))
    assert np.isnan(ap).tolist() == [False, True, True]


def test_an_unknown_label_leaves_ap_unchanged_whatever_its_score():
    targets, scores = random_case(1)
    ap = average_precision(targets, scores)
    for score in (0.0, 1.0):
        more = np.vstack([targets, np.full(6, -1)]), np.vstack([scores, np.full(6, score)])
        np.testing.assert_array_equal(average_precision(*more), ap)


@pytest.mark.parametrize("definition", ["area", "voc2010", "voc2007"])
def test_ap_does_not_depend_on_the_order_of_images(definition):
    targets, scores = random_case(2, levels=5, unknown=0.1)
    order = np.random.default_rng(0).permutation(len(targets))
    np.testing.assert_array_equal(
        average_precision(targets[order], scores[order], definition),
        average_precision(targets, scores, definition),
    )


# Precision, recall and F1


def test_hand_worked_precision_recall_and_f1():
    metrics = multilabel_metrics(TARGETS, PROBABILITIES)
    cp, cr = (2 / 3 + 1 + 1 / 2 + 0) / 4, (1 + 1 / 2 + 1 + 0) / 4  # 13/24, 5/8
    assert metrics["CP"] == pytest.approx(cp)
    assert metrics["CR"] == pytest.approx(cr)
    assert metrics["CF1"] == pytest.approx(0.5803571, abs=1e-6)  # 2 * 13/24 * 5/8 / (7/6)
    assert metrics["OP"] == pytest.approx(4 / 6)
    assert metrics["OR"] == pytest.approx(4 / 6)
    assert metrics["OF1"] == pytest.approx(4 / 6)


def test_macro_f1_is_the_mean_of_class_f1_and_not_cf1():
    metrics = multilabel_metrics(TARGETS, PROBABILITIES)
    assert metrics["macro_F1"] == pytest.approx((4 / 5 + 2 / 3 + 2 / 3 + 0) / 4)  # 0.5333
    assert metrics["macro_F1"] != pytest.approx(metrics["CF1"], abs=0.01)


def test_hand_worked_top_k():
    # top 1: classes 0, 0, 2, 3; all right: TP 2, 0, 1, 1 of predicted 2, 0, 1, 1
    metrics = multilabel_metrics(TARGETS, PROBABILITIES, top_k=1)
    assert metrics["top1_CP"] == pytest.approx(3 / 4)
    assert metrics["top1_CR"] == pytest.approx(3 / 4)
    assert metrics["top1_OP"] == 1.0
    assert metrics["top1_OR"] == pytest.approx(4 / 6)
    assert metrics["top1_OF1"] == pytest.approx(0.8)


def test_top_k_does_not_spend_a_place_on_an_unknown_label():
    metrics = multilabel_metrics([[-1, 1, 0]], [[0.9, 0.5, 0.1]], top_k=1)
    assert metrics["top1_OP"] == metrics["top1_OR"] == 1.0


def test_top_k_beyond_the_classes_predicts_all_and_none_leaves_it_out():
    assert multilabel_metrics(TARGETS, PROBABILITIES, top_k=9)["top9_OR"] == 1.0
    assert not any(
        key.startswith("top") for key in multilabel_metrics(TARGETS, PROBABILITIES, top_k=None)
    )


@pytest.mark.parametrize("seed", range(4))
def test_class_and_overall_means_equal_scikit_learn(seed):
    targets, probabilities = random_case(seed)
    predicted = probabilities >= 0.5
    metrics = multilabel_metrics(targets, probabilities)
    for average, prefix in (("macro", "C"), ("micro", "O")):
        for score, letter in ((precision_score, "P"), (recall_score, "R")):
            oracle = score(targets, predicted, average=average, zero_division=0)
            assert metrics[prefix + letter] == pytest.approx(oracle, abs=1e-12)
    oracle = f1_score(targets, predicted, average="micro", zero_division=0)
    assert metrics["OF1"] == pytest.approx(oracle, abs=1e-12)
    oracle = f1_score(targets, predicted, average="macro", zero_division=0)
    assert metrics["macro_F1"] == pytest.approx(oracle, abs=1e-12)


def test_map_is_the_mean_over_classes_with_positives_and_names_the_others():
    targets, probabilities = np.array([[1, 0, 0], [0, 0, 1]]), np.full((2, 3), 0.7)
    metrics = multilabel_metrics(targets, probabilities, class_names=["cat", "dog", "owl"])
    assert metrics["excluded_classes"] == ["dog"]
    assert metrics["ap_per_class"] == [0.5, None, 0.5]
    assert metrics["mAP"] == 0.5
    assert metrics["CR"] == 1.0  # over cat and owl
    assert metrics["OP"] == pytest.approx(2 / 6)  # the false positives of dog count here
    assert multilabel_metrics(targets, probabilities)["excluded_classes"] == [1]


def test_unknown_entries_change_nothing_whatever_their_probability():
    targets, probabilities = random_case(3, unknown=0.2)
    results = []
    for value in (0.0, 1.0):
        filled = np.where(targets == -1, value, probabilities)
        results.append(multilabel_metrics(targets, filled))
    assert results[0] == results[1]


def test_nothing_predicted_gives_zeros_not_a_division_error():
    metrics = multilabel_metrics(TARGETS, np.zeros((4, 4)), top_k=None)
    assert [metrics[key] for key in ("CP", "CR", "CF1", "OP", "OR", "OF1", "macro_F1")] == [0] * 7


def test_a_probability_that_equals_the_threshold_is_a_prediction():
    assert multilabel_metrics([[1]], [[0.5]])["OR"] == 1.0


def test_each_class_may_have_its_own_threshold():
    metrics = multilabel_metrics(TARGETS, PROBABILITIES, threshold=[0.65, 0.35, 0.65, 0.35])
    assert metrics["OF1"] == metrics["CF1"] == 1.0


def test_metrics_do_not_depend_on_the_order_of_images_or_classes():
    targets, probabilities = random_case(4, unknown=0.1)
    images, classes = (np.random.default_rng(0).permutation(n) for n in targets.shape)
    metrics = multilabel_metrics(targets, probabilities)
    moved = multilabel_metrics(targets[images][:, classes], probabilities[images][:, classes])
    for key in ("mAP", "CP", "CR", "CF1", "OP", "OR", "OF1", "macro_F1", "top3_CF1", "top3_OF1"):
        assert moved[key] == pytest.approx(metrics[key], abs=1e-14)
    assert moved["ap_per_class"] == [metrics["ap_per_class"][k] for k in classes]


def test_metrics_are_plain_json():
    metrics = multilabel_metrics(*random_case(5), definition="voc2007")
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert metrics["definition"] == "voc2007"


@pytest.mark.parametrize(
    "function",
    [
        average_precision,
        multilabel_metrics,
        tune_thresholds,
        bootstrap_map,
        lambda t, p: induced_false_positives(t, p, cooccurrence_counts(t), min_conditional=0.1),
    ],
)
def test_the_callers_arrays_are_never_written_to(function):
    targets, probabilities = random_case(6, unknown=0.2)
    before = targets.copy(), probabilities.copy()
    targets.setflags(write=False)
    probabilities.setflags(write=False)
    function(targets, probabilities)
    np.testing.assert_array_equal(targets, before[0])
    np.testing.assert_array_equal(probabilities, before[1])


# Thresholds


def class_f1(targets, predicted):
    return 2 * (targets * predicted).sum(axis=0) / (targets.sum(axis=0) + predicted.sum(axis=0))


@pytest.mark.parametrize("seed", range(5))
def test_tuned_thresholds_reach_the_best_f1_of_any_threshold(seed):
    targets, probabilities = random_case(seed, n_images=25, levels=12)
    tuned = class_f1(targets, probabilities >= tune_thresholds(targets, probabilities))
    cuts = [class_f1(targets, probabilities >= cut) for cut in np.linspace(0, 1, 101)]
    np.testing.assert_allclose(tuned, np.max(cuts, axis=0), atol=1e-12)


def test_tuned_threshold_separates_neighbouring_floats():
    low = np.nextafter(0.5, 0)
    threshold = tune_thresholds([[1], [0]], [[0.5], [low]])
    assert low < threshold[0] <= 0.5


def test_tuned_threshold_without_positives_is_one_half_and_unknown_entries_do_not_count():
    targets = [[0, 1], [0, -1], [0, 0]]
    probabilities = [[0.9, 0.8], [0.1, 0.5], [0.3, 0.2]]
    assert tune_thresholds(targets, probabilities).tolist() == [0.5, 0.5]  # (0.8 + 0.2) / 2


# Bootstrap


def test_bootstrap_equals_a_plain_loop_over_resampled_images():
    targets, scores = random_case(7, n_images=20, n_classes=4, levels=8, unknown=0.1)
    targets[:, 3] = 0  # a class without positives
    rng = np.random.default_rng(3)
    weights = rng.multinomial(20, np.full(20, 1 / 20), size=50)
    maps = [
        np.nanmean(average_precision(targets[drawn], scores[drawn]))
        for drawn in (np.repeat(np.arange(20), weight) for weight in weights)
    ]
    interval = bootstrap_map(targets, scores, n_resamples=50, seed=3)
    np.testing.assert_allclose(interval, np.quantile(maps, [0.025, 0.975]), atol=1e-6)


def test_bootstrap_interval_covers_the_map_narrows_with_images_and_repeats():
    widths = []
    for n_images in (50, 800):
        targets, scores = random_case(8, n_images=n_images)
        low, high = bootstrap_map(targets, scores, n_resamples=200)
        assert low < average_precision(targets, scores).mean() < high
        assert (low, high) == bootstrap_map(targets, scores, n_resamples=200)
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


# False positives induced by a partner


def test_hand_worked_induced_false_positives():
    # P(1|0) = 8/10 and P(0|1) = 8/40: one pair, partner 0 and label 1
    counts = [[10, 8], [8, 40]]
    targets = [[1, 0], [1, 0], [0, 0], [0, 0], [1, 1], [-1, 0], [1, -1]]
    of_label_1 = [0.9, 0.3, 0.4, 0.0, 1.0, 1.0, 1.0]  # the last three do not count
    probabilities = np.column_stack([np.zeros(7), of_label_1])
    found = induced_false_positives(targets, probabilities, counts, min_conditional=0.5)
    (pair,) = found["pairs"]
    assert (pair["partner"], pair["label"], pair["conditional"]) == (0, 1, 0.8)
    assert (pair["n_with_partner"], pair["n_without_partner"]) == (2, 2)
    assert found["probability_with_partner"] == pytest.approx(0.6)
    assert found["probability_without_partner"] == pytest.approx(0.2)
    assert found["probability_difference"] == pytest.approx(0.4)
    assert found["rate_difference"] == pytest.approx(0.5)
    json.dumps(found, allow_nan=False)


def test_a_model_that_follows_the_partner_induces_more_than_one_that_does_not():
    rng = np.random.default_rng(0)
    targets = (rng.random((400, 2)) < 0.5).astype(int)
    honest = np.clip(targets * 0.6 + rng.random(targets.shape) * 0.4, 0, 1)
    leaning = np.clip(honest + 0.3 * targets[:, ::-1], 0, 1)
    counts = [[100, 80], [80, 100]]
    assert abs(induced_false_positives(targets, honest, counts)["probability_difference"]) < 0.05
    assert induced_false_positives(targets, leaning, counts)["probability_difference"] > 0.25


# Bad input

GOOD = np.array([[0.2, 0.8]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: average_precision([[1, 0]], [[0.1]]), r"\(1, 2\) and scores \(1, 1\)"),
        (lambda: average_precision([[1, 0]], [[0.1, np.nan]]), "NaN"),
        (lambda: average_precision([[1, 3]], GOOD), "class 1 has 3"),
        (lambda: average_precision([[1, 0]], GOOD, "voc2012"), "definition"),
        (lambda: average_precision(np.zeros((0, 2)), np.zeros((0, 2))), "empty"),
        (lambda: multilabel_metrics([[1, 0]], [[1.2, 0.1]]), "sigmoid"),
        (lambda: multilabel_metrics([[1, 0]], [[-0.1, 0.1]]), "sigmoid"),
        (lambda: multilabel_metrics([[1, 0]], [[np.nan, 0.1]]), "NaN"),
        (lambda: multilabel_metrics([[0, -1]], GOOD), "nothing to measure"),
        (lambda: multilabel_metrics([[1, 0]], GOOD, threshold=[0.5] * 3), "each of the 2 classes"),
        (lambda: multilabel_metrics([[1, 0]], GOOD, threshold=np.nan), "NaN"),
        (lambda: multilabel_metrics([[1, 0]], GOOD, top_k=0), "top_k"),
        (lambda: multilabel_metrics([[1, 0]], GOOD, class_names=["a"]), "1 class names"),
        (lambda: tune_thresholds([[1, 0]], [[2.0, 0.0]]), "sigmoid"),
        (lambda: bootstrap_map([[0, 0]], GOOD), "nothing to measure"),
        (lambda: bootstrap_map([[1, 0]], GOOD, n_resamples=0), "n_resamples"),
        (lambda: induced_false_positives([[1, 0]], GOOD, np.eye(3, dtype=int)), "do not fit"),
        (lambda: induced_false_positives([[1, 0]], GOOD, [[2, 1], [1, 2]], 0.9), "is 0.50"),
        (lambda: induced_false_positives([[1, 0]], GOOD, [[2, 1], [1, 2]], 0), "min_conditional"),
    ],
)
def test_unusable_input_is_refused_in_words(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("module", [mlvpt.metrics])
def test_examples_in_docstrings_give_what_they_show(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
