"""A variant of one run is compared with the spread that the seeds of other variants have."""

import numpy as np
import pytest
from scipy import stats

from mlvpt.studies.statistics import unpaired_difference


def runs(**values):
    return [
        {"variant": variant, "seed": seed, "test_mAP": value}
        for variant, found in values.items()
        for seed, value in enumerate(found)
    ]


def test_with_two_variants_it_is_the_interval_of_the_unpaired_t_test():
    a, b = [0.80, 0.82, 0.81, 0.85], [0.84, 0.83]
    found = unpaired_difference(runs(a=a, b=b), "b", "a")
    interval = stats.ttest_ind(b, a).confidence_interval(0.95)
    assert found["difference"] == pytest.approx(np.mean(b) - np.mean(a))
    assert found["interval"] == pytest.approx([interval.low, interval.high])


def test_seeds_of_other_variants_make_the_interval_of_a_single_run():
    alone = unpaired_difference(runs(a=[0.8], b=[0.9]), "b", "a")
    assert alone["n"] == 1
    assert np.isnan(alone["interval"]).all()
    found = unpaired_difference(runs(a=[0.8], b=[0.9], c=[0.5, 0.52]), "b", "a")
    half = stats.t.ppf(0.975, 1) * np.sqrt(2) * np.std([0.5, 0.52], ddof=1)
    assert found["interval"] == pytest.approx([0.1 - half, 0.1 + half])


def test_a_variant_that_was_not_run_has_no_difference():
    assert unpaired_difference(runs(a=[0.8, 0.9]), "b", "a") is None


def test_of_two_runs_of_one_seed_the_later_counts():
    rows = [*runs(a=[0.1, 0.3]), *runs(b=[0.9]), *runs(b=[0.5])]
    assert unpaired_difference(rows, "b", "a")["difference"] == pytest.approx(0.3)
