"""Commands of other packages: found by entry points, loaded when they are wanted, and in nobody's way when broken."""

import ast
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

import covertreex as cx
from covertreex.cli import app, plugins

MEASURING = ("bench", "cities", "gold", "parity", "report")


def run(*arguments, code=0):
    """Output of a command on a wide screen; it must end with exit code `code`."""
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "300"})
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that installs a distribution: a module of this text, and entry points."""

    def add(distribution, text, **commands):
        module = distribution.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(text)
        folder = tmp_path / f"{module}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"{name} = {module}:{target}" for name, target in commands.items()]
        (folder / "entry_points.txt").write_text("\n".join(["[covertreex.commands]", *lines, ""]))

    monkeypatch.syspath_prepend(tmp_path)
    yield add
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_own_commands_come_first_and_others_by_name():
    listed = [line.split()[1] for line in run("--help").splitlines() if line.startswith("│ ") and line[2].isalpha()]
    assert listed == ["neighbors", "backends", "doctor", *MEASURING]


def test_a_function_and_an_app_of_a_stranger(install):
    program = (
        "import typer\n"
        "def hello(name: str, loud: bool = False):\n"
        "    '''Greet somebody.'''\n"
        "    typer.echo(name.upper() if loud else name)\n"
        "many = typer.Typer(help='Several of them.')\n"
        "many.command('one')(hello)\n"
        "many.command('two')(hello)\n"
    )
    install("stranger-tools", program, hello="hello", many="many")
    output = run("--help")
    assert "Greet somebody." in output
    assert "Several of them." in output
    assert run("hello", "you", "--loud") == "YOU\n"
    assert run("many", "two", "you") == "you\n"
    assert "Greet somebody." in run("hello", "-h")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("other = 1", "AttributeError: "),
        ("lame = 5", "TypeError: "),
    ],
)
def test_a_broken_command_says_so_in_one_line_and_leaves_the_others(install, text, why):
    install("lame-tools", text, lame="lame")
    output = run("--help")
    (line,) = [line for line in output.splitlines() if "lame-tools" in line]
    assert line.startswith("│ lame")
    assert all(f"│ {name} " in output for name in ("neighbors", *MEASURING))
    said = run("lame", "--any", "thing", code=2)
    assert said.startswith("covertreex: the command lame of lame-tools cannot be loaded: ")
    assert why in said
    assert said.endswith("; reinstall lame-tools.\n")
    assert said.count("\n") == 1
    assert "Usage" in run("gold", "--help")


def test_a_name_that_two_claim_is_nobodys(install):
    install("one-tools", "def same(): ...", same="same")
    install("two-tools", "def same(): ...", same="same")
    assert "the command same is claimed by one-tools and two-tools; uninstall all but one." in run("same", code=2)


def test_own_commands_cannot_be_replaced(install):
    install("rude-tools", "def doctor():\n    '''Mine!'''", doctor="doctor")
    assert "Mine!" not in run("--help") + run("doctor", "--help")


def test_without_the_measuring_package_its_commands_are_not_there(monkeypatch):
    monkeypatch.setattr(plugins.metadata, "entry_points", lambda **wanted: ())
    output = run("--help")
    assert "neighbors" in output
    assert "parity" not in output
    assert "No such command 'gold'" in run("gold", code=2)


@pytest.mark.skipif(
    tuple(int(part) for part in metadata.version("typer").split(".")[:2]) < (0, 20),
    reason="typer suggests commands since its version 0.20",
)
def test_a_misspelt_command_of_another_package_is_suggested():
    assert "'parity'" in run("partiy", code=2)


def test_nothing_is_loaded_before_it_is_wanted(tmp_path):
    program = (
        "import sys, covertreex, covertreex.cli\n"
        "try: covertreex.cli.app(['--version'])\n"
        "except SystemExit: pass\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert not {name for name in done.stdout.split() if name.startswith("covertreex_bench")}


def test_the_library_does_not_know_the_measuring_package():
    """No module of it imports `covertreex_bench`, at the top or within a function."""
    for path in Path(cx.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.startswith("covertreex_bench")], path


@pytest.mark.parametrize("command", [["-m", "covertreex.cli", "backends"], ["-m", "covertreex.testing", "cython"]])
def test_the_library_works_without_the_measuring_package(command, tmp_path):
    (tmp_path / "covertreex_bench.py").write_text("raise ImportError('not installed')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
