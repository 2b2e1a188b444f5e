"""What contributors run, by name: ``nox -s quick``. ``nox -l`` lists them.

Each session installs this folder into an environment of its own, which compiles for some minutes the first time.
``nox --no-venv -s quick`` uses the environment at hand instead. What decides is ``.ci/run``.
"""

import nox

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
