"""Label grouping: counts, affinities, spectral clustering, LabelGroups, the shipped statistics."""

import copy
import doctest
import importlib
import json
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from mlvpt import grouping
from mlvpt.datasets.shipped import authors_groups, authors_groups_of, label_statistics
from mlvpt.errors import InputError
from mlvpt.grouping import (
    CHUNK,
    DENSE,
    conditional_probabilities,
    cooccurrence_affinity,
    cooccurrence_counts,
    exclusion_affinity,
    group_labels,
    kmeans_groups,
    spectral_embedding,
    spectral_groups,
)
from mlvpt.labels import LabelGroups, random_groups, single_group

AFFINITIES = {"co": cooccurrence_affinity, "dc": exclusion_affinity}


def shipped_partition(name, view, n_groups, seed=0):
    """Our partition and the authors', from the shipped counts."""
    affinity = AFFINITIES[view](label_statistics(name).counts)
    return spectral_groups(affinity, n_groups, seed), getattr(authors_groups(name, n_groups), view)


def block_affinity(sizes, within=1.0, between=0.0):
    block = np.repeat(np.arange(len(sizes)), sizes)
    affinity = np.where(block[:, None] == block, within, between)
    np.fill_diagonal(affinity, 0)
    return affinity, block


def random_counts(seed, n_classes=9, n_images=60):
    rng = np.random.default_rng(seed)
    context = rng.integers(0, 3, n_images)[:, None]
    likely = np.arange(n_classes) % 3 == context
    return cooccurrence_counts(rng.random((n_images, n_classes)) < np.where(likely, 0.6, 0.08))


# What the authors released

MATCHED = [
    *(("voc2007", "co", n) for n in (2, 3, 5, 8)),
    *(("voc2007", "dc", n) for n in (2, 3, 5)),
    *(("coco2014", "co", n) for n in (2, 3, 5, 8)),
]


def test_tau_3_gives_a_twelfth_of_the_authors_groups():
    affinity = exclusion_affinity(label_statistics("coco2014").counts, tau=3.0)
    assert adjusted_rand_score(authors_groups("coco2014", 2).dc, spectral_groups(affinity, 2)) == 1


@pytest.mark.parametrize(("name", "view", "n_groups"), MATCHED)
def test_groups_equal_the_authors_exactly(name, view, n_groups):
    ours, theirs = shipped_partition(name, view, n_groups)
    assert adjusted_rand_score(theirs, ours) == 1.0


# adjusted Rand index; within 0.005 where every seed finds the same partition, within 0.05 where
# several partitions are almost equally good and another library version may settle on the next
MEASURED = [
    ("voc2007", "dc", 8, 0.37, 0.05),
    ("coco2014", "dc", 2, 0.00, 0.005),
    ("coco2014", "dc", 3, 0.21, 0.005),
    ("coco2014", "dc", 5, 0.25, 0.05),
    ("coco2014", "dc", 8, 0.18, 0.05),
]


@pytest.mark.parametrize(("name", "view", "n_groups", "agreement", "tolerance"), MEASURED)
def test_agreement_with_the_authors_is_measured_not_matched(
    name, view, n_groups, agreement, tolerance
):
    ours, theirs = shipped_partition(name, view, n_groups)
    assert adjusted_rand_score(theirs, ours) == pytest.approx(agreement, abs=tolerance)


def test_the_eight_co_groups_of_voc_do_not_hang_on_the_seed():
    for seed in (1, 2, 3):
        ours, theirs = shipped_partition("voc2007", "co", 8, seed)
        assert adjusted_rand_score(theirs, ours) == 1.0


# Counts and affinities


def test_counts_are_the_labels_transposed_times_the_labels():
    labels = np.random.default_rng(0).integers(0, 2, (CHUNK + 100, 4))
    np.testing.assert_array_equal(cooccurrence_counts(labels), labels.T @ labels)


def test_unknown_labels_count_as_absent_and_stay_in_the_callers_array():
    labels = np.array([[1, -1], [1, 1]], dtype=np.int8)
    before = labels.copy()
    assert cooccurrence_counts(labels).tolist() == [[2, 1], [1, 1]]
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.float32])
def test_counts_do_not_depend_on_the_type_of_the_labels(dtype):
    labels = np.array([[1, 0, 1], [0, 0, 1]], dtype=dtype)
    assert cooccurrence_counts(labels).tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 2]]


def test_affinities_of_a_hand_worked_case():
    counts = [[16, 4, 0], [4, 4, 0], [0, 0, 0]]  # P(1|0) = 1/4, P(0|1) = 1; class 2 never
    assert conditional_probabilities(counts).tolist() == [[0, 0.25, 0], [1, 0, 0], [0, 0, 0]]
    assert cooccurrence_affinity(counts, tau=2).tolist() == [[0, 0.75, 0], [0.75, 0, 0], [0] * 3]
    assert cooccurrence_affinity(counts, tau=1)[0, 1] == 0.625
    assert exclusion_affinity(counts, tau=2).tolist() == [[0, 0.25, 1], [0.25, 0, 1], [1, 1, 0]]


def test_a_class_never_present_divides_nothing_by_zero():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert conditional_probabilities([[0, 0], [0, 3]]).tolist() == [[0, 0], [0, 0]]


def test_a_class_always_present_has_probability_one_given_any_other():
    labels = np.column_stack([np.ones(6), np.eye(6)[:, :4]])
    assert (conditional_probabilities(cooccurrence_counts(labels))[1:, 0] == 1).all()


# Spectral clustering


@pytest.mark.parametrize("seed", range(3))
def test_partition_equals_scikit_learns_spectral_clustering(seed):
    rng = np.random.default_rng(seed)
    affinity, _ = block_affinity([7, 5, 6, 4], within=0.6, between=0.2)
    noise = rng.random(affinity.shape) * 0.2
    affinity += (noise + noise.T) / 2
    oracle = SpectralClustering(4, affinity="precomputed", n_init=100, random_state=0)
    assert adjusted_rand_score(oracle.fit_predict(affinity), spectral_groups(affinity, 4)) == 1.0


def test_disconnected_blocks_are_found_without_a_warning():
    affinity, block = block_affinity([4, 4, 4])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        groups = spectral_groups(affinity, 3)
    assert adjusted_rand_score(block, groups) == 1.0


def test_groups_are_numbered_from_the_largest():
    affinity, _ = block_affinity([2, 5, 3])
    assert spectral_groups(affinity, 3).tolist() == [2] * 2 + [0] * 5 + [1] * 3


def test_diagonal_of_the_affinity_is_not_read():
    affinity, _ = block_affinity([3, 4], between=0.1)
    with_diagonal = affinity + 5 * np.eye(7)
    np.testing.assert_array_equal(spectral_groups(affinity, 2), spectral_groups(with_diagonal, 2))


def test_result_depends_on_nothing_but_input_and_seed():
    affinity = cooccurrence_affinity(random_counts(0))
    first = spectral_groups(affinity, 3, seed=4)
    np.random.seed(99)  # noqa: NPY002, the global state must not matter
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    np.testing.assert_array_equal(spectral_groups(affinity, 3, seed=4), first)
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


def test_number_of_threads_does_not_change_the_groups():
    affinity = exclusion_affinity(label_statistics("coco2014").counts)
    results = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            results.append(spectral_groups(affinity, 8, n_init=50))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("view", ["co", "dc"])
@pytest.mark.parametrize("n_groups", [5, 8])
def test_groups_of_voc_permute_with_the_classes(view, n_groups):
    affinity = AFFINITIES[view](label_statistics("voc2007").counts)
    groups = spectral_groups(affinity, n_groups)
    order = np.random.default_rng(1).permutation(20)
    permuted = spectral_groups(affinity[np.ix_(order, order)], n_groups)
    np.testing.assert_array_equal(permuted, groups[order])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.permutations(range(9)), st.integers(1, 9))
def test_groups_permute_with_named_classes(seed, order, n_groups):
    counts = random_counts(seed, n_images=15)  # few images: many ties
    names = [f"class {k}" for k in range(9)]
    permuted = counts[np.ix_(order, order)]
    for affinity in AFFINITIES.values():
        groups = spectral_groups(affinity(counts), n_groups, n_init=5, class_names=names)
        moved = spectral_groups(
            affinity(permuted), n_groups, n_init=5, class_names=[names[k] for k in order]
        )
        np.testing.assert_array_equal(moved, groups[order])


def test_interchangeable_classes_without_names_only_swap_places():
    affinity, block = block_affinity([2, 2, 2])  # three equal pairs in two groups
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(6)
        groups = spectral_groups(affinity[np.ix_(order, order)], 2)
        pairs = {tuple(groups[block[order] == pair]) for pair in range(3)}
        assert pairs == {(0, 0), (1, 1)}
        assert np.bincount(groups).tolist() == [4, 2]


def test_a_graph_without_edges_still_fills_every_group():
    groups = spectral_groups(np.zeros((5, 5)), 3)
    assert np.bincount(groups, minlength=3).min() >= 1


def test_one_group_holds_all_and_k_groups_hold_one_class_each():
    affinity = cooccurrence_affinity(random_counts(2))
    assert spectral_groups(affinity, 1).tolist() == [0] * 9
    assert sorted(spectral_groups(affinity, 9).tolist()) == list(range(9))


# group_labels


def test_targets_and_their_counts_give_the_same_groups():
    labels = np.random.default_rng(3).integers(0, 2, (40, 6))
    by_labels = group_labels(labels, n_groups=2)
    assert by_labels == group_labels(counts=cooccurrence_counts(labels), n_groups=2)


def test_co_groups_hold_partners_and_dc_groups_hold_rivals():
    labels = np.array([[1, 1, 0, 0]] * 5 + [[0, 0, 1, 1]] * 5 + [[1, 0, 0, 1], [0, 1, 1, 0]])
    groups = group_labels(labels, n_groups=2)
    assert groups.co_members == [[0, 1], [2, 3]]
    assert all(sum(k in (0, 1) for k in members) == 1 for members in groups.dc_members)


def test_a_class_never_and_a_class_always_present_are_grouped_without_a_warning():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (30, 6))
    labels[:, 0], labels[:, 1] = 0, 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        groups = group_labels(labels, n_groups=3)
    assert groups.n_classes == 6


COUNTS = [[3, 1], [1, 2]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: group_labels([[1, np.nan]]), "image 0, class 1 has nan"),
        (lambda: group_labels([[1, 0], [0, 2]]), "image 1, class 1 has 2"),
        (lambda: group_labels([[1, 0], [1]]), "rows differ in length"),
        (lambda: group_labels([1, 0, 1]), r"shape \(3,\)"),
        (lambda: group_labels(np.zeros((2, 2, 2))), "shape"),
        (lambda: group_labels(np.zeros((0, 4))), "empty"),
        (lambda: group_labels(np.zeros((4, 0))), "empty"),
        (lambda: group_labels([["a", "b"]]), "must be numbers"),
        (lambda: group_labels(np.zeros((5, 8))), "nothing to group"),
        (lambda: group_labels(), "either targets"),
        (lambda: group_labels([[1, 0]], counts=COUNTS), "either targets"),
        (lambda: group_labels([[1, 0]], n_groups=3), "cannot fill 3 groups"),
        (lambda: group_labels([[1, 0]], n_groups=0), "n_groups must be"),
        (lambda: group_labels([[1, 0]], n_groups=1.5), "n_groups must be"),
        (lambda: group_labels([[1, 0]], n_groups=1, tau=0), "tau must be"),
        (lambda: group_labels([[1, 0]], n_groups=1, tau=float("nan")), "tau must be"),
        (lambda: group_labels([[1, 0]], n_groups=1, class_names=["a", "a"]), "'a' is given more"),
        (lambda: group_labels([[1, 0]], n_groups=1, class_names=["a"]), "1 class names"),
        (lambda: group_labels([[1, 0]], n_groups=1, class_names="ab"), "list of strings"),
        (lambda: group_labels(counts=np.ones((2, 3))), r"\(K, K\)"),
        (lambda: group_labels(counts=[[3, 1], [2, 2]]), "symmetric"),
        (lambda: group_labels(counts=[[3, -1], [-1, 2]]), ">= 0"),
        (lambda: group_labels(counts=[[3, 0.5], [0.5, 2]]), "whole numbers"),
        (lambda: group_labels(counts=[[3, np.nan], [np.nan, 2]]), "NaN"),
        (lambda: group_labels(counts=[[9, 3], [3, 2]]), "share 3 images, but class 1 has only 2"),
        (lambda: spectral_groups([[0, 1], [0, 0]], 1), "symmetric"),
        (lambda: spectral_groups([[0, -1], [-1, 0]], 1), ">= 0"),
        (lambda: spectral_groups(np.zeros((2, 3)), 1), r"\(K, K\)"),
        (lambda: spectral_groups(np.zeros((2, 2)), 1, class_names=["a"]), "1 class names"),
        (lambda: kmeans_groups([[1.0, np.inf]], 1), "finite"),
        (lambda: random_groups(3, 4, seed=0), "cannot fill 4 groups"),
        (lambda: label_statistics("imagenet"), "voc2007, coco2014"),
        (lambda: authors_groups("voc2007", 4), "2, 3, 5, 8"),
    ],
)
def test_unusable_input_is_refused_in_words(call, message):
    with pytest.raises(InputError, match=message):
        call()


# tau


def test_a_pair_gives_each_view_its_own_tau():
    counts = label_statistics("voc2007").counts
    pair = group_labels(counts=counts, n_groups=8, tau=(2.0, 3.0))
    np.testing.assert_array_equal(pair.co, group_labels(counts=counts, n_groups=8, tau=2.0).co)
    np.testing.assert_array_equal(pair.dc, group_labels(counts=counts, n_groups=8, tau=3.0).dc)
    assert pair != group_labels(counts=counts, n_groups=8, tau=2.0)


@pytest.mark.parametrize("tau", [[], [2.0], [1.0, 2.0, 3.0], [2.0, 0.0], "2", None, True, np.inf])
def test_a_tau_that_is_no_positive_number_or_pair_is_refused(tau):
    with pytest.raises(InputError, match="tau must be"):
        group_labels([[1, 0]], n_groups=1, tau=tau)


def test_the_keyword_root_of_version_0_1_is_tau_with_a_warning():
    counts = random_counts(0)
    with pytest.warns(FutureWarning, match="calls `root` `tau` now"):
        old = group_labels(counts=counts, n_groups=3, root=3.0)
    assert old == group_labels(counts=counts, n_groups=3, tau=3.0)
    for affinity in AFFINITIES.values():
        with pytest.warns(FutureWarning, match="tau"):
            np.testing.assert_array_equal(affinity(counts, root=3.0), affinity(counts, tau=3.0))


# Many classes


def many_labels(n_classes, n_images, n_contexts, seed=0):
    """Eight labels an image: seven of one context, one of any."""
    rng = np.random.default_rng(seed)
    context = np.arange(n_classes) % n_contexts
    labels = np.zeros((n_images, n_classes), dtype=np.int8)
    for row in labels:
        chosen = rng.integers(0, n_classes // n_contexts, 7) * n_contexts
        row[chosen + rng.integers(n_contexts)] = 1
        row[rng.integers(n_classes)] = 1
    return labels, context


def test_two_thousand_classes_are_grouped_by_their_contexts_and_permute_with_their_names():
    labels, context = many_labels(2000, 4000, 10)
    names = [f"class {k}" for k in range(2000)]
    groups = group_labels(labels, n_groups=10, class_names=names)
    assert adjusted_rand_score(context, groups.co) == 1.0
    assert groups.dc_members != groups.co_members
    order = np.random.default_rng(1).permutation(2000)
    moved = group_labels(labels[:, order], n_groups=10, class_names=[names[k] for k in order])
    np.testing.assert_array_equal(moved.co, groups.co[order])


@pytest.mark.parametrize("view", ["co", "dc"])
def test_the_iterative_and_the_dense_solver_span_the_same_space(view):
    labels, _ = many_labels(DENSE + 100, 3000, 5)
    counts = cooccurrence_counts(labels)
    affinity = cooccurrence_affinity(counts).astype(np.float32)
    found = grouping._large_embedding(affinity, 5, np.arange(DENSE + 100), view == "dc")
    exact = spectral_embedding(AFFINITIES[view](counts), 5)
    bases = [np.linalg.qr(points)[0] for points in (found, exact)]
    assert np.linalg.svd(bases[0].T @ bases[1])[1].min() > 0.999  # cosines of principal angles


@pytest.mark.parametrize("per_image", [3, 400])
def test_counts_of_many_classes_are_exact_whether_labels_are_few_or_many(per_image):
    rng = np.random.default_rng(0)
    labels = np.zeros((300, DENSE + 50), dtype=np.int8)
    for row in labels:
        row[rng.integers(0, DENSE + 50, per_image)] = 1
    expected = labels.T.astype(int) @ labels
    np.testing.assert_array_equal(cooccurrence_counts(labels), expected)


def test_many_classes_that_never_meet_still_fill_every_group():
    groups = group_labels(np.eye(DENSE + 20, dtype=np.int8), n_groups=4)
    assert np.bincount(groups.co).min() >= 1


# Other ways to group


def test_random_groups_are_balanced_reproducible_and_differ_between_views():
    groups = random_groups(23, 5, seed=7, class_names=[str(k) for k in range(23)])
    for view in (groups.co, groups.dc):
        assert sorted(np.bincount(view).tolist()) == [4, 4, 5, 5, 5]
    assert groups == random_groups(23, 5, seed=7, class_names=groups.class_names)
    assert groups.co.tolist() != groups.dc.tolist()
    assert groups.co.tolist() != random_groups(23, 5, seed=8).co.tolist()


def test_single_group_puts_every_class_together():
    assert single_group(4).co_members == single_group(4).dc_members == [[0, 1, 2, 3]]


def test_kmeans_groups_put_near_embeddings_together_whatever_their_order():
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(3) * 10, [4, 3, 2], axis=0)
    embeddings = centres + rng.normal(size=centres.shape)
    groups = kmeans_groups(embeddings, 3)
    assert groups.co.tolist() == groups.dc.tolist() == [0] * 4 + [1] * 3 + [2] * 2
    order = rng.permutation(9)
    np.testing.assert_array_equal(kmeans_groups(embeddings[order], 3).co, groups.co[order])


@pytest.mark.filterwarnings("error")
def test_kmeans_groups_fill_every_group_though_embeddings_coincide():
    groups = kmeans_groups(np.ones((5, 2)), 3)
    assert sorted(np.bincount(groups.co).tolist()) == [1, 1, 3]


# LabelGroups


@pytest.fixture
def groups():
    return LabelGroups([0, 0, 1, 1], [0, 1, 0, 1], 2, ["cup", "fork", "car", "bus"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [0, 1, 1], 2), "co groups 2 classes, but dc groups 3"),
        (([0, 2], [0, 1], 2), "co must use every group number from 0 to 1"),
        (([0, 1], [0, 0], 2), "dc must use every group number"),
        (([0, -1], [0, 1], 2), "co must use every group number"),
        (([0.0, 1.0], [0, 1], 2), "whole numbers"),
        (([[0, 1]], [0, 1], 2), "co must list"),
        (([], [], 1), "co must list"),
        (([0, 1], [0, 1], True), "n_groups must be"),
        (([0, 1], [0, 1], 2, ["a"]), "1 class names"),
    ],
)
def test_what_is_no_partition_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        LabelGroups(*arguments)


@pytest.mark.parametrize(
    "duplicate", [lambda g: g, copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))]
)
def test_groups_and_their_copies_are_immutable(groups, duplicate):
    same = duplicate(groups)
    assert same == groups
    with pytest.raises(ValueError, match="read-only"):
        same.co[0] = 1
    with pytest.raises(AttributeError):
        same.n_groups = 3


def test_groups_do_not_follow_the_callers_array():
    co = np.array([0, 1])
    groups = LabelGroups(co, co, 2)
    co[0] = 1
    assert groups.co.tolist() == [0, 1]


def test_equality_sees_both_views_and_the_names(groups):
    assert groups == LabelGroups([0, 0, 1, 1], [0, 1, 0, 1], 2, ["cup", "fork", "car", "bus"])
    assert groups != LabelGroups([0, 0, 1, 1], [0, 1, 1, 0], 2, groups.class_names)
    assert groups != LabelGroups(groups.co, groups.dc, 2)
    assert groups != "groups"


def test_repr_lists_both_views_with_class_names(groups):
    assert repr(groups).splitlines()[1:] == [
        "  CO 0  cup, fork",
        "  CO 1  car, bus",
        "  DC 0  cup, car",
        "  DC 1  fork, bus",
    ]


def test_repr_of_eighty_classes_names_each_of_them_in_each_view_within_100_columns():
    groups = authors_groups("coco2014", 5)
    text = " ".join(repr(groups).split())
    assert all(len(line) <= 100 for line in repr(groups).splitlines())
    assert all(text.count(name) >= 2 for name in groups.class_names)


@pytest.mark.parametrize("names", [None, ["tasse", "fourchette", "voiture", "métro"]])
def test_json_gives_back_the_same_groups(tmp_path, names):
    groups = LabelGroups([0, 0, 1, 1], [0, 1, 0, 1], 2, names)
    groups.to_json(tmp_path / "groups.json")
    assert LabelGroups.from_json(tmp_path / "groups.json") == groups
    assert LabelGroups.from_dict(json.loads(json.dumps(groups.to_dict()))) == groups


def test_a_file_of_version_0_1_loads_and_its_checksum_is_not_read(tmp_path, groups):
    path = tmp_path / "groups.json"
    groups.to_json(path)
    assert "sha256" not in json.loads(path.read_text())
    path.write_text(json.dumps({**groups.to_dict(), "co": [1, 1, 0, 0], "sha256": "old"}))
    assert LabelGroups.from_json(path).co.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"co": [0, 1', "no valid JSON"),
        ('{"co": [0, 1], "n_groups": 2}', "lack dc"),
        ("[1, 2]", "mapping"),
        ('{"co": [0, 5], "dc": [0, 1], "n_groups": 2}', "co must use"),
        ('{"co": [0, [1]], "dc": [0, 1], "n_groups": 2}', "co must list"),
        ('{"co": [0, 1], "dc": [0, 1], "n_groups": 2, "class_names": 7}', "list of strings"),
        (None, "missing"),
    ],
)
def test_an_unusable_file_is_named_in_the_error(tmp_path, text, message):
    path = tmp_path / "groups.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        LabelGroups.from_json(path)
    assert "groups.json" in str(error.value)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, groups, monkeypatch):
    path = tmp_path / "groups.json"
    groups.to_json(path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        single_group(3).to_json(path)
    assert LabelGroups.from_json(path) == groups
    assert list(tmp_path.iterdir()) == [path]


# Documentation


@pytest.mark.parametrize("name", ["grouping", "labels", "datasets.shipped"])
def test_examples_in_docstrings_give_what_they_show(name):
    result = doctest.testmod(importlib.import_module(f"mlvpt.{name}"), extraglobs={"np": np})
    assert result.attempted > 0
    assert result.failed == 0


# Shipped statistics


@pytest.mark.parametrize(
    ("name", "n_classes", "people"), [("voc2007", 20, 2008), ("coco2014", 80, 45174)]
)
def test_shipped_counts_are_counts_with_names(name, n_classes, people):
    statistics = label_statistics(name)
    assert statistics.counts.shape == (n_classes, n_classes)
    person = statistics.class_names.index("person")
    assert statistics.counts[person, person] == people <= statistics.n_images
    assert authors_groups(name, 5).class_names == statistics.class_names
    conditional_probabilities(statistics.counts)  # refuses what is no count matrix


@pytest.mark.parametrize("name", ["voc2007", "coco2014"])
@pytest.mark.parametrize("n_groups", [2, 3, 5, 8, 13])
def test_every_released_number_of_groups_is_shipped(name, n_groups):
    groups = authors_groups(name, n_groups)
    assert groups.n_groups == n_groups
    assert groups.class_names == label_statistics(name).class_names


def test_the_authors_groups_follow_the_order_of_the_classes_at_hand():
    released = authors_groups("voc2007", 5)
    names = released.class_names[::-1]
    found = authors_groups_of(names, 5)
    assert found.class_names == names
    for view in ("co", "dc"):
        assert getattr(found, view)[::-1].tolist() == getattr(released, view).tolist()


@pytest.mark.parametrize(
    ("names", "n_groups", "message"),
    [(("cat", "dog"), 5, "voc2007 and coco2014 alone"), (None, 4, "not 4")],
)
def test_groups_that_the_authors_did_not_release_are_refused(names, n_groups, message):
    names = label_statistics("voc2007").class_names if names is None else names
    with pytest.raises(InputError, match=message):
        authors_groups_of(names, n_groups)


def test_counts_of_clothing_are_shipped_and_can_be_grouped():
    clothing = label_statistics("clothing")
    assert clothing.counts.shape == (47, 47)
    shoes = clothing.class_names.index("shoes")
    assert clothing.counts[shoes, shoes] <= clothing.n_images == 1498
    groups = group_labels(counts=clothing.counts, class_names=clothing.class_names)
    assert groups.n_classes == 47
    with pytest.raises(InputError, match="no groups of the authors for 'clothing'"):
        authors_groups("clothing", 5)


def test_shipped_counts_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        label_statistics("voc2007").counts[0, 0] = 1
