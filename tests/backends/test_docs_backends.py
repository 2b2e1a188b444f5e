"""docs/backends.md takes a reader from nothing to a passing plugin: its commands all run, in a fresh environment."""

import os
import re
import shutil
import subprocess
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "backends.md"

#: The oldest setuptools that builds the template.
SETUPTOOLS = 77


def bash_blocks(text):
    """The fenced bash blocks of a Markdown text."""
    return re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def fresh_environment(path):
    """A virtual environment that sees what this one has installed, and whose own installations this one does not see.

    To build covertreex into it would take minutes, and is what CI begins with anyway.
    """
    venv.create(path, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "posix_prefix", vars={"base": str(path)}))
    seen = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    # Not plain paths: those are not searched for .pth files, by which editable installations are found.
    (site / "outside.pth").write_text("".join(f"import site; site.addsitedir({place!r})\n" for place in seen))
    for script in metadata.entry_points(group="console_scripts"):
        if script.name in ("covertreex", "pytest"):
            file = path / "bin" / script.name
            file.write_text(
                f"#!{path}/bin/python\nfrom {script.module} import {script.attr} as main\nraise SystemExit(main())\n"
            )
            file.chmod(0o755)
    return path / "bin"


def can_build_without_isolation():
    """Whether the setuptools that is here can build the template, so that none need be fetched."""
    try:
        return int(metadata.version("setuptools").split(".")[0]) >= SETUPTOOLS
    except metadata.PackageNotFoundError:
        return False


@pytest.mark.slow
def test_every_command_of_the_guide_runs(tmp_path):
    commands = fresh_environment(tmp_path / "venv")
    clone = tmp_path / "clone"
    shutil.copytree(
        ROOT / "backends" / "template",
        clone / "backends" / "template",
        ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"),
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COVERTREEX_", "PYTHON"))}
    environment |= {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "PIP_NO_DEPS": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    if can_build_without_isolation():
        environment["PIP_NO_BUILD_ISOLATION"] = "0"  # which is how pip spells that flag in the environment
    blocks = bash_blocks(GUIDE.read_text())
    run = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", "\n".join(blocks)],
        cwd=clone,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=900,
    )
    assert run.returncode == 0, run.stdout
    assert "covertreex-mine" in run.stdout
    assert re.search(r"backend 'mine': \d+ conformance checks ran in .*passed", run.stdout)
    assert "mine 1.0" in run.stdout
    assert not any(dist.name == "covertreex-mine" for dist in metadata.distributions())


def test_the_guide_has_commands():
    assert len(bash_blocks(GUIDE.read_text())) >= 6


def test_the_template_is_small():
    """Answers and counters in one file, screens in another."""
    files = list((ROOT / "backends" / "template" / "covertreex_template").glob("*.py"))
    assert len(files) == 2
    assert max(len(path.read_text().splitlines()) for path in files) < 200
