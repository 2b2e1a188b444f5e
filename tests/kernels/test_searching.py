"""Exact search finds the neighbours that dense linear algebra finds, whatever the kernel."""

import numpy as np
import pytest
from every import COMPOSED, EVERY, words

import covertreex as cx


@pytest.mark.parametrize("inducing", [None, 20])
@pytest.mark.parametrize("kernel", [*EVERY, *COMPOSED], ids=words)
def test_recall_is_one(kernel, inducing):
    rng = np.random.default_rng(2)
    X, new = rng.uniform(size=(250, 3)), rng.uniform(-0.2, 1.2, size=(25, 3))
    X[7] = X[5]
    tree = cx.cover_tree(X, kernel=kernel, inducing=inducing)
    truth = cx.oracle.DenseOracle(X, kernel=kernel, inducing=inducing)
    assert truth.recall(tree.knn(5)) == 1.0
    assert truth.recall(tree.knn(5, new), new) == 1.0
    assert truth.recall(tree.knn(5, predecessor_mode=True), predecessor_mode=True) == 1.0
