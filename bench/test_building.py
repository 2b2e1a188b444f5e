"""Time to prepare each workload: the factors of all points, and the cover tree, which a tree search alone needs."""

from covertreex.data.build import build_tree


def test_factors(benchmark, question):
    """`cover_tree`: inducing points, factors, residual variances."""
    benchmark.group = "factors"
    benchmark.extra_info.update(question.describe())
    tree = benchmark(question.workload.tree, question.tree.n_threads)
    assert len(tree) == len(question.workload.X)


def test_tree(benchmark, question):
    """The cover tree over the factors."""
    benchmark.group = "tree"
    tree = benchmark(build_tree, question.tree.payload, question.tree.n_threads)
    benchmark.extra_info.update(question.describe(), depth=tree.depth(), bytes=tree.nbytes)
    assert len(tree) == len(question.workload.X)
