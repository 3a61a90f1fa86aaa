"""The authors' groups against ours: found by k-means, and optima of the objective."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from mlvpt.datasets.shipped import authors_groups, label_statistics
from mlvpt.errors import InputError
from mlvpt.grouping import cooccurrence_affinity, exclusion_affinity, spectral_embedding
from mlvpt.studies.reproduction import RELEASED, lloyd_from, reproduced_groups

AFFINITIES = {"co": cooccurrence_affinity, "dc": exclusion_affinity}


def optima(name, view, tau):
    affinity = AFFINITIES[view](label_statistics(name).counts, tau)
    released = {n: getattr(authors_groups(name, n), view) for n in RELEASED}
    return [n for n in RELEASED if np.array_equal(lloyd_from(affinity, released[n]), released[n])]


@pytest.mark.parametrize("tau", [1.5, 2.0, 2.25, 2.5, 3.0, 3.5])
def test_all_released_co_groups_of_voc_are_optima_for_tau_from_1_5_to_3_5(tau):
    assert optima("voc2007", "co", tau) == [2, 3, 5, 8, 13]


def test_all_released_co_groups_of_coco_are_optima_for_tau_2_alone():
    assert optima("coco2014", "co", 2.0) == [2, 3, 5, 8, 13]
    for tau in (1.5, 2.25, 2.5, 3.0, 3.5):
        assert len(optima("coco2014", "co", tau)) < 5


def test_released_dc_groups_of_voc_are_optima_for_tau_2_and_eight_of_them_for_2_25_to_3():
    assert optima("voc2007", "dc", 2.0) == [2, 3, 5, 13]
    assert all(8 in optima("voc2007", "dc", tau) for tau in (2.25, 2.5, 3.0))


def test_released_dc_groups_of_coco_are_optima_for_tau_3_but_for_five_groups():
    assert optima("coco2014", "dc", 3.0) == [2, 3, 8, 13]
    assert all(not optima("coco2014", "dc", tau) for tau in (1.5, 2.0, 2.5))


def test_the_table_finds_12_of_the_20_released_partitions_and_19_are_optima():
    rows = {"voc2007": reproduced_groups("voc2007")}
    rows["coco2014"] = reproduced_groups("coco2014", n_init=50)  # needs fewer restarts
    assert all(len(table) == 2 * 5 * 2 for table in rows.values())
    equal = {
        (name, r.view, r.n_groups)
        for name, table in rows.items()
        for r in table
        if r.agreement == 1
    }
    optimum = {
        (n, r.view, r.n_groups) for n, table in rows.items() for r in table if r.n_moved == 0
    }
    assert len(equal) == 12
    assert equal < optimum
    assert len(optimum) == 19
    assert ("coco2014", "dc", 5) not in optimum


def test_lloyd_from_a_start_is_scikit_learns_k_means_from_its_means():
    affinity = cooccurrence_affinity(label_statistics("voc2007").counts)
    start = np.arange(20) % 4
    points = spectral_embedding(affinity, 4)
    means = np.stack([points[start == group].mean(axis=0) for group in range(4)])
    oracle = KMeans(4, init=means, n_init=1, tol=0).fit(points)
    settled = lloyd_from(affinity, start)
    np.testing.assert_array_equal(settled, oracle.labels_)
    assert (settled != start).any()
    np.testing.assert_array_equal(lloyd_from(affinity, settled), settled)


@pytest.mark.parametrize(
    ("partition", "message"),
    [([0, 1], "2 classes, but the affinity 3"), ([0, 0, 2], "every group number"), ("a", "list")],
)
def test_a_start_that_is_no_partition_is_refused(partition, message):
    with pytest.raises(InputError, match=message):
        lloyd_from(np.ones((3, 3)), partition)
