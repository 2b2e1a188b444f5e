"""What a person sees and gets: commands, files, exit codes, and the comparison behind `covertreex gold`."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import covertreex as cx
from covertreex import compare, oracle, workloads
from covertreex.backends import registry, telemetry
from covertreex.cli import app, screen
from covertreex.io import tables
from covertreex.protocols import Capabilities

SMALL = ["--n", "300", "--inducing", "20", "--queries", "40", "--k", "5", "--threads", "2"]


def run(*arguments, code=0):
    """Output of a command on a wide screen; it must end with exit code `code`."""
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False, env={"COLUMNS": "300"})
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def points():
    return np.random.default_rng(5).normal(size=(80, 2))


@pytest.fixture
def install(monkeypatch):
    """A function that makes the registry find one more backend, instead of any of the same name."""

    def add(info, backend=None):
        others = [pair for pair in registry._load_all() if pair[0].name != info.name]
        monkeypatch.setattr(registry, "_load_all", lambda: [*others, (info, backend)])

    return add


class Liar:
    """The cython backend, but for what `spoil(out)` does to its answers."""

    name = "liar"
    protocol_version = 2
    capabilities = Capabilities(summary="not to be trusted")

    def __init__(self, spoil):
        self.spoil = spoil

    def search(self, tree, payload, queries, k, settings, out):
        cx.get_backend("cython").search(tree, payload, queries, k, settings, out)
        self.spoil(out)

    def scan(self, payload, plan, k, settings, out):
        cx.get_backend("cython").scan(payload, plan, k, settings, out)
        self.spoil(out)


def install_liar(install, spoil):
    info = registry.BackendInfo("liar", "lies", "0.1", "lies:backend", "ok", capabilities=Liar.capabilities)
    install(info, Liar(spoil))


# ---------------------------------------------------------------------------------------------------------------------
# gold


def test_gold_proves_that_all_rows_agree(here):
    output = run("gold", *SMALL, "--json", "gold.json", "--telemetry", "lines.jsonl")
    assert "All rows agree: recall 1.0, the same bits, the same counters under parity." in output
    found = json.loads((here / "gold.json").read_text())
    names = [f"{row['backend']}/{row['profile']}" for row in found["rows"]]
    assert names[:4] == ["numba/gold", "numba/parity", "cython/parity", "cython/exact"]
    assert all(row["recall"] == 1.0 and row["same_bits_as_first_row"] for row in found["rows"])
    parity = [row for row in found["rows"] if row["profile"] == "parity"]
    assert all(row["same_counters_as_first_parity_row"] for row in parity)
    assert parity[0]["counters"] == parity[1]["counters"]
    assert found["problems"] == []
    assert found["machine"]["threads"] == 2
    lines = [telemetry.check_line(line) for line in (here / "lines.jsonl").read_text().splitlines()]
    assert {(line["backend"], line["profile"]) for line in lines} == {tuple(name.split("/")) for name in names}


def test_gold_options_reach_the_search():
    arguments = ["--kernel", "matern12", "--lengthscale", "0.5,1,2", "--predecessors", "--repeat", "2"]
    output = run("gold", *SMALL, *arguments, "--rows", "cython/parity,cython/exact")
    assert "Matern12(lengthscale=(0.5, 1.0, 2.0), variance=1.0)" in output
    assert "predecessors" in output
    assert "medians of 2 runs" in output
    assert "same bits" in output


def test_gold_without_inducing_points():
    assert "All rows agree" in run("gold", *SMALL, "--inducing", "0", "--rows", "cython/parity,cython/exact")


def test_gold_json_on_stdout_is_nothing_but_json():
    """In a process of its own, so that stdout and stderr are what a pipe would see."""
    command = [sys.executable, "-m", "covertreex.cli", "gold", *SMALL, "--rows", "cython/parity", "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "80"})
    assert json.loads(done.stdout)["workload"]["n"] == 300
    assert "All rows agree: recall 1.0." in done.stderr
    assert max(map(len, done.stderr.splitlines())) <= 80


def test_gold_fails_where_bits_differ(install):
    def swap(out):
        out.indices[:, :2] = out.indices[:, 1::-1].copy()

    install_liar(install, swap)
    output = run("gold", *SMALL, "--rows", "cython/parity,liar/parity", code=1)
    assert "FAILED: liar/parity and cython/parity return different bits: query 0" in output
    assert "DIFFER" in output
    assert "agree" not in output


def test_gold_fails_where_recall_is_below_one(install):
    def forget(out):
        out.indices[0, -1], out.distances[0, -1] = -1, np.inf

    install_liar(install, forget)
    output = run("gold", *SMALL, "--rows", "liar/parity", code=1)
    assert "FAILED: liar/parity has recall 0.9" in output


def test_gold_fails_where_counters_differ(install):
    def miscount(out):
        out.counters[:, telemetry.COUNTERS.index("yields")] += 1

    install_liar(install, miscount)
    output = run("gold", *SMALL, "--rows", "cython/parity,liar/parity,liar/exact", code=1)
    assert "liar/parity and cython/parity count differently: block 0, yields" in output
    assert output.count("FAILED") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "cython"], "'cython' is no backend and profile; write backend/profile"),
        (["--rows", "cython/quick"], "one of gold, parity, exact"),
        (["--rows", "nobody/parity"], "unknown backend 'nobody'; installed: "),
        (["--rows", "cython/gold"], "the gold profile runs on the numba backend alone"),
        (["--k", "301"], "k must be from 1 to 300"),
        (["--n", "0"], "n must be an integer of at least 1, got 0."),
        (["--inducing", "301"], "inducing must be from 1 to n = 300 points, got 301."),
        (["--lengthscale", "wide"], "lengthscale must be a number, or numbers between commas; got 'wide'."),
        (["--lengthscale", "1,2"], "the kernel has 2 lengthscales, but the data has 3 columns."),
        (["--repeat", "0"], "repeat must be a number of runs, at least 1, got 0."),
        (["--threads", "0"], "n_threads must be a positive integer"),
        (["--json", "nowhere/gold.json"], "there is no folder nowhere"),
        (["--telemetry", "."], "it is a folder"),
        (["--kernel", "linear"], "linear"),
    ],
)
def test_gold_mistakes_are_one_line_and_exit_code_2(here, arguments, message):
    output = run("gold", *SMALL, "--rows", "cython/parity", *arguments, code=2)
    assert message in output
    assert "Traceback" not in output


def test_default_rows_leave_out_a_broken_rust_and_say_so(install):
    install(registry.BackendInfo("rust", "covertreex-rust", "0.1", "r:b", "broken", reason="no wheel"))
    contenders, notes = compare.default_contenders()
    assert {contender.backend for contender in contenders} == {"numba", "cython"}
    assert notes == ["rust is broken and left out: no wheel."]


# ---------------------------------------------------------------------------------------------------------------------
# compare


def test_difference_carries_both_answers_and_the_oracle(install):
    def spoil(out):
        out.distances[-1, 2] = np.nextafter(out.distances[-1, 2], 2.0)

    install_liar(install, spoil)
    workload = workloads.gold(n=200, queries=10, k=4, inducing=10)
    tree = workload.tree(1)
    contenders = compare.parse_contenders(["cython/parity", "liar/parity"])
    found = compare.compare(tree, workload.queries, 4, contenders, n_threads=1)
    assert [run.same_bits for run in found.runs] == [True, False]
    assert [run.same_counters for run in found.runs] == [True, True]
    (difference,) = found.differences
    truth, distances = tree.oracle().knn(4, workload.queries)
    position = difference.position
    assert difference.query == workload.queries[position]
    assert difference.neighbors == (truth[position, 2],) * 2
    assert difference.oracle_neighbor == truth[position, 2]
    assert difference.oracle_distance == pytest.approx(distances[position, 2], abs=1e-6)
    assert difference.oracle_distances == pytest.approx([distances[position, 2]] * 2, abs=1e-6)
    assert difference.distances[1] == np.nextafter(difference.distances[0], 2.0)
    assert f"query {position} (row {difference.query}), neighbour 3: cython/parity has" in str(difference)


def test_difference_of_euclidean_coordinates_and_short_rows(install):
    def forget(out):
        out.indices[0, -1], out.distances[0, -1] = -1, np.inf

    install_liar(install, forget)
    tree = cx.cover_tree([[0.0], [1.0], [3.0]])
    found = compare.compare(tree, [[0.4]], 2, compare.parse_contenders(["cython/parity", "liar/parity"]))
    (difference,) = found.differences
    assert difference.query == [0.4]
    assert difference.neighbors == (1, -1)
    assert difference.oracle_distances == pytest.approx((0.6, np.nan), nan_ok=True)


def test_repeated_runs_must_agree(install):
    turns = iter(range(100))

    def drift(out):
        out.distances[:] += next(turns)

    install_liar(install, drift)
    tree = cx.cover_tree([[0.0], [1.0], [3.0]])
    with pytest.raises(cx.BackendError, match="run 2 differently from run 1"):
        compare.compare(tree, np.arange(3), 1, compare.parse_contenders(["liar/parity"]), repeat=2)


def test_a_row_that_cannot_run_is_refused_before_any_work():
    tree = cx.cover_tree([[0.0], [1.0], [3.0]])
    with pytest.raises(cx.BackendError, match="nobody"):
        compare.compare(tree, np.arange(3), 1, compare.parse_contenders(["cython/parity", "nobody/parity"]))
    assert tree._tree is None


def test_audit_sees_wrong_neighbors(points):
    tree = cx.cover_tree(points)
    indices = tree.knn(3)
    assert compare.audit(tree, indices, np.arange(80), sample=20)[::2] == (1.0, 20)
    recall, (low, high), checked = compare.audit(tree, np.roll(indices, 1, axis=0), np.arange(80))
    assert low < recall < high < 1.0
    assert checked == 80


# ---------------------------------------------------------------------------------------------------------------------
# backends, doctor


def test_backends_lists_what_is_installed_and_what_is_broken(install):
    install(registry.BackendInfo("lame", "lame-dist", "3.1", "l:b", "broken", reason="it fell", traceback="Trace!"))
    output = run("backends", "--traceback")
    for text in ("cython", "numba", "lame-dist", "lame is broken: it fell.", "Trace!"):
        assert text in output
    assert "Trace!" not in run("backends")


def test_doctor_finds_nothing_wrong():
    output = run("doctor")
    for text in ("numpy BLAS", "cores", "instruction sets", "C rationalquadratic", "backend cython", "checks passed"):
        assert text in output


def test_doctor_notices_other_arithmetic(monkeypatch):
    """One operation that is rounded once instead of twice is what a contracting compiler would do."""
    exact = oracle.exp_neg
    monkeypatch.setattr(oracle, "exp_neg", lambda x: np.nextafter(exact(x), 1.0))
    output = run("doctor", code=1)
    assert "-ffp-contract=off" in output
    assert "checks failed" in output


def test_doctor_names_a_broken_plugin(install):
    install(registry.BackendInfo("lame", "lame-dist", "3.1", "l:b", "broken", reason="it fell"))
    output = run("doctor", code=1)
    assert "backend lame" in output
    assert "it fell" in output


def test_doctor_survives_a_wrong_environment(monkeypatch):
    monkeypatch.setenv("COVERTREEX_SPEED", "11")
    output = run("doctor", code=1)
    assert "COVERTREEX_SPEED=11" in output
    assert "unknown environment variable" in output
    assert "covertreex: unknown environment variable COVERTREEX_SPEED" in run("backends", code=2)


def test_version_and_help():
    assert cx.__version__ in run("--version")
    for command in ("gold", "neighbors", "cities", "backends", "doctor"):
        assert command in run("--help")
        assert "Usage" in run(command, "--help")


# ---------------------------------------------------------------------------------------------------------------------
# neighbors


def test_neighbors_of_an_array(here, points):
    np.save("points.npy", points)
    output = run("neighbors", "points.npy", "--kernel", "rbf", "--lengthscale", "0.7", "--inducing", "10", "-k", "4")
    assert "80 read, 80 used, 0 rejected" in output
    assert "recall    1.0 of 80 points" in output
    tree = cx.cover_tree(points, kernel=cx.RBF(lengthscale=0.7), inducing=10)
    indices, distances = tree.knn(4, return_distances=True)
    with np.load("points.neighbors.npz") as found:
        assert np.array_equal(found["indices"], indices)
        assert np.array_equal(found["distances"], distances)
        assert found["rows"].tolist() == found["position"].tolist() == list(range(80))


def test_neighbors_in_a_random_order_are_named_by_the_rows_of_the_file(here, points):
    lines = ["x,y,label", *(f"{x!r},{y!r},spot" for x, y in points.tolist())]
    lines.insert(3, "nan,1.0,bad")
    lines.insert(10, ",1.0,bad")
    (here / "spots.csv").write_text("\n".join(lines))
    run("neighbors", "spots.csv", "--columns", "x, y", "--lengthscale", "0.5,0.8", "--inducing", "8", "-k", "5",
        "--predecessors", "--order", "random", "--seed", "3", "-o", "out.csv")  # fmt: skip

    kept = np.delete(np.arange(82), [2, 9])
    place = np.random.default_rng(3).permutation(80)
    kernel = cx.Matern32(lengthscale=(0.5, 0.8))
    truth, _ = oracle.knn(points[place], 5, kernel=kernel, inducing=8, seed=3, predecessor_mode=True)
    expected = {
        int(kept[row]): [int(kept[place[j]]) if j >= 0 else -1 for j in truth[i]] for i, row in enumerate(place)
    }
    with open("out.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert [int(line["row"]) for line in found] == kept.tolist()
    position = {int(line["row"]): int(line["position"]) for line in found}
    for line in found:
        row = int(line["row"])
        neighbors = [int(line[f"neighbor_{i}"]) for i in range(1, 6)]
        assert neighbors == expected[row]
        assert all(position[j] < position[row] for j in neighbors if j >= 0)
        short = [line[f"distance_{i}"] == "inf" for i in range(1, 6)]
        assert short == [j == -1 for j in neighbors]


def test_neighbors_of_cities(here):
    run("cities", "--output", "all.csv")
    lines = (here / "all.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "name,latitude,longitude"
    (here / "some.csv").write_text("\n".join(lines[:301]), encoding="utf-8")
    output = run("neighbors", "some.csv", "--lat", "latitude", "--lon", "longitude", "--predecessors",
                 "--order", "random", "-k", "7", "--audit", "100")  # fmt: skip
    assert "300 read, 300 used" in output
    assert "lengthscale=0.05" in output
    assert "in a random order (seed 0)" in output
    assert "1.0 of 100 points" in output

    found = workloads.load_cities()
    order = np.random.default_rng(0).permutation(300)
    X = workloads.unit_vectors(found.latitude[:300], found.longitude[:300])[order]
    kernel = cx.Matern32(lengthscale=0.05)
    indices = cx.cover_tree(X, kernel=kernel, inducing=75).knn(7, predecessor_mode=True)
    with np.load("some.neighbors.npz") as file:
        assert np.array_equal(file["rows"][order], order)
        assert np.array_equal(file["indices"][order], np.where(indices >= 0, order[indices], -1))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--metric", "euclidean"], "Euclidean distance"),
        (["--metric", "correlation", "--lengthscale", "1"], "correlation, Matern32"),
        (["--lengthscale", "1", "--inducing", "0"], "no inducing points"),
        (["--lengthscale", "1"], "m = 20 inducing points"),
        (["--lengthscale", "1", "--kernel", "rationalquadratic", "--alpha", "2"], "alpha=2.0"),
        (["--lengthscale", "1", "--settings", "parity", "--backend", "cython"], "parity settings, backend cython"),
        (["--lengthscale", "1", "--variance", "2", "--jitter", "1e-4"], "jitter 0.0001"),
        (["--lengthscale", "1", "--explain"], "rows looked at: all\n  expected: all rows, float"),
    ],
)
def test_neighbors_metrics_and_searches(here, points, arguments, says):
    np.save("points.npy", points)
    output = run("neighbors", "points.npy", "-k", "3", "--threads", "1", *arguments)
    assert says in output
    assert "1.0 of 80 points" in output


def test_neighbors_without_an_audit(here, points):
    np.save("points.npy", points)
    assert "recall" not in run("neighbors", "points.npy", "--metric", "euclidean", "-k", "3", "--audit", "0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a kernel needs a lengthscale in the units of the data"),
        (["--metric", "euclidean", "--kernel", "rbf"], "--kernel has no meaning with --metric euclidean"),
        (["--metric", "correlation", "--inducing", "5"], "--inducing has no meaning with --metric correlation"),
        (["--lengthscale", "1", "--inducing", "-3"], "inducing must be a number of points, 0 or more, got -3."),
        (["--lengthscale", "1", "--inducing", "81"], "inducing must be from 1 to n = 80 points, got 81."),
        (["--lengthscale", "-1"], "lengthscale must be positive"),
        (["--lengthscale", "1", "--alpha", "2"], "alpha belongs to the kernel rationalquadratic"),
        (["--lengthscale", "1", "--jitter", "-1"], "jitter must be a finite number"),
        (["--metric", "euclidean", "-k", "81"], "k must be from 1 to 80"),
        (["--metric", "euclidean", "--backend", "nobody"], "unknown backend 'nobody'"),
        (["--metric", "euclidean", "--audit", "-1"], "audit must be a number of points"),
        (["--metric", "euclidean", "--seed", "-1"], "seed must be 0 or more"),
        (["--metric", "euclidean", "-o", "out.xlsx"], "output must end in .npz or .csv, got out.xlsx."),
        (["--metric", "euclidean", "-o", "nowhere/out.npz"], "there is no folder nowhere"),
        (["--metric", "euclidean", "--columns", "x"], "has no column 'x'; its columns are: 0, 1."),
        (["--metric", "euclidean", "--lat", "0"], "latitude and longitude go together"),
        (["--metric", "euclidean", "--lat", "0", "--lon", "1", "--columns", "0"], "not both"),
        (["--metric", "euclidean", "--array", "X"], "an array can be named in an .npz file only"),
    ],
)
def test_neighbors_mistakes_are_one_line_and_exit_code_2(here, points, arguments, message):
    np.save("points.npy", points)
    output = run("neighbors", "points.npy", *arguments, code=2)
    last = output.splitlines()[-1]
    assert last.startswith("covertreex: ")
    assert message in last
    assert not list(here.glob("*neighbors*"))


# ---------------------------------------------------------------------------------------------------------------------
# tables


def read(here, text, name="data.csv", **options):
    (here / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return tables.read_points(here / name, **options)


def test_every_rejected_row_is_counted_by_reason(here):
    text = """name,lat,lon
a,1,2
b,,2
c,NA,2
d,x1,2
e,1_0,2
f,nan,2
g,inf,2
h,1e200,2
i,91,2
j,1,361
k,1

l,5,6,7
l,x,6,,
m,7,8,,
n,-90,360
"""
    table = read(here, text, latitude="lat", longitude="lon")
    assert {r.reason: r.count for r in table.rejections} == {
        tables.MISSING: 3,
        tables.NOT_A_NUMBER: 3,
        tables.TOO_MANY: 1,
        tables.NAN: 1,
        tables.INFINITE: 1,
        tables.TOO_LARGE: 1,
        tables.BAD_LATITUDE: 1,
        tables.BAD_LONGITUDE: 1,
    }
    assert table.rows.tolist() == [0, 13, 14]
    assert (table.read, table.rejected, table.columns) == (15, 12, ("lat", "lon"))
    first = {r.reason: (r.first_row, r.example) for r in table.rejections}
    assert first[tables.NOT_A_NUMBER] == (3, "lat = 'x1'")
    assert first[tables.BAD_LONGITUDE] == (9, "lon = 361")
    np.testing.assert_allclose(table.X, workloads.unit_vectors([1, 7, -90], [2, 8, 360]))


@pytest.mark.parametrize(
    "text",
    ["x,y\n1,2\n3,4\n", "1.0,2\n3,4",
     "\n \nx,y\n\n1,2\n\n3,4,\n","x;y\r\n1;2\r\n3;4\r\n", "x\ty\n1\t2\n3\t4\n", b"\xef\xbb\xbfx,y\n1,2\n3,4\n",
     '"x","y"\n"1"," 2"\n3,4\n', b"x,y,\xe9\n1,2,\xe9\n3,4,\xe9\n"],
)  # fmt: skip
def test_text_files_come_in_many_shapes(here, text):
    columns = None if b"\xe9" not in (text if isinstance(text, bytes) else b"") else ["x", "y"]
    assert read(here, text, columns=columns).X.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_file_without_header_may_begin_with_a_missing_value(here):
    table = read(here, "1,NA\n3,4\n")
    assert (table.rows.tolist(), table.columns) == ([1], ("0", "1"))


HEADERS = {
    "pandas": (",x,y\n0,5,6\n1,7,8\n", {}, [[5, 6], [7, 8]], ("x", "y"), True),
    "pandas without names": (",0,1\n0,5,6\n1,7,8\n", {}, [[5, 6], [7, 8]], ("0", "1"), True),
    "pandas without names, one": (",0\n0,5\n1,7\n", {}, [[5], [7]], ("0",), True),
    "pandas, read and written": ("Unnamed: 0,x\n0,5\n1,7\n", {}, [[5], [7]], ("x",), True),
    "R": ('"","x","y"\n"1",5,6\n"2",7,8\n', {}, [[5, 6], [7, 8]], ("x", "y"), True),
    "named all the same": (",x,y\n0,5,6\n1,7,8\n", {"columns": ["y"]}, [[6], [8]], ("y",), False),
    "index by name": (",x\n3,5\n9,7\n", {"columns": ["x"]}, [[5], [7]], ("x",), False),
    "numbers as names": ("0,1\n5,6\n", {"header": True}, [[5, 6]], ("0", "1"), False),
    "numbers as a point": ("0,1\n5,6\n", {"header": False}, [[0, 1], [5, 6]], ("0", "1"), False),
    "index as a point": (",0,1\n0,5,6\n", {"header": False, "columns": ["1", "2"]}, [[0, 1], [5, 6]], ("1", "2"),
                         False),
    "words as a point": ("x,y\n5,6\n", {"header": False}, [[5, 6]], ("0", "1"), False),
    "falling": ("3,1\n5,6\n", {}, [[3, 1], [5, 6]], ("0", "1"), False),
    "decimals": ("0.0,1\n5,6\n", {}, [[0, 1], [5, 6]], ("0", "1"), False),
    "negative": ("-1,1\n5,6\n", {}, [[-1, 1], [5, 6]], ("0", "1"), False),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADERS)
def test_what_the_first_row_and_column_are(here, case):
    text, options, X, columns, left_out = HEADERS[case]
    table = read(here, text, **options)
    assert (table.X.tolist(), table.columns, bool(table.index)) == (X, columns, left_out)
    assert table.header


@pytest.mark.parametrize(
    "text",
    ["0,1\n5,6\n", "0\n5\n", "1,2\n5,6\n", "1990,1995,2000\n5,6,7\n", ",0,1\n7,5,6\n", "0;1\n5;6\n", '"0","1"\n5,6'],
)
def test_numbers_that_may_be_names_are_refused(here, text):
    with pytest.raises(cx.InvalidInputError, match=r"may be a point or the names.*--no-header.*--header.*--columns"):
        read(here, text)


def test_pandas_and_r_write_what_is_read(here, points):
    pd = pytest.importorskip("pandas")
    for table in (pd.DataFrame(points), pd.DataFrame(points, columns=["x", "y"])):
        table.to_csv("pandas.csv")
        np.testing.assert_array_equal(tables.read_points("pandas.csv").X, points)
        pd.read_csv("pandas.csv").to_csv("again.csv", index=False)
        np.testing.assert_array_equal(tables.read_points("again.csv").X, points)
        table.to_csv("bare.csv", index=False)
        np.testing.assert_array_equal(tables.read_points("bare.csv", header=True).X, points)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x;y\n1,5;2,5\n", "not a number: 1 .first row 0, x = '1,5'"),
        ("1,5;2,5\n3,5;4,5\n", "none of the 1 rows"),
        ("x\n1,5\n", "more cells than columns: 1"),
        ("x,y\n1 000,2\n", "not a number: 1"),
        ("x,y\n0x10,2\n", "not a number: 1"),
        ("x,y,\n1,2,\n", "column 2 of .* has no name"),
        ("x,y\n9007199254740993,2\n", "would round: 9007199254740993 at row 0, column 'x'. Subtract an offset"),
        ("x,y\n1,2\n3,-1700000000000000001\n", "would round: -1700000000000000001 at row 1, column 'y'"),
        ("x,y\n1,2\n3,1" + "0" * 5000 + "\n3,nan\n", "x"),
    ],
)
def test_cells_that_are_read_by_nobody_as_meant(here, text, message):
    if "0" * 5000 in text:  # too large for float64, and for int() of a text
        assert {r.reason for r in read(here, text).rejections} == {tables.INFINITE, tables.NAN}
        return
    with pytest.raises(cx.InvalidInputError, match=message):
        read(here, text)


def test_large_integers_that_float64_holds(here):
    assert read(here, "x,y\n9007199254740992,1e30\n1152921504606846976, 2\n").X[:, 0].tolist() == [2.0**53, 2.0**60]


def test_integers_of_an_array_file_keep_their_digits(here):
    np.save("times.npy", np.array([[0, 1], [2, 2**53 + 1]]))
    with pytest.raises(cx.InvalidInputError, match=r"times\.npy has integers.*9007199254740993 at row 1, column 1"):
        tables.read_points("times.npy")


def test_a_header_is_for_text_files(here, points):
    np.save("points.npy", points)
    with pytest.raises(cx.InvalidInputError, match=r"only a text file .* may have a header, and points.npy is none"):
        tables.read_points("points.npy", header=True)


def test_neighbors_say_what_was_taken_for_what(here):
    (here / "data.csv").write_text(",0,1\n" + "".join(f"{i},{i * 0.5},{i * i}\n" for i in range(6)))
    output = run("neighbors", "data.csv", "--metric", "euclidean", "--k", "1")
    assert "header: the first row, which names the columns" in output
    assert "coordinates: 0, 1" in output
    assert "left out: the first column, which has no name and counts the rows" in output
    assert "6 read, 6 used" in output
    (here / "bare.csv").write_text("0,1\n" + "".join(f"{i * 0.5},{i * i}\n" for i in range(6)))
    assert "Say which: --no-header" in run("neighbors", "bare.csv", "--metric", "euclidean", "--k", "1", code=2)
    assert "6 read" in run("neighbors", "bare.csv", "--metric", "euclidean", "--k", "1", "--header")
    assert "7 read" in run("neighbors", "bare.csv", "--metric", "euclidean", "--k", "1", "--no-header")


def test_one_column(here):
    table = read(here, "x\n1\n\n3\n")
    assert table.X.tolist() == [[1.0], [3.0]]
    assert table.rows.tolist() == [0, 2]


def test_columns_are_taken_in_the_order_asked_for(here):
    assert read(here, "x,y,z\n1,2,3\n", columns=["z", "x"]).X.tolist() == [[3.0, 1.0]]


def test_arrays_of_an_npz_file(here):
    path = here / "many.npz"
    np.savez(path, a=np.ones((2, 2)), b=np.arange(3))
    assert tables.read_points(path, array="b").X.tolist() == [[0.0], [1.0], [2.0]]
    with pytest.raises(cx.InvalidInputError, match="holds several arrays; name one; its arrays are: a, b"):
        tables.read_points(path)
    with pytest.raises(cx.InvalidInputError, match="has no array 'c'"):
        tables.read_points(path, array="c")
    np.savez(path, only=np.array([[1.0, np.nan], [3.0, 4.0]]))
    table = tables.read_points(path)
    assert (table.rows.tolist(), table.rejections[0].reason) == ([1], tables.NAN)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("empty.csv", "", "is empty"),
        ("header.csv", "x,y\n", "none of the 0 rows"),
        ("words.csv", "name,x\nOslo,1\n", "not a number: 1 .first row 0, name = 'Oslo'"),
        ("twice.csv", "x,x\n1,2\n", "more than one column 'x'"),
        ("unnamed.csv", ",x\n7,1.5\n", "column 0 of .* has no name; name the columns .* out of: x"),
        ("nul.npy", "no array", "is not a readable NumPy file"),
        ("nul.npz", "no array", "is not a readable NumPy file"),
        ("data.parquet", "PAR1", "must end in one of .csv"),
    ],
)
def test_unreadable_files(here, name, text, message):
    options = {"columns": ["x"]} if name == "twice.csv" else {}
    with pytest.raises(cx.InvalidInputError, match=message):
        read(here, text, name, **options)


def test_a_missing_file(here):
    for name in ("no.csv", "no.npy", "no.npz"):
        with pytest.raises(cx.InvalidInputError, match=f"cannot read {name}: No such file"):
            tables.read_points(name)


@pytest.mark.parametrize(
    "array", [np.array([["a"]]), np.ones((2, 2, 2)), np.ones((2, 2), dtype=complex), np.float64(1)]
)
def test_arrays_that_are_no_points(here, array):
    np.save("odd.npy", array)
    with pytest.raises(cx.InvalidInputError, match=r"must hold an array of real numbers, shape \(n, d\)"):
        tables.read_points("odd.npy")


def test_objects_are_not_unpickled(here):
    np.save("odd.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(cx.InvalidInputError, match="not a readable NumPy file"):
        tables.read_points("odd.npy")


def test_an_interrupted_write_leaves_what_was_there(here):
    def interrupted():
        with tables.replacing("out.txt") as file:
            file.write("half")
            raise KeyboardInterrupt

    (here / "out.txt").write_text("before")
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (here / "out.txt").read_text() == "before"
    assert [path.name for path in here.iterdir()] == ["out.txt"]


def test_devices_are_written_to_and_not_replaced():
    with tables.replacing(os.devnull) as file:
        file.write("gone")
    assert not os.path.isfile(os.devnull)


# ---------------------------------------------------------------------------------------------------------------------
# screen


@pytest.mark.parametrize(("recall", "shown"), [(1.0, "1.0"), (1.0 - 1e-12, "0.999999"), (0.5, "0.500000")])
def test_a_recall_below_one_never_looks_like_one(recall, shown):
    assert screen.share(recall) == shown


def test_approximate_rows_may_have_a_recall_below_one():
    settings = cx.PARITY.replace(budget_schedule=(8,))
    workload = workloads.gold(n=200, queries=10, k=4, inducing=10)
    contender = replace(compare.parse_contenders(["cython/parity"])[0], settings=settings)
    found = compare.compare(workload.tree(1), workload.queries, 4, [contender])
    assert found.runs[0].recall < 1.0
    assert found.problems == []
