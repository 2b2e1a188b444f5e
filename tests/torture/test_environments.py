"""The same bits, or a clear error, whatever the process and the machine around it are like."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import covertreex as cx

SEARCHES = Path(__file__).with_name("searches.py")
FLUSH = """
#include <xmmintrin.h>
void flush_to_zero(void) { _mm_setcsr(_mm_getcsr() | 0x8040); }
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="environments of Linux")
x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="states of an x86-64 processor")


def backends():
    return [info.name for info in cx.list_backends(load=True) if info.status == "ok"]


def others():
    """All but numba, which takes most of a minute where it can keep nothing that it compiled."""
    return [name for name in backends() if name != "numba"]


def answers(names, *options, before=(), python=(), asked=(), **environment):
    """Digests as searches.py prints them, all or of what is asked; an environment variable that is None is unset."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERTREEX_")}
    for name, value in environment.items():
        env.pop(name, None)
        if value is not None:
            env[name] = value
    options = [*options, *(word for profile in asked for word in ("--ask", profile))]
    chosen = [word for name in names for word in ("--backend", name)]
    command = [*before, sys.executable, *python, str(SEARCHES), *chosen, *options]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=600)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr[-3000:]}"
    assert done.stderr == "", done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found.pop("state"), "the state was not reached, so nothing was tested"
    return found


@pytest.fixture(scope="module")
def usual():
    """The digests in a plain process, of all backends."""
    return answers(backends())


def same(found, usual, errors=False):
    """Every search has the same bits; or, with `errors`, a clear error instead."""
    assert found
    other = {
        name: (value, usual[name])
        for name, value in found.items()
        if value != usual[name] and not (errors and value.startswith("refused: "))
    }
    assert not other, f"{len(other)} of {len(found)} searches differ:\n" + "\n".join(map(str, other.items()))


def test_usual_is_answered(usual):
    """Ordinary data is not refused, and backends have the same bits."""
    by_search = {}
    for name, value in usual.items():
        backend, search = name.split(": ", 1)
        by_search.setdefault(search, {})[backend] = value
        assert not value.startswith("warned"), (name, value)
        if not any(word in search for word in ("tiny", "subnormal")):
            assert not value.startswith("refused"), (name, value)
    for search, values in by_search.items():
        if not search.endswith(": fast"):
            assert len(set(values.values())) == 1, (search, values)


def test_usual_again(usual):
    same(answers(["cython"]), usual)


@pytest.fixture(scope="module")
def flushing(tmp_path_factory):
    """A library with a function that sets flush-to-zero, and one that -ffast-math makes set it as it is loaded."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("flush")
    source = folder / "flush.c"
    source.write_text(FLUSH)
    for name, flags in {"plain": [], "fast": ["-ffast-math"]}.items():
        subprocess.run(
            [compiler, "-O2", "-shared", "-fPIC", *flags, "-o", folder / f"{name}.so", source],
            check=True,
        )
    return folder


@x86
@pytest.mark.parametrize("when", ["first", "late"])
def test_flush_to_zero(flushing, usual, when):
    options = ("--state", "ftz", "--library", str(flushing / "plain.so"), "--when", when)
    same(answers(backends(), *options), usual, errors=True)


@x86
def test_a_library_compiled_with_fast_math(flushing, usual):
    try:
        found = answers(["cython"], "--state", "fastmath", "--library", str(flushing / "fast.so"))
    except AssertionError as error:
        if "the state was not reached" in str(error):
            pytest.skip("this compiler's -ffast-math leaves the processor's state alone in shared libraries")
        raise
    same(found, usual, errors=True)


@x86
@pytest.mark.parametrize("when", ["first", "late"])
@pytest.mark.parametrize("mode", ["upward", "downward", "zero"])
def test_rounding_modes(usual, mode, when):
    names = backends() if when == "late" else ["cython"]
    same(answers(names, "--state", mode, "--when", when), usual, errors=True)


@x86
@pytest.mark.parametrize("core", ["Nehalem", "Haswell", "SkylakeX"])
def test_kernels_of_blas(usual, core):
    needs = {"Nehalem": "sse4_2", "Haswell": "avx2", "SkylakeX": "avx512dq"}[core]
    flags = Path("/proc/cpuinfo").read_text().split()
    if needs not in flags:
        pytest.skip(f"this processor has no {needs}")
    same(answers(["cython"], OPENBLAS_CORETYPE=core), usual)


def test_decimal_comma(usual, tmp_path):
    compiler = shutil.which("localedef")
    if compiler is None or not Path("/usr/share/i18n/locales/de_DE").exists():
        pytest.skip("no localedef, or no source of the locale de_DE")
    made = subprocess.run(
        [compiler, "-i", "de_DE", "-f", "UTF-8", tmp_path / "de_DE.UTF-8"], capture_output=True, text=True
    )
    if not (tmp_path / "de_DE.UTF-8" / "LC_NUMERIC").exists():
        pytest.skip(f"localedef could not make de_DE.UTF-8: {made.stderr[-200:]}")
    environment = {"LOCPATH": str(tmp_path), "LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8"}
    same(answers(["cython"], "--state", "locale", **environment), usual)


def test_without_asserts_and_docstrings(usual):
    same(answers(others(), python=["-OO"]), usual)
    same(answers(["numba"], python=["-OO"], asked=["parity"]), usual)  # a search; below, a scan: it compiles each anew
    same(answers(["cython"], PYTHONOPTIMIZE="2"), usual)


def test_no_home(usual):
    same(answers(["cython"], HOME=None, XDG_CACHE_HOME=None), usual)
    same(answers(["cython"], HOME="/nonexistent", TMPDIR="/nonexistent", XDG_CACHE_HOME=None), usual)


def test_one_thread_of_openmp(usual):
    same(answers(["cython"], OMP_NUM_THREADS="1"), usual)
    same(answers(["cython"], OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="3"), usual)


def unshared(script):
    """Words that run a command in a mount namespace of its own, once `script` has changed it; skips where that is not
    allowed."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("no unshare")
    tried = subprocess.run([unshare, "-m", "sh", "-ec", script], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no mount namespace may be changed here: {tried.stderr.strip()[-200:]}")
    return [unshare, "-m", "sh", "-ec", script + '\nexec "$@"', "sh"]


READ_ONLY = """
mount --make-rprivate /
for at in $(awk '{ print $2 }' /proc/self/mounts | sort -r); do
    case $at in /proc*|/sys*|/dev*) continue ;; esac
    mount -o remount,bind,ro "$at"
done
! touch /tmp/covertreex-torture 2>/dev/null
"""


def test_read_only_file_system(usual):
    before = unshared(READ_ONLY)
    environment = {"HOME": "/nonexistent", "TMPDIR": "/nonexistent", "XDG_CACHE_HOME": None}
    same(answers(others(), before=before, **environment), usual)
    same(answers(["numba"], before=before, asked=["exact"], **environment), usual)


def test_no_shared_memory(usual):
    before = unshared("mount --make-rprivate /\nmount -t tmpfs -o ro none /dev/shm\n! touch /dev/shm/x 2>/dev/null")
    same(answers(backends(), before=before), usual)


@pytest.mark.parametrize("kibibytes", [64, 128, 256])
def test_small_stacks_of_threads(usual, kibibytes):
    same(answers(["cython"], "--state", f"stack{kibibytes}"), usual)


def test_a_small_stack(usual):
    same(answers(["cython"], before=["sh", "-c", 'ulimit -s 512; exec "$@"', "sh"]), usual)
