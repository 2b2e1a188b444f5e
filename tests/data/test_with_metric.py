"""Another metric on the same points: the answers of a tree made afresh, by every backend; what changed is told."""

import numpy as np
import pytest
from ard import ARD

import covertreex as cx

N, D, K = 300, 5, 8


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(11)
    X = rng.normal(size=(N, D))
    X[40:60] = X[:20]
    return X


def residual(kernel, **change):
    return cx.ResidualCorrelation(kernel, **{"inducing": 25, "seed": 3, **change})


SHORT = (2.0, 0.5, 1.0, 0.3, 1.1)

CHANGES = {
    "lengthscales": (residual(cx.RBF(ARD)), cx.RBF(SHORT), residual(cx.RBF(SHORT))),
    "kernel": (residual(cx.RBF(ARD)), cx.Matern12(2.0, variance=3.0), residual(cx.Matern12(2.0, variance=3.0))),
    "to no screen": (residual(cx.RBF(ARD)), cx.RationalQuadratic(ARD), residual(cx.RationalQuadratic(ARD))),
    "inducing rows": (residual(cx.RBF(ARD), inducing=[7, 3]), cx.RBF(3.0), residual(cx.RBF(3.0), inducing=[7, 3])),
    "jitter": (residual(cx.RBF(ARD)), residual(cx.RBF(ARD), jitter=0.1), residual(cx.RBF(ARD), jitter=0.1)),
    "correlation": (cx.Correlation(cx.RBF()), cx.Matern32(ARD), cx.Correlation(cx.Matern32(ARD))),
    "from euclidean": (cx.Euclidean(), cx.Matern32(ARD), cx.Correlation(cx.Matern32(ARD))),
    "to euclidean": (residual(cx.RBF(ARD)), cx.Euclidean(), cx.Euclidean()),
    "to residual": (cx.Euclidean(), residual(cx.Matern52(ARD)), residual(cx.Matern52(ARD))),
}  # fmt: skip


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_answers_of_a_tree_made_afresh(X, change, built, backend):
    old, given, new = CHANGES[change]
    tree, fresh = cx.cover_tree(X, metric=old, n_threads=2), cx.cover_tree(X, metric=new, n_threads=2)
    if built:
        tree.tree.depth()
    before = tree.knn(K, backend="cython")
    shape = tree._state.built
    built = shape is not None  # Euclidean neighbours come from the tree
    other = tree.with_metric(given)
    points = X[:9] + 0.1
    for settings in ("exact", "parity", *(["gold"] if backend == "numba" else [])):
        for options in ({}, {"predecessor_mode": True}, {"queries": points}):
            found = other.knn(K, **options, settings=settings, backend=backend, n_threads=1, return_distances=True)
            expected = (
                fresh.knn(K, **options, settings=settings, backend="cython", return_distances=True)
                if settings != "gold"
                else fresh.knn(K, **options, backend="cython", return_distances=True)
            )
            np.testing.assert_array_equal(found[0], expected[0])
            np.testing.assert_array_equal(found[1], expected[1])
    assert other.payload.index is tree.payload.index
    other.check_invariants()
    assert other.tree.cover_metric is not built
    if built:
        for name in ("parent", "level", "child_ptr", "children"):
            np.testing.assert_array_equal(getattr(other.tree, name), getattr(shape, name))
    np.testing.assert_array_equal(tree.knn(K, backend="cython"), before)  # the old one is as it was


def test_factors_are_those_of_a_tree_made_afresh(X):
    tree = cx.cover_tree(X, metric=residual(cx.RBF(ARD))).with_metric(cx.Matern52(SHORT))
    fresh = cx.cover_tree(X, metric=residual(cx.Matern52(SHORT)))
    for name in ("coords", "factors", "p"):
        ours, theirs = getattr(tree.payload, name), getattr(fresh.payload, name)
        np.testing.assert_array_equal(ours[tree.payload.row], theirs[fresh.payload.row])


def test_there_and_back(X, tmp_path):
    tree = cx.cover_tree(X, metric=residual(cx.RBF(ARD)))
    tree.tree.depth()
    there = tree.with_metric(cx.Matern12(SHORT))
    back = there.with_metric(cx.RBF(ARD))
    np.testing.assert_array_equal(back.tree.parent_distance, tree.tree.parent_distance)
    np.testing.assert_array_equal(back.tree.si, tree.tree.si)
    there.check_invariants()
    there.save(tmp_path / "there")
    loaded = cx.load(tmp_path / "there")
    assert not loaded.tree.cover_metric
    loaded.check_invariants()
    np.testing.assert_array_equal(loaded.knn(K, settings="parity"), there.knn(K, settings="parity"))


def test_invariants_notice_damage(X):
    import dataclasses

    tree = cx.cover_tree(X, metric=cx.Euclidean())
    tree.tree.depth()
    other = tree.with_metric(cx.Matern12(SHORT))
    with pytest.raises(cx.InvariantError, match="T3"):  # a cover tree of the new metric it is not
        dataclasses.replace(other.tree, cover_metric=True).check_invariants(other.payload)
    with pytest.raises(cx.InvariantError, match="T5"):
        dataclasses.replace(other.tree, si=other.tree.si * 1.01).check_invariants(other.payload)
    with pytest.raises(cx.InvariantError, match="is not at the stored distance"):
        dataclasses.replace(other.tree, parent_distance=other.tree.parent_distance * 1.01).check_invariants(
            other.payload
        )


def test_supplied_factors(X):
    truth = cx.cover_tree(X, metric=residual(cx.Matern32(ARD))).oracle()
    other = cx.cover_tree(X, metric=residual(cx.Matern32(SHORT))).oracle()
    tree = cx.cover_tree(X, kernel=truth.kernel, v_matrix=truth.V, p_diag=truth.p)
    metric = cx.ResidualCorrelation(other.kernel, v_matrix=other.V, p_diag=other.p)
    np.testing.assert_array_equal(tree.with_metric(metric).knn(K), cx.cover_tree(X, metric=metric).knn(K))
    with pytest.raises(cx.InvalidInputError, match="v_matrix belong to their kernel; with_metric needs new ones"):
        tree.with_metric(cx.Matern32(SHORT))


def test_changed_rows(X):
    tree = cx.cover_tree(X, metric=residual(cx.Matern32(ARD)))
    first = tree.search(K, predecessor_mode=True)
    assert tree.with_metric(cx.Matern32(ARD)).search(K, predecessor_mode=True).changed_rows(first).size == 0
    second = tree.with_metric(cx.Matern32(SHORT)).search(K, predecessor_mode=True)
    expected = [i for i in range(N) if set(first.indices[i]) != set(second.indices[i])]
    assert 0 < len(expected) < N
    assert second.changed_rows(first).tolist() == expected
    assert second.changed_rows(first.indices[:, ::-1]).tolist() == expected
    with pytest.raises(cx.InvalidInputError, match=r"two answers to the same queries; .* \(300, 7\) and \(300, 8\)"):
        second.changed_rows(first.indices[:, 1:])


@pytest.mark.parametrize("metric", ["rbf", None, 1.0])
def test_bad_metric(X, metric):
    with pytest.raises(cx.InvalidInputError, match="with_metric takes a kernel, or a Euclidean"):
        cx.cover_tree(X).with_metric(metric)


def test_one_point(backend):
    tree = cx.cover_tree([[1.0]])
    tree.tree.depth()
    other = tree.with_metric(cx.RBF())
    other.check_invariants()
    assert other.knn(1, include_self=True, settings="parity", backend=backend).tolist() == [[0]]
