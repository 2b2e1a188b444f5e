"""Pictures show what there is: the data of what was drawn, not only that something was."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import covertreex as cx

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

GOLD = Path(__file__).parents[1] / "bench" / "results" / "gold.json"


@pytest.fixture
def ax():
    """Axes to draw in."""
    from matplotlib import pyplot

    figure, ax = pyplot.subplots()
    yield ax
    pyplot.close(figure)


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(5).uniform(size=(600, 2))


@pytest.fixture(scope="module")
def tree(X):
    return cx.cover_tree(X, kernel=cx.Matern32(lengthscale=0.2), inducing=30)


def labelled(ax, label):
    """What was drawn under a label."""
    (found,) = [artist for artist in ax.get_children() if artist.get_label() == label]
    return found


def drawn(ax, label):
    """Places (n, 2) of what was drawn under a label."""
    artist = labelled(ax, label)
    return np.asarray(artist.get_offsets() if hasattr(artist, "get_offsets") else artist.get_xydata())


class TestNeighbors:
    def test_the_point_its_neighbours_and_the_inducing_points_are_where_they_are(self, ax, tree, X):
        result = tree.search(k=12, queries=[40, 7])
        assert cx.plot.neighbors(tree, result, query=1, ax=ax) is ax
        assert drawn(ax, "the point").tolist() == [X[7].tolist()]
        assert np.array_equal(drawn(ax, "neighbours"), X[result.indices[1]])
        assert np.array_equal(drawn(ax, "inducing points"), tree.metric.inducing_points(X))
        assert np.array_equal(drawn(ax, "points"), X)
        assert np.all(
            np.abs(X[result.indices[1]] - X[7]) < np.array([np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())]) / 2
        )

    def test_the_field_is_the_residual_correlation(self, ax, tree, X):
        cx.plot.neighbors(tree, tree.search(k=5, queries=[7]), ax=ax)
        (image,) = ax.images
        left, right, below, above = image.get_extent()
        field = np.asarray(image.get_array())
        places = np.array([[0.2, 0.3], [0.5, 0.5], [0.9, 0.05]])
        cells = (places * len(field)).astype(int)
        centres = [left, below] + (cells + 0.5) / len(field) * [right - left, above - below]
        near = np.array([tree.oracle().closeness(centre[None])[0, 7] for centre in centres])
        assert np.allclose(field[cells[:, 1], cells[:, 0]], near, atol=1e-6)
        assert field.max() > 0.9  # at the point itself

    def test_columns_are_swapped_in_all_that_is_drawn(self, ax, tree, X):
        result = tree.search(k=5, queries=[7])
        cx.plot.neighbors(tree, result, columns=(1, 0), ax=ax)
        assert np.array_equal(drawn(ax, "neighbours"), X[result.indices[0]][:, ::-1])
        swapped = np.asarray(ax.images[0].get_array())
        ax.clear()
        cx.plot.neighbors(tree, result, ax=ax)
        assert np.allclose(swapped, np.asarray(ax.images[0].get_array()).T)

    def test_without_a_field_the_colour_is_the_correlation(self, ax):
        X = np.random.default_rng(1).uniform(size=(300, 3))
        tree = cx.cover_tree(X, kernel=cx.RBF(lengthscale=0.3))
        result = tree.search(k=6, queries=[3])
        cx.plot.neighbors(tree, result, columns=(2, 0), ax=ax)
        assert not ax.images
        assert np.array_equal(drawn(ax, "neighbours"), X[result.indices[0]][:, [2, 0]])
        assert np.array_equal(labelled(ax, "neighbours").get_array(), 1.0 - result.distances[0] ** 2)
        assert ax.get_xlabel() == "column 2"

    def test_euclidean_coordinates_and_names(self, ax):
        pandas = pytest.importorskip("pandas")
        table = pandas.DataFrame({"east": [0.0, 1.0, 5.0], "north": [0.0, 2.0, 5.0]})
        tree = cx.cover_tree(table)
        places = np.array([[4.0, 4.0], [0.5, 0.5]])
        cx.plot.neighbors(tree, tree.search(k=1, queries=places), query=1, points=places, ax=ax)
        assert drawn(ax, "the point").tolist() == [[0.5, 0.5]]
        assert drawn(ax, "neighbours").tolist() == [[0.0, 0.0]]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("east", "north")
        assert ax.get_title() == "query 1: 1 neighbour, distance 0.71 to 0.71"

    def test_rows_without_neighbours_and_deleted_points(self, ax, tree, X):
        fewer = tree.delete([3])
        cx.plot.neighbors(fewer, fewer.search(k=4, predecessor_mode=True), query=0, ax=ax)
        assert ax.get_title() == "row 0: 0 neighbours"
        assert len(drawn(ax, "points")) == len(X) - 1

    @pytest.mark.parametrize(
        ("asked", "given", "message"),
        [
            ({"queries": [7]}, {"query": 1}, "query must be a row of the answer, 0 to 0, got 1."),
            (
                {"queries": [7]},
                {"columns": (0, 2)},
                r"columns must be two of the points' columns, 0 to 1, got \(0, 2\)",
            ),
            ({"queries": [[0.5, 0.5]]}, {}, "about coordinates: give them, points=..."),
            ({"queries": [7]}, {"points": [[0.5, 0.5]]}, "leave out points"),
            (
                {"queries": [[0.5, 0.5]]},
                {"points": [[0.5, 0.5]] * 2},
                "points must be the 1 places that were asked for",
            ),
        ],
    )
    def test_errors_say_what_is_allowed(self, tree, asked, given, message):
        with pytest.raises(cx.InvalidInputError, match=message):
            cx.plot.neighbors(tree, tree.search(k=3, **asked), **given)


class TestCorrelation:
    def test_medians_are_those_of_the_pairs(self, ax, X):
        """Without inducing points both lines are the kernel; with them, what the oracle says."""
        kernel = cx.RBF(lengthscale=0.2, variance=3.0)
        tree = cx.cover_tree(X, kernel=kernel, inducing=30)
        cx.plot.correlation(tree, queries=len(X), ax=ax)
        by_kernel, left = labelled(ax, "kernel"), labelled(ax, "what inducing points leave")
        r = by_kernel.get_xdata()
        assert np.allclose(by_kernel.get_ydata(), np.exp(-0.5 * r**2), atol=0.03)
        apart = np.sqrt(np.sum((X[:, None] - X[None]) ** 2, axis=2)) / 0.2
        half = 0.5 * (r[1] - r[0])
        inside = (apart >= r[3] - half) & (apart < r[3] + half)
        inside[np.arange(len(X)), np.arange(len(X))] = False
        rho = tree.oracle().closeness(np.arange(len(X)))[inside]
        assert left.get_ydata()[3] == pytest.approx(np.median(rho), abs=1e-9)
        edge = labelled(ax, "80 % of pairs").get_paths()[0].vertices
        at = edge[np.isclose(edge[:, 0], r[3]), 1]
        assert [at.min(), at.max()] == pytest.approx(np.quantile(rho, [0.1, 0.9]).tolist(), abs=1e-9)

    def test_without_inducing_points_there_is_one_line(self, ax, X):
        cx.plot.correlation(cx.cover_tree(X, kernel=cx.RBF(0.2)), ax=ax)
        assert [line.get_label() for line in ax.lines] == ["kernel"]

    def test_factors_of_the_caller_and_deleted_points(self, ax, X):
        """Whatever the unit of the payload, the kernel's own correlation is between 0 and 1."""
        tree = cx.cover_tree(X, kernel=cx.RBF(0.2, variance=7.0), v_matrix=np.zeros((len(X), 1))).delete([0, 5])
        cx.plot.correlation(tree, ax=ax)
        assert np.allclose(ax.lines[0].get_ydata(), ax.lines[1].get_ydata(), atol=1e-9)

    @pytest.mark.parametrize(
        ("kernel", "given", "message"),
        [
            (None, {}, "correlation needs a tree with a kernel"),
            (cx.RBF(0.2), {"queries": 0}, "queries must be at least 1, got 0."),
            (cx.RBF(1e-9), {}, "the lengthscale is far below what lies between points"),
        ],
    )
    def test_errors_say_what_is_allowed(self, X, kernel, given, message):
        with pytest.raises(cx.InvalidInputError, match=message):
            cx.plot.correlation(cx.cover_tree(X, kernel=kernel), **given)


def test_in_degrees_are_counted(ax, tree, X):
    result = tree.search(k=6, predecessor_mode=True)
    cx.plot.in_degree(tree, result, ax=ax)
    counts = np.bincount(result.indices[result.indices >= 0], minlength=len(X))
    bars = {round(bar.get_x() + 0.5): bar.get_height() for bar in ax.patches}
    assert bars == {degree: np.sum(counts == degree) for degree in range(counts.max() + 1)}
    assert f"row {np.argmax(counts)} is a neighbour of {counts.max()} of 600 queries" == ax.get_title()
    assert ax.lines[0].get_xdata()[0] == counts.mean()


def test_deleted_rows_have_no_in_degree(ax, tree):
    fewer = tree.delete([1, 2])
    cx.plot.in_degree(fewer, fewer.search(k=6), ax=ax)
    assert sum(bar.get_height() for bar in ax.patches) == 598


class TestChangedRows:
    @pytest.fixture
    def found(self, tree):
        """Answers under three lengthscales, of which the second is the first."""
        trees = [tree.with_metric(cx.Matern32(lengthscale=step)) for step in (0.1, 0.1, 0.3)]
        return [one.search(k=6) for one in trees]

    def test_shares_are_those_of_changed_rows(self, ax, found):
        cx.plot.changed_rows(found, steps=["a", "b", "c"], ax=ax)
        changed = len(found[2].changed_rows(found[1]))
        assert changed > 0
        assert ax.lines[0].get_ydata().tolist() == [0.0, 100.0 * changed / 600]
        assert [label.get_text() for label in ax.get_xticklabels()] == ["b", "c"]

    def test_errors_say_what_is_allowed(self, found):
        with pytest.raises(cx.InvalidInputError, match=r"needs two answers or more.*got 1"):
            cx.plot.changed_rows(found[:1])
        with pytest.raises(cx.InvalidInputError, match="steps must name each of the 3 answers, got 2"):
            cx.plot.changed_rows(found, steps=[1, 2])


class TestRecall:
    def test_marks_are_at_times_and_recalls(self, ax):
        bench = json.loads(GOLD.read_text())
        cx.plot.recall(GOLD, series=1, ax=ax)
        rows = {row["row"]: row for row in bench["series"][1]["cases"][-1]["rows"]}
        assert len(rows) >= 4
        for name, row in rows.items():
            if row["kind"] == "limit":
                continue
            ((seconds, height),) = drawn(ax, name)
            assert seconds == row["seconds"]
            assert height == (0.4 if row["recall"] is None else cx.plot.height_of(row["recall"]))
        names = dict(zip(ax.get_yticks(), (label.get_text() for label in ax.get_yticklabels()), strict=True))
        assert names[cx.plot.height_of(0.999)] == "0.999"
        assert names[0.4] == "unknown"

    def test_errors_say_what_is_allowed(self, tmp_path):
        (tmp_path / "page.md").write_text("# Performance")
        with pytest.raises(cx.InvalidInputError, match=r"recall takes the JSON of covertreex bench; .*page.md is none"):
            cx.plot.recall(tmp_path / "page.md")
        with pytest.raises(cx.InvalidInputError, match="this is something else"):
            cx.plot.recall({"figures": []})
        with pytest.raises(cx.InvalidInputError, match=r"series must be one of the 2 questions with figures.* got 2"):
            cx.plot.recall(GOLD, series=2)


def test_axes_are_made_where_none_are_given(tree):
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    ax = cx.plot.in_degree(tree, tree.search(k=2))
    assert len(pyplot.get_fignums()) == len(before) + 1
    pyplot.close(ax.figure)


@pytest.mark.parametrize(("high", "labels"), [(60.0, "0.1 0.2 0.5 1 2 5 10 20 50"), (3000.0, "0.1 1 10 100 1000")])
def test_labels_of_seconds_do_not_run_into_each_other(ax, high, labels):
    cx.plot.seconds_axis(ax, "x")
    ax.set_xlim(0.07, high)
    ax.figure.canvas.draw()
    shown = [label for label in ax.get_xticklabels() if label.get_text() and 0.07 <= label.get_position()[0] <= high]
    assert " ".join(label.get_text() for label in shown) == labels
    boxes = [label.get_window_extent() for label in shown]
    assert all(before.x1 < after.x0 for before, after in pairwise(boxes))


def test_without_matplotlib_the_extra_is_named(tmp_path):
    """In an interpreter that cannot import it, everything else works."""
    program = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import covertreex as cx\n"
        "tree = cx.cover_tree([[0.0], [1.0]])\n"
        "cx.plot.in_degree(tree, tree.search(k=1))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert "plot.in_degree needs matplotlib, which cannot be imported" in done.stderr
    assert "pip install '.[plot]'" in done.stderr
