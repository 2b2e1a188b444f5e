"""Plugins that misbehave: the rest stays usable, and the message names the distribution and what to do.

The distributions are real: a module beside a ``.dist-info`` directory with METADATA, RECORD and entry_points.txt, in a
directory on the path, is all that an installer leaves behind, and all that `importlib.metadata` looks at. Writing the
files takes milliseconds where pip takes seconds; one test has pip do it, to show that nothing is missing.
"""

import json
import os
import subprocess
import sys
import textwrap
from importlib import metadata

import pytest

#: A backend that works, by lending itself another's verbs.
GOOD = """
    from covertreex.protocols import Capabilities
    from covertreex_cython import CythonBackend

    class Backend(CythonBackend):
        name = "{name}"
        capabilities = Capabilities(summary="lent")

    backend = Backend()
"""

#: What every process asks of the registry, whatever is installed.
REPORT = """
    import json, sys
    import numpy as np
    import covertreex as cx

    def describe():
        report = {"backends": {}, "errors": {}, "answers": {}}
        tree = cx.cover_tree(np.arange(10.0)[:, None])
        for info in cx.list_backends():
            report["backends"].setdefault(info.name, []).append(
                [info.distribution, info.version, info.status, info.reason, info.traceback]
            )
        for name in [*report["backends"], None]:
            try:
                report["answers"][str(name)] = tree.search(1, [5], settings="parity", backend=name).backend
            except cx.BackendError as error:
                report["errors"][str(name)] = str(error)
        return report
"""


def install(site, distribution, module, source, *, name=None, version="1.0", target=None):
    """Put a distribution that offers a backend where Python finds it."""
    name = name or module
    (site / f"{module}.py").write_text(textwrap.dedent(source).replace("{name}", name))
    info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n",
        "entry_points.txt": f"[covertreex.backends]\n{name} = {target or module + ':backend'}\n",
        "INSTALLER": "pip\n",
        "RECORD": f"{module}.py,,\n" + "".join(f"{info.name}/{file},,\n" for file in ("METADATA", "entry_points.txt")),
    }
    for file, text in files.items():
        (info / file).write_text(text)


def python(site, code):
    """Run code, after `REPORT`, in a process that sees `site`; what it prints last, from JSON."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERTREEX_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    script = textwrap.dedent(REPORT) + "\n" + textwrap.dedent(code)
    run = subprocess.run([sys.executable, "-c", script], env=environment, text=True, capture_output=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def describe(site):
    """What `REPORT` says of the installed backends; the shipped ones must work."""
    report = python(site, "print(json.dumps(describe()))")
    assert_usable(report)
    return report


def assert_usable(report, without=()):
    """The shipped backends answer, by name and by default."""
    for name in {"cython", "numba"} - set(without):
        assert report["answers"][name] == name
    assert report["answers"]["None"] in {"cython", "rust", "numba"} - set(without)


def only(report, name):
    """The one listing of a backend, by field."""
    (listing,) = report["backends"][name]
    return dict(zip(("distribution", "version", "status", "reason", "traceback"), listing, strict=True))


@pytest.fixture
def site(tmp_path):
    """An empty directory on the path of `python`."""
    path = tmp_path / "site"
    path.mkdir()
    return path


def test_a_good_plugin_answers(site):
    install(site, "cx-good", "good", GOOD)
    report = describe(site)
    assert only(report, "good")["status"] == "ok"
    assert report["answers"]["good"] == "good"


def test_import_that_raises(site):
    install(site, "cx-torn", "torn", "raise OSError('libtorn.so.3: cannot open shared object file')")
    report = describe(site)
    listing = only(report, "torn")
    assert listing["status"] == "broken"
    for text in (listing["reason"], report["errors"]["torn"]):
        assert "cx-torn 1.0" in text
        assert "OSError: libtorn.so.3" in text
        assert "reinstall" in text
    assert "torn.py" in listing["traceback"]


@pytest.mark.parametrize(
    ("source", "target", "what"),
    [
        ("", "absent_module:backend", "ModuleNotFoundError"),
        ("", "torn:absent", "AttributeError"),
        ("def broken(:", "torn:backend", "SyntaxError"),
        ("import covertreex\ncovertreex.nothing_of_the_sort", "torn:backend", "AttributeError"),
    ],
    ids=["no module", "no object", "no Python", "other covertreex"],
)
def test_target_that_cannot_be_loaded(site, source, target, what):
    install(site, "cx-torn", "torn", source, target=target)
    report = describe(site)
    assert only(report, "torn")["status"] == "broken"
    assert f"cx-torn 1.0 cannot be imported: {what}" in report["errors"]["torn"]


def test_two_claim_one_name(site):
    install(site, "cx-first", "first", GOOD, name="same")
    install(site, "cx-second", "second", GOOD, name="same", version="2.0")
    report = describe(site)
    assert {(listing[0], listing[2]) for listing in report["backends"]["same"]} == {
        ("cx-first", "broken"),
        ("cx-second", "broken"),
    }
    for needed in ("cx-first", "cx-second", "uninstall"):
        assert needed in report["errors"]["same"]


def test_claim_on_a_shipped_name(site):
    install(site, "cx-usurper", "usurper", GOOD, name="cython")
    report = python(site, "print(json.dumps(describe()))")
    assert_usable(report, without=["cython"])
    for needed in ("covertreex", "cx-usurper", "uninstall"):
        assert needed in report["errors"]["cython"]


@pytest.mark.parametrize("version", [0, 1, 2, 4, "3", None])
def test_other_protocol_version(site, version):
    install(site, "cx-old", "old", GOOD + f"\n    Backend.protocol_version = {version!r}\n")
    report = describe(site)
    assert only(report, "old")["status"] == "broken"
    message = report["errors"]["old"]
    for needed in ("cx-old 1.0", f"protocol version {version!r}", "speaks 3", "matching versions"):
        assert needed in message


@pytest.mark.parametrize("verb", ["search", "scan"])
def test_lacks_a_verb(site, verb):
    install(site, "cx-mute", "mute", GOOD + f"\n    Backend.{verb} = None\n")
    report = describe(site)
    assert only(report, "mute")["status"] == "broken"
    assert "cx-mute 1.0" in report["errors"]["mute"]
    assert f"lacks the verb '{verb}'" in report["errors"]["mute"]


def test_lacks_capabilities(site):
    install(site, "cx-vague", "vague", GOOD + "\n    Backend.capabilities = {}\n")
    assert "cx-vague 1.0: its capabilities" in describe(site)["errors"]["vague"]


def test_name_and_entry_point_disagree(site):
    install(site, "cx-alias", "alias", GOOD.replace("{name}", "another"))
    report = describe(site)
    assert "another" not in report["backends"]
    for needed in ("cx-alias 1.0", "'another'", "'alias'", "make them equal"):
        assert needed in report["errors"]["alias"]


def test_installed_while_the_process_runs(site):
    python(
        site,
        f"""
        before = describe()
        assert "late" not in before["backends"]
        try:
            cx.get_backend("late")
        except cx.BackendError as error:
            assert "unknown backend 'late'" in str(error)
        sys.path.insert(0, {str(site.parent)!r})
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from pathlib import Path
        from test_registry_abuse import GOOD, install
        install(Path({str(site)!r}), "cx-late", "late", GOOD)
        assert "late" not in describe()["backends"]
        cx.refresh()
        assert describe()["answers"]["late"] == "late"
        print("null")
        """,
    )


def test_repaired_and_uninstalled_while_the_process_runs(site):
    install(site, "cx-torn", "torn", "raise OSError('torn')")
    python(
        site,
        f"""
        import shutil, textwrap
        from pathlib import Path
        site = Path({str(site)!r})
        assert "torn" in describe()["errors"]
        (site / "torn.py").write_text(textwrap.dedent({GOOD!r}).replace("{{name}}", "torn") + "# longer than before")
        assert "torn" in describe()["errors"]
        cx.refresh()
        assert describe()["answers"]["torn"] == "torn"
        shutil.rmtree(site / "cx_torn-1.0.dist-info")
        cx.refresh()
        assert "torn" not in describe()["backends"]
        print("null")
        """,
    )


def test_all_at_once(site):
    install(site, "cx-good", "good", GOOD)
    install(site, "cx-torn", "torn", "raise OSError('torn')")
    install(site, "cx-first", "first", GOOD, name="same")
    install(site, "cx-second", "second", GOOD, name="same")
    install(site, "cx-mute", "mute", GOOD + "\n    Backend.scan = None\n")
    report = describe(site)
    assert set(report["errors"]) == {"torn", "same", "mute"}
    assert {"good", "cython", "numba"} <= set(report["answers"])


def test_listing_imports_no_kernels(site):
    install(site, "cx-good", "good", GOOD)
    loaded = python(
        site,
        """
        cx.list_backends()
        print(json.dumps(["numba" in sys.modules, "covertreex._core.search" in sys.modules]))
        """,
    )
    assert loaded == [False, False]


@pytest.mark.slow
def test_installed_by_pip(site, tmp_path):
    try:
        recent = int(metadata.version("setuptools").split(".")[0]) >= 61
    except metadata.PackageNotFoundError:
        recent = False
    if not recent:
        pytest.skip("no setuptools here that can build a distribution")
    project = tmp_path / "project"
    project.mkdir()
    (project / "piped.py").write_text(textwrap.dedent(GOOD).replace("{name}", "piped"))
    (project / "pyproject.toml").write_text(
        textwrap.dedent(
            """
            [build-system]
            requires = ["setuptools>=61"]
            build-backend = "setuptools.build_meta"

            [project]
            name = "cx-piped"
            version = "1.0"

            [project.entry-points."covertreex.backends"]
            piped = "piped:backend"

            [tool.setuptools]
            py-modules = ["piped"]
            """
        )
    )
    command = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site), str(project)]
    subprocess.run([sys.executable, *command], check=True, timeout=300)
    report = describe(site)
    assert only(report, "piped")["distribution"] == "cx-piped"
    assert report["answers"]["piped"] == "piped"


@pytest.mark.parametrize(
    "source",
    [
        "import sys; sys.exit('no licence found')",
        GOOD + "\n    Backend.name = property(lambda self: 1 / 0)\n",
        GOOD + "\n    Backend.capabilities = property(lambda self: 1 / 0)\n",
    ],
    ids=["leaves Python", "no name to be had", "no capabilities to be had"],
)
def test_plugin_that_bites(site, source):
    install(site, "cx-viper", "viper", source)
    report = describe(site)
    assert only(report, "viper")["status"] == "broken"
    assert "cx-viper 1.0" in report["errors"]["viper"]
