"""What contributors run, by name: ``nox -s quick``. ``nox -l`` lists them.

Each session installs this folder into an environment of its own, which compiles for some minutes the first time.
``nox --no-venv -s quick`` uses the environment at hand instead. What decides is ``.ci/run``.
"""

import nox

#: Those of the classifiers in pyproject.toml and of the hosted CI.
PYTHONS = ("3.10", "3.11", "3.12", "3.13")

nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["quick", "lint"]


def install(session: nox.Session, *extras: str) -> None:
    """This folder with extras, in place; nothing where the environment is not nox's own."""
    if session.virtualenv.is_sandboxed:
        session.install("-e", f".[{','.join(extras)}]" if extras else ".")


@nox.session
def quick(session: nox.Session) -> None:
    """Some tests of every room, in about a minute."""
    install(session, "test")
    session.run("python", "-m", "pytest", "-m", "quick", "-q", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, or those that are named behind ``--``."""
    install(session, "test", "docs")
    session.run("python", "-m", "pytest", "-n", "2", *session.posargs)


def tests_of(version: str) -> None:
    """A session ``tests-VERSION``: README's commands, small, on another Python; what else to run behind ``--``."""

    @nox.session(name=f"tests-{version}", python=version)
    def session_of_version(session: nox.Session) -> None:
        install(session, "test")
        session.run("covertreex", "doctor")
        session.run("covertreex", "gold", "--n", "2048", "--inducing", "64", "--queries", "64")
        session.run("python", "-m", "pytest", *(session.posargs or ["-q", "-m", "quick"]))


for version in PYTHONS:
    tests_of(version)


@nox.session
def coverage(session: nox.Session) -> None:
    """Which lines of Python the tests run, those in other processes too; some minutes more than the tests."""
    # Not by pytest-cov: covertreex is a plugin of pytest, and imported before that begins to count.
    install(session, "test")
    session.install("coverage>=7.10")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-q", "-n", "2", *session.posargs)
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report", "--skip-covered", "--sort=cover")


@nox.session
def lowest(session: nox.Session) -> None:
    """Quick tests with the oldest release of each dependency that pyproject.toml allows, those of extras too."""
    session.install("uv")
    found = f"{session.create_tmp()}/lowest.txt"
    session.run(
        *("uv", "pip", "compile", "-q", "--resolution", "lowest-direct", "--output-file", found, "pyproject.toml"),
        *("--extra", "test", "--python", session.virtualenv.interpreter or "python"),
    )
    session.install("-r", found)
    session.install("--no-deps", "-e", ".")
    session.run("covertreex", "doctor")
    old = ("-W", "ignore::DeprecationWarning")  # old releases use what newer ones beside them warn of
    session.run("python", "-m", "pytest", *old, *(session.posargs or ["-q", "-m", "quick"]))


@nox.session
def sanitizers(session: nox.Session) -> None:
    """All tests of the core under sanitizers, of which ``.ci/run`` runs a part: some six minutes."""
    install(session, "test", "lint")
    session.run("tests/torture/sanitize.sh", *session.posargs, external=True)


@nox.session(venv_backend="none")
def release(session: nox.Session) -> None:
    """The sdist and a wheel of this machine in dist, their metadata and contents checked, and the wheel installed."""
    session.run(".ci/wheel", *session.posargs, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """What ``.ci/run`` asks of the source."""
    install(session, "test", "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("cython-lint", "covertreex/_core")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """The pages as a site, in docs/_build; a warning fails."""
    install(session, "docs")
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build")


@nox.session
def bench(session: nox.Session) -> None:
    """A benchmark, small; another behind ``--``, as in ``nox -s bench -- rough --quick``."""
    install(session)
    session.run("python", "-m", "covertreex.cli", "bench", *(session.posargs or ["gold", "--quick", "--no-peers"]))


@nox.session
def rust(session: nox.Session) -> None:
    """The rust backend's own tests, clippy and format. Needs cargo."""
    session.chdir("backends/rust")
    session.run("cargo", "test", "--quiet", external=True)
    session.run("cargo", "clippy", "--quiet", "--all-targets", "--", "-D", "warnings", external=True)
    session.run("cargo", "fmt", "--check", external=True)
