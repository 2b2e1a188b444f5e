"""What a person sees and gets: commands, files, exit codes."""

import contextlib
import csv
import gzip
import io
import json
import os
import re
import sys
import textwrap

import numpy as np
import plugins
import pytest
from plugins import GOOD
from typer.testing import CliRunner

import covertreex as cx
from covertreex import oracle
from covertreex.backends import registry
from covertreex.cli import app, display, doctor, probe
from covertreex.cli.neighbors import audit_answers
from covertreex.io import tables

SMALL = ["--n", "300", "--inducing", "20", "--queries", "40", "--k", "5", "--threads", "2"]


def run(*arguments, code=0):
    """Output of a command on a wide screen; it must end with exit code `code`."""
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False, env={"COLUMNS": "300"})
    assert result.exit_code == code, result.output
    return result.output


def figures_of(*arguments):
    """What a command writes to stdout, and nothing else does there (older releases of click do not keep them apart)."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
        app([*arguments, "--json", "-"], standalone_mode=False)
    return json.loads(out.getvalue())


@pytest.fixture
def points():
    return np.random.default_rng(5).normal(size=(80, 2))


# ---------------------------------------------------------------------------------------------------------------------
# backends, doctor


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A function that installs a backend where this process and those that it starts find it."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))

    def add(distribution, module, source):
        plugins.install(folder, distribution, module, source)
        registry.refresh()

    yield add
    monkeypatch.undo()
    registry.refresh()


def test_backends_lists_what_is_installed_and_what_is_broken(install):
    install(registry.BackendInfo("lame", "lame-dist", "3.1", "l:b", "broken", reason="it fell", traceback="Trace!"))
    output = run("backends", "--check", "--traceback")
    for text in (
        "lame-dist",
        "lame is broken: it fell.",
        "Trace!",
        "cython: protocol 4.",
        "levels L0, L1, L2",
        "numba",
    ):
        assert text in output
    assert "Trace!" not in run("backends", "--check")
    assert "covertreex: --traceback goes with --check" in run("backends", "--traceback", code=2)


def test_backends_loads_none_unless_told_to(site):
    site("cx-torn", "torn", "raise OSError('libtorn.so')")
    output = run("backends")
    assert "found" in next(line for line in output.splitlines() if line.startswith("torn"))
    assert "None was loaded; --check loads each" in output
    assert "torn is broken: cx-torn 1.0 cannot be imported: OSError: libtorn.so" in run("backends", "--check")


def info_of(name):
    """How a backend is listed."""
    (found,) = [info for info in registry.list_backends() if info.name == name]
    return found


@pytest.mark.parametrize(
    ("source", "how"),
    [
        ("import os; os.abort()", "its import ended the process, by signal 6"),
        ("import os; os._exit(3)", "its import ended the process, by exit code 3"),
        ("while True: pass", "its import did not end within 1 s"),
    ],
)
def test_a_backend_is_outlived(site, monkeypatch, source, how):
    site("cx-wild", "wild", source)
    monkeypatch.setattr(probe, "PATIENCE", 1.0 if "while" in source else 60.0)
    info, _ = probe.load(info_of("wild"))
    assert (info.name, info.status) == ("wild", "broken")
    assert info.reason == f"cx-wild 1.0: {how}; report it to its authors, or uninstall cx-wild"


def test_doctor_says_who_answers(site, monkeypatch):
    site("cx-sloth", "sloth", "import time; time.sleep(0.3)\n" + textwrap.dedent(GOOD))
    monkeypatch.setenv("COVERTREEX_BACKEND_PRIORITY", "sloth")
    monkeypatch.setenv("COVERTREEX_ENABLE_SLOTHS", "0")
    output = run("doctor")
    assert re.search(r"backend sloth +ok +cx-sloth 1\.0, protocol 4\.\d+, levels L0, L1, loaded in 0\.\d+ s", output)
    assert re.search(r"exact answers +ok .*decision by sloth \(L0\)", output)
    assert re.search(r"parity answers +ok +search by sloth \(L1\)", output)
    assert "first of all: sloth; COVERTREEX_ENABLE_SLOTHS=0 hides nothing: no such backend is installed" in output


def test_a_search_that_nobody_answers(site, monkeypatch):
    monkeypatch.setenv("COVERTREEX_BACKEND", "absent")
    ((profile, answered, why),) = probe.answers("exact")
    assert (profile, answered) == ("exact", False)
    assert "unknown backend 'absent'" in why
    site("cx-wild", "wild", "import os; os.abort()")
    monkeypatch.setenv("COVERTREEX_BACKEND", "wild")
    ((_, answered, why),) = probe.answers("exact")
    assert not answered
    assert why == "a search ended the process, by signal 6; `covertreex backends --check` shows which backend does that"


def test_a_frozen_program_looks_for_itself(monkeypatch):
    """It is no Python that could be started again."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert probe.load(info_of("cython"))[0].status == "ok"


def test_doctor_finds_nothing_wrong():
    output = run("doctor")
    for text in ("numpy BLAS", "cores", "instruction sets", "C rationalquadratic", "backend cython", "checks passed"):
        assert text in output


def test_doctor_notices_a_second_installation(tmp_path, monkeypatch):
    """As where this was installed by an earlier name, and again by the one that it has now."""
    for name in ("old-name", "older-name"):
        plugins.install(tmp_path, name, name.replace("-", "_"), "", name="cython", target="covertreex_cython:backend")
    monkeypatch.syspath_prepend(tmp_path)
    found = doctor._check_distribution()
    assert not found.passed
    assert re.search("old-name and older-name .*both installed.* Uninstall both, .*install again", found.detail)


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


def test_figures_for_programs(here, points):
    """--json, of every command that finds something out: to a file, or to stdout and nothing else there."""
    np.save("points.npy", points)
    asked = ["neighbors", "points.npy", "--metric", "euclidean", "-k", "3"]
    figures = figures_of(*asked)
    run(*asked, "--json", "figures.json")
    stored = json.loads((here / "figures.json").read_text())
    for name, value in {
        "read": 80, "used": 80, "rejected": [], "columns": ["0", "1"], "k": 3, "recall": 1.0, "checked": 80,
        "order": "given", "output": "points.neighbors.npz", "backend": "cython",
    }.items():  # fmt: skip
        assert figures[name] == stored[name] == value
    assert stored["seconds"]["search"] > 0.0
    assert figures_of(*asked, "--audit", "0")["recall"] is None
    backends = {backend["name"]: backend for backend in figures_of("backends")}
    assert backends["cython"]["status"] == "ok"
    assert "budget" in backends["cython"]["mechanisms"]
    report = figures_of("doctor")
    assert ["covertreex", cx.__version__] in report["facts"]
    assert all(check["passed"] for check in report["checks"])
    assert "there is no folder nowhere" in run(*asked, "--json", "nowhere/figures.json", code=2)


@pytest.mark.parametrize(
    ("line", "offered"), [("covertreex ne", "neighbors"), ("covertreex neighbors --pre", "--pred")]
)
def test_shells_complete(line, offered):
    shell = {"_COVERTREEX_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    result = CliRunner().invoke(app, [], prog_name="covertreex", env=shell)
    assert result.output.startswith(offered)


def test_ctrl_c_has_an_exit_code_of_its_own(monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "list_backends", interrupted)
    assert "Traceback" not in run("backends", code=130)


def test_version_and_help():
    assert cx.__version__ in run("--version")
    assert "Exit codes: 0 all is well; 1 what was checked is not right; 2" in run("--help")
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


def test_audit_sees_wrong_neighbors(points):
    tree = cx.cover_tree(points)
    indices = tree.knn(3)
    assert audit_answers(tree, indices, np.arange(80), sample=20)[::2] == (1.0, 20)
    recall, (low, high), checked = audit_answers(tree, np.roll(indices, 1, axis=0), np.arange(80))
    assert low < recall < high < 1.0
    assert checked == 80


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
        (["--lengthscale", "1", "--explain"], "rows looked at: all\n  way: all rows, 16 bits"),
    ],
)
def test_neighbors_metrics_and_searches(here, points, arguments, says):
    np.save("points.npy", points)
    output = run("neighbors", "points.npy", "-k", "3", "--threads", "1", *arguments)
    assert says in output
    assert "1.0 of 80 points" in output


@pytest.fixture
def visits(here, rng):
    """A file of visits of villages: latitude, longitude and day, some at one place."""
    lines = ["lat,lon,day"]
    for i in range(120):
        at = rng.integers(0, 40) / 2
        lines.append(f"{10 + at},{20 - 3 * at},{i % 9}")
    (here / "visits.csv").write_text("\n".join(lines))
    return np.array([[float(cell) for cell in line.split(",")] for line in lines[1:]])


def test_neighbors_of_places(here, visits):
    """Longitude and latitude, by option or as the first two columns, are one."""
    X = visits[:, [1, 0]]
    for arguments in (["--lat", "lat", "--lon", "lon"], ["--lonlat", "--columns", "lon,lat"]):
        output = run("neighbors", "visits.csv", *arguments, "-k", "4", "-o", "out.npz")
        assert "lon, lat, on a sphere of radius 1" in output
        assert "recall    1.0 of 120 points" in output
        tree = cx.cover_tree(X, kernel=cx.Matern32(0.05), inducing=30, lonlat=True)
        with np.load("out.npz") as found:
            assert np.array_equal(found["indices"], tree.knn(4))
    output = run("neighbors", "visits.csv", "--lat", "lat", "--lon", "lon", "--metric", "euclidean", "--radius", "6371",
                 "-k", "4", "--max-per-site", "1", "-o", "out.npz")  # fmt: skip
    assert "great circle, distances as chords" in output
    assert "the 4 nearest of all points, at most 1 at one place" in output
    assert "1.0 of 120 points" in output
    with np.load("out.npz") as found:
        tree = cx.cover_tree(X, lonlat=True, radius=6371.0)
        assert np.array_equal(found["distances"], tree.search(4, max_per_site=1).distances)


def test_neighbors_under_any_kernel(here, visits):
    output = run("neighbors", "visits.csv", "--columns", "lon,lat,day", "--lonlat", "--radius", "6371", "--kernel",
                 "rationalquadratic", "--param", "alpha=2", "--lengthscale", "300,3", "--noise", "0.2", "-k", "4", "-o",
                 "out.npz")  # fmt: skip
    assert "alpha=2.0, lonlat=6371.0), noise 0.2" in output.replace("\n", " ") or "noise 0.2" in output
    assert "1.0 of 120 points" in output
    kernel = cx.RationalQuadratic((300.0, 3.0), alpha=2.0)
    tree = cx.cover_tree(visits[:, [1, 0, 2]], kernel=kernel, inducing=30, noise=0.2, lonlat=True, radius=6371.0)
    with np.load("out.npz") as found:
        assert np.array_equal(found["indices"], tree.knn(4))
    output = run("neighbors", "visits.csv", "--active-dims", "day,0", "--lengthscale", "1,0.5;0,2", "--metric",
                 "correlation", "-k", "4", "-o", "out.npz")  # fmt: skip
    tree = cx.cover_tree(visits, kernel=cx.Matern32(((1.0, 0.5), (0.0, 2.0)), active_dims=[2, 0]))
    with np.load("out.npz") as found:
        assert np.array_equal(found["indices"], tree.knn(4))
    assert "points with neighbours at one distance" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lengthscale", "1", "--param", "nu"], "--param takes name=value, such as nu=0.8; got 'nu'."),
        (["--lengthscale", "1", "--param", "variance=2"], "variance has an option of its own"),
        (["--lengthscale", "1", "--param", "alpha=2", "--alpha", "2"], "alpha is given twice"),
        (["--lengthscale", "1", "--param", "zeal=2"], "no kernel has a parameter 'zeal'; those of matern32: none."),
        (
            ["--lengthscale", "1", "--active-dims", "z"],
            "--active-dims has 'z', but the columns that are used are lat, lon",
        ),
        (["--lengthscale", "1", "--noise", "-1"], "noise must be a variance, 0 or above"),
        (["--metric", "euclidean", "--noise", "1"], "--noise has no meaning with --metric euclidean"),
        (["--metric", "euclidean", "--radius", "1"], "--radius has no meaning without --lonlat"),
        (["--metric", "euclidean", "--max-per-site", "0"], "max_per_site must be an integer, 1 or above"),
        (["--lonlat"], "a kernel needs a lengthscale"),
        (["--lonlat", "--lat", "lat", "--lon", "lon"], "leave it out beside --lat and --lon"),
        (["--lonlat", "--columns", "lat"], "needs two columns, longitude and latitude"),
    ],
)
def test_mistakes_about_places_and_kernels(here, visits, arguments, message):
    output = run("neighbors", "visits.csv", *arguments, "-k", "3", code=2)
    assert message in output.splitlines()[-1]


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
        (["--lengthscale", "1", "--alpha", "2"], "alpha belongs to the kernels rationalquadratic"),
        (["--lengthscale", "1", "--jitter", "-1"], "jitter must be a finite number"),
        (["--metric", "euclidean", "-k", "81"], "k must be from 1 to 80"),
        (["--metric", "euclidean", "--backend", "nobody"], "unknown backend 'nobody'"),
        (["--metric", "euclidean", "--audit", "-1"], "audit must be a number of points"),
        (["--metric", "euclidean", "--seed", "-1"], "seed must be 0 or more"),
        (
            ["--metric", "euclidean", "-o", "out.xlsx"],
            "output must end in .npz or .csv or .parquet or .feather, got out.xlsx.",
        ),
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
    assert (table.read, table.rejected, table.columns) == (15, 12, ("lon", "lat"))
    first = {r.reason: (r.first_row, r.example) for r in table.rejections}
    assert first[tables.NOT_A_NUMBER] == (3, "lat = 'x1'")
    assert first[tables.BAD_LONGITUDE] == (9, "lon = 361")
    assert table.X.tolist() == [[2.0, 1.0], [8.0, 7.0], [360.0, -90.0]]


@pytest.mark.parametrize(
    "text",
    ["x,y\n1,2\n3,4\n", "1.0,2\n3,4",
     "\n \nx,y\n\n1,2\n\n3,4,\n","x;y\r\n1;2\r\n3;4\r\n", "x\ty\n1\t2\n3\t4\n", b"\xef\xbb\xbfx,y\n1,2\n3,4\n",
     "# by hand\n\n  #\nx,y\n1,2\n#5,6\n3,4\n", "x;y\n1,0;2\n3;4,00\n", "1,0;2,0\n3,0;4,0\n", "x\ty\n1,\t2\n+3\t,4e1\n",
     '"x","y"\n"1"," 2"\n3,4\n', b"x,y,\xe9\n1,2,\xe9\n3,4,\xe9\n"],
)  # fmt: skip
def test_text_files_come_in_many_shapes(here, text):
    columns = None if b"\xe9" not in (text if isinstance(text, bytes) else b"") else ["x", "y"]
    assert read(here, text, columns=columns).X.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_comments_and_decimal_commas_are_told(here):
    table = read(here, "# one\nx;y\n1,5;2\n# two\n#N/A;3\n3;4\n")
    assert table.header == (
        "the first row, which names the columns; numbers have decimal commas; 2 comment lines are no rows (the last: "
        "'# two')"
    )
    assert (table.rows.tolist(), table.rejections[0].example) == ([0, 2], "x = '#N/A'")
    table = read(here, "x;y;label\n1.5;2;1,5\n", columns=["x", "y"])  # what is no coordinate may look as it likes
    assert (table.X.tolist(), table.header) == ([[1.5, 2.0]], "the first row, which names the columns")


def test_packed_text(here):
    (here / "spots.csv.gz").write_bytes(gzip.compress(b"x,y\n0,1\n2,3\n5,5\n"))
    assert tables.read_points("spots.csv.gz").columns == ("x", "y")
    run("neighbors", "spots.csv.gz", "--metric", "euclidean", "-k", "1")
    assert (here / "spots.neighbors.npz").exists()


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_tables_of_arrow(here, points, suffix):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")

    def written(table, name):
        getattr(table, f"to_{suffix}")(name)
        return tables.read_points(name)

    table = pd.DataFrame(points, columns=["x", "y"])
    read = written(table, f"points.{suffix}")
    np.testing.assert_array_equal(read.X, points)
    assert read.columns == ("x", "y")
    if suffix == "parquet":  # its index is no coordinate
        assert written(table[::-1], "other.parquet").columns == ("x", "y")
    mixed = pd.DataFrame({"x": [0.5, 1.0, None], "n": pd.array([1, None, 3], "Int64"), "name": ["a", "b", "c"]})
    with pytest.raises(cx.InvalidInputError, match=r"column 'name' of .* no real numbers; name .* out of: x, n, name"):
        written(mixed, f"mixed.{suffix}")
    found = tables.read_points(f"mixed.{suffix}", columns=["n", "x"])
    assert (found.X.tolist(), found.rows.tolist()) == ([[1.0, 0.5]], [0])
    assert found.rejections == (tables.Rejection(tables.MISSING, 2, 1, "n is null"),)
    big = pd.DataFrame({"x": [2**53 + 1]})
    with pytest.raises(cx.InvalidInputError, match="would round: 9007199254740993 at row 0, column 'x'"):
        written(big, f"big.{suffix}")
    (here / f"bad.{suffix}").write_bytes(b"PAR1")
    with pytest.raises(cx.InvalidInputError, match=f"is not a readable {suffix} file"):
        tables.read_points(f"bad.{suffix}")
    with pytest.raises(cx.InvalidInputError, match=f"cannot read no.{suffix}: "):
        tables.read_points(f"no.{suffix}")

    run("neighbors", f"points.{suffix}", "--metric", "euclidean", "-k", "3", "-o", f"out.{suffix}")
    run("neighbors", f"points.{suffix}", "--metric", "euclidean", "-k", "3", "-o", "out.csv")
    pd.testing.assert_frame_equal(getattr(pd, f"read_{suffix}")(f"out.{suffix}"), pd.read_csv("out.csv"))


def test_neighbors_in_maximin_order(here, points, visits):
    """Distances of the order are in lengthscales, and on the sphere those of places."""
    np.save("points.npy", points)
    output = run("neighbors", "points.npy", "--lengthscale", "0.5,5", "--inducing", "8", "-k", "4", "--predecessors",
                 "--order", "maximin")  # fmt: skip
    assert "the 4 nearest of the points that come before, in maximin order" in output
    assert "recall    1.0 of 80 points" in output
    order = cx.ordering.maximin(points / [0.5, 5.0])
    tree = cx.cover_tree(points[order], kernel=cx.Matern32((0.5, 5.0)), inducing=8)
    with np.load("points.neighbors.npz") as found:
        assert np.array_equal(found["position"], np.argsort(order))
        assert np.array_equal(found["distances"][order], tree.search(4, predecessor_mode=True).distances)
    run("neighbors", "visits.csv", "--lat", "lat", "--lon", "lon", "-k", "3", "--order", "maximin", "-o", "out.npz",
        "--predecessors")  # fmt: skip
    with np.load("out.npz") as found:
        order = cx.ordering.maximin(tables.unit_vectors(visits[:, 0], visits[:, 1]))
        assert np.array_equal(found["position"], np.argsort(order))


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
        ("data.xlsx", "PK", "must end in one of .csv"),
        ("numbers.gz", "", "must end in one of .csv"),
        ("bare.npy.gz", "", "must end in one of .csv"),
        ("text.csv.gz", "x,y\n", "cannot read .*text.csv.gz: Not a gzipped file"),
        ("short.csv.gz", gzip.compress(b"x,y\n1,2\n", mtime=0)[:-9], "cannot read .*: Compressed file ended before"),
        ("remarks.csv", "# one\n# two\n", "has nothing but comments"),
        ("doubled.csv", "x,y,x\n1,2,3\n", "has 2 columns called 'x'. Rename one .*; or, .* with --columns"),
        ("both.csv", "x;y\n1,5;2.5\n", "decimal point, such as '2.5', and with a comma, such as '1,5', which may"),
        ("thousands.csv", "x;y\n1.000,5;2\n", "not a number: 1 .first row 0, x = '1.000,5'"),
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
# display


@pytest.mark.parametrize(("recall", "shown"), [(1.0, "1.0"), (1.0 - 1e-12, "0.999999"), (0.5, "0.500000")])
def test_a_recall_below_one_never_looks_like_one(recall, shown):
    assert display.share(recall) == shown
