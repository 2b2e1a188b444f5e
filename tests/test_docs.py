"""The documentation: the site builds without a warning, and the examples and calls that it shows run."""

import contextlib
import importlib
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import cholesky, solve_triangular

import covertreex as cx
from covertreex._version import DISTRIBUTION

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GUIDE = ROOT / "docs" / "guide.md"
COORDINATES = ROOT / "docs" / "coordinates.md"
#: Pages with code in Python: all of them, but those whose code others run (test_docs_backends, test_persistence).
PAGES = [README] + [
    page
    for page in sorted((ROOT / "docs").glob("*.md"))
    if "\n```python\n" in page.read_text(encoding="utf-8") and page.name not in ("backends.md", "file-format.md")
]

#: Modules of extras that the code of a page needs.
MODULES_OF = {
    "coordinates.md": ("pandas",),
    "guide.md": ("sklearn", "matplotlib"),
    "concepts.md": ("matplotlib",),
    "dask.md": ("distributed",),
    "howto-frames.md": ("pandas", "polars", "pyarrow"),
    "howto-gpytorch.md": ("gpytorch",),
    "howto-stan.md": ("stan",),
}

#: Words of calls that need an extra, and its module.
NEEDS = {
    "cx.plot": "matplotlib",
    "covertreex.sklearn": "sklearn",
    "covertreex.dask": "distributed",
    "to_frame": "pandas",
    "to_arrow": "pyarrow",
}


def python_blocks(path):
    """The fenced Python blocks of a Markdown file: line of the first statement, text, and what it is said to print.

    A block of text right behind a block of Python is what that prints.
    """
    text = path.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, match.start(1)) + 1, match[1], match[2])
        for match in re.finditer(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", text, re.MULTILINE | re.DOTALL)
    ]


def close_pictures():
    """Those that pyplot keeps open, if there are any."""
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def calls():
    """What the third column of the README's table "What to call" names, row by row."""
    section = README.read_text(encoding="utf-8").split("\n## What to call\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [re.findall(r"`([^`]+)`", row.split("|")[3]) for row in rows]


@pytest.fixture(scope="module")
def names():
    """What the table's calls speak of."""
    rng = np.random.default_rng(0)
    X, kernel = rng.uniform(size=(800, 2)), cx.Matern32(lengthscale=0.2)
    Z = X[::10]
    L = cholesky(kernel(Z, Z) + 1e-6 * np.eye(len(Z)), lower=True)
    V = solve_triangular(L, kernel(Z, X), lower=True).T
    tree = cx.cover_tree(X, kernel=kernel, inducing=80)
    return {
        "cx": cx,
        "covertreex": cx,
        "X": X,
        "X_new": rng.uniform(size=(20, 2)),
        "kernel": kernel,
        "new_kernel": cx.Matern32(lengthscale=0.21),
        "y": rng.normal(size=800),
        "V": V,
        "p": np.maximum(kernel.variance - np.sum(V**2, axis=1), 1e-9),
        "tree": tree,
        "result": tree.search(k=30, predecessor_mode=True),
    }


def test_the_table_is_read():
    assert len(calls()) >= 15
    assert all(calls())


@pytest.mark.parametrize("row", calls(), ids=lambda row: row[0])
def test_calls_of_the_table(row, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    for call in row:
        if call.startswith("covertreex neighbors"):
            np.savetxt("points.csv", np.random.default_rng(0).normal(size=(200, 3)), delimiter=",", header="x,y,z",
                       comments="")  # fmt: skip
            done = subprocess.run([sys.executable, "-m", "covertreex.cli", *call.split()[1:]], capture_output=True)
            assert done.returncode == 0, done.stderr.decode()
            continue
        for word, module in NEEDS.items():
            if word in call:
                pytest.importorskip(module)
        for module in ("covertreex.sklearn", "covertreex.dask"):
            if module in call:
                importlib.import_module(module)
        eval(call, names)
    close_pictures()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning:torch", "ignore::FutureWarning:gpytorch")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_python_examples_run(path, tmp_path, monkeypatch):
    """Every block runs, prints what the page says, and draws what the page shows."""
    for module in MODULES_OF.get(path.name, ()):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    blocks = python_blocks(path)
    assert len(blocks) >= 2
    namespace = {"__name__": "example"}
    for line, block, expected in blocks:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            # Lines of a traceback are those of the file.
            exec(compile("\n" * (line - 1) + block, str(path), "exec"), namespace)
        if expected is not None:
            assert printed.getvalue() == expected, f"{path.name}, after line {line}"
    close_pictures()
    for picture in tmp_path.glob("*.png"):  # bytes 16 to 24 of a PNG are its width and height
        assert picture.read_bytes()[16:24] == (path.parent / picture.name).read_bytes()[16:24], picture.name


@pytest.mark.slow
def test_r_page_runs(tmp_path):
    """Where R and reticulate are, and reticulate knows this NumPy."""
    environment = {**os.environ, "RETICULATE_PYTHON": sys.executable}
    probe = ["Rscript", "--vanilla", "-e", "reticulate::r_to_py(matrix(c(1, 2), 1))"]
    if shutil.which("Rscript") is None or subprocess.run(probe, capture_output=True, env=environment).returncode:
        pytest.skip("needs R, and a reticulate that takes arrays of this NumPy")
    text = (ROOT / "docs" / "howto-r.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```r\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "page.R").write_text("\n".join(blocks))
    command = ["Rscript", "--vanilla", "page.R"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "recall 1 " in done.stdout
    (said,) = re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert said in done.stdout


def test_pages_are_read():
    """The pages whose code runs have code, and some say what it prints."""
    assert all(len(python_blocks(path)) >= 2 for path in PAGES)
    assert sum(expected is not None for path in PAGES for _, _, expected in python_blocks(path)) >= 3


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("sphinx", "myst_parser", "furo", "sklearn")),
    reason="needs the extra 'docs'",
)
def test_site_builds_without_warnings(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", tmp_path / "doctrees",
         ROOT / "docs", tmp_path / "site"],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (tmp_path / "site").glob("*.html"))
    missing = [name for name in cx.__all__ if f'id="covertreex.{name}"' not in pages]
    assert set(missing) <= {"oracle", "ordering", "outputs", "plot", "vecchia"}  # modules, whose ids have another form
    assert not [name for name in missing if f'id="module-covertreex.{name}"' not in pages]


@pytest.mark.slow
def test_commands_of_the_guide(tmp_path):
    """Commands on points.csv and the cities run; what they write is there."""
    np.savetxt(tmp_path / "points.csv", np.random.default_rng(0).normal(size=(200, 3)), delimiter=",", header="x,y,z",
               comments="")  # fmt: skip
    degrees = np.random.default_rng(1).uniform((-60, -180), (70, 180), size=(200, 2))
    np.savetxt(tmp_path / "cities.csv", degrees, delimiter=",", header="latitude,longitude", comments="")
    visits = np.column_stack([degrees[:, ::-1], np.arange(200) % 9])
    np.savetxt(tmp_path / "visits.csv", visits, delimiter=",", header="lon,lat,day", comments="")
    text = "".join(path.read_text(encoding="utf-8") for path in (GUIDE, COORDINATES))
    block = "".join(re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    for line in block.replace("\\\n", " ").splitlines():
        command, *arguments = line.split()
        assert command == "covertreex"
        done = subprocess.run([sys.executable, "-m", "covertreex.cli", *arguments], cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
    assert np.load(tmp_path / "neighbors.npz")["indices"].shape == (200, 30)


#: This project by its bare name after an installer's command; quotes and line ends of Python strings may stand between.
BY_NAME = re.compile(
    r"""\b(?:install|add|download)\b[\s"'f`]+(?:-{1,2}[\w-]+[\s"'f`]+)*"""
    r"""(?:covertreex|vecchia-neighbors)(?=[\s"'`\[=<>~!,;)]|$|\.\s)"""
)
INSTALLER = re.compile(r"\b(?:pip3?|pipx|uv|conda|mamba|poetry)\b[^\n]{0,20}$")


def tells_to_install_by_name(text):
    """Commands of `text` that install this project from an index."""
    found = [match for match in BY_NAME.finditer(text) if INSTALLER.search(text[: match.start()])]
    commands = [text[match.start() : match.end()] for match in found]
    return commands + re.findall(r"`(?:covertreex|vecchia-neighbors)\[.*?\]`", text)


def test_nobody_is_told_to_install_by_name():
    """On the public index `covertreex` is another project, and `vecchia-neighbors` not there yet (docs/name.md)."""
    folders = [ROOT / name for name in ("covertreex", "backends", "bench", "docs", "examples", ".ci", ".github")]
    paths = [path for folder in folders for path in folder.rglob("*") if "target" not in path.parts] + list(
        ROOT.glob("*.*")
    )
    paths = [
        path for path in paths if path.suffix in (".md", ".py", ".pyi", ".pyx", ".yml", ".yaml", ".toml", ".cff", "")
    ]
    texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in paths if path.is_file()}
    assert len(texts) > 150
    assert {str(path): found for path, text in texts.items() if (found := tells_to_install_by_name(text))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "pip install covertreex",
        "python -m pip install -U 'covertreex[bench]'",
        'run pip install "\n        "covertreex[bench]"',
        "uv pip install covertreex==0.1.",
        "uv add covertreex",
        "the extra `covertreex[bench]`",
        "pip install 'vecchia-neighbors[bench]'",
    ],
)
def test_what_tells_to_install_by_name_is_found(text):
    assert tells_to_install_by_name(text)


@pytest.mark.parametrize(
    "text", ['pip install ".[bench]"', "pip install ./covertreex-mine", "pip install dist/vecchia_neighbors-*.whl"]
)
def test_what_installs_from_a_folder_is_not(text):
    assert not tells_to_install_by_name(text)


def test_the_distribution_has_one_name():
    """That of pyproject.toml, where its extras name it too."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^name = "(.+)"$', project, re.MULTILINE)[1] == DISTRIBUTION
    assert set(re.findall(r'"([\w-]+)\[(?:cities|sklearn),?.*\]"', project)) == {DISTRIBUTION}
    assert f"\n  name: {DISTRIBUTION}\n" in (ROOT / "recipe" / "meta.yaml").read_text(encoding="utf-8")


def test_the_citation_has_the_version():
    assert f"\nversion: {cx.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_paper_is_what_its_journal_asks_for():
    """Sections and length that JOSS requires; every citation has its entry, and every entry is cited."""
    text = (ROOT / "paper.md").read_text(encoding="utf-8")
    body = text.split("\n---\n", 1)[1]
    sections = re.findall(r"^# (.+)$", body, re.MULTILINE)
    assert sections == [
        "Summary", "Statement of need", "State of the field", "Software design", "Research impact statement",
        "AI usage disclosure", "Acknowledgements", "References",
    ]  # fmt: skip
    assert 750 <= len(body.split()) <= 1750
    entries = re.findall(r"^@\w+\{(\w+),", (ROOT / "paper.bib").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(entries) == sorted(set(re.findall(r"@(\w+)", body)))
    pictures = re.findall(r"!\[.*?\]\((.+?)\)", body, re.DOTALL)
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)


def test_the_recipe_has_the_version_and_the_dependencies():
    recipe = (ROOT / "recipe" / "meta.yaml").read_text(encoding="utf-8")
    assert f'\n  version: "{cx.__version__}"\n' in recipe
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = re.findall(r'"([\w-]+)(>=[\d.]+)"', project.split("\ndependencies = [")[1].split("\n]")[0])
    assert len(wanted) >= 5
    renamed = {"xxhash": "python-xxhash"}
    run = recipe.split("\n  run:")[1].split("\ntest:")[0]
    assert [f"{renamed.get(name, name)} {least}" for name, least in wanted] == re.findall(r"- (?!python >)(.+)", run)


def test_sessions_of_nox_that_pages_name_exist():
    noxfile = (ROOT / "noxfile.py").read_text()
    sessions = set(re.findall(r"^@nox\.session(?:\(.*\))?\ndef (\w+)", noxfile, re.MULTILINE))
    versions = re.findall(r"3\.\d+", re.search(r"^PYTHONS = .*", noxfile, re.MULTILINE)[0])
    pages = [README, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), ROOT / "noxfile.py"]
    text = "\n".join(page.read_text("utf-8") for page in pages)
    named = set(re.findall(r"nox (?:--no-venv )?-s ([\w.-]*\w)", text))
    assert sessions <= named <= sessions | {f"tests-{version}" for version in versions}
