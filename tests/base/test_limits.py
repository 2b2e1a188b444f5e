"""What control groups grant, read from a made-up file system."""

import re
from pathlib import Path

import pytest

import covertreex
from covertreex.base import limits

GIB = 2.0**30


def made(folder, cgroup, **files):
    """A file system with these files, whose names have __ for a slash."""
    for name, text in {"proc__self__cgroup": cgroup, **files}.items():
        path = folder / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(folder)


TOP = "sys__fs__cgroup__"
QUOTAS = {
    "nothing": ("", {}, limits.NO_LIMIT),
    "no limit": ("0::/\n", {f"{TOP}cpuDOTmax": "max 100000\n"}, limits.NO_LIMIT),
    "container": ("0::/\n", {f"{TOP}cpuDOTmax": "150000 100000\n"}, 1.5),
    "a quota under one": ("0::/\n", {f"{TOP}cpuDOTmax": "50000 100000\n"}, 0.5),
    "no period": ("0::/\n", {f"{TOP}cpuDOTmax": "50000\n"}, limits.NO_LIMIT),
    "damaged": ("0::/\nnonsense\n", {f"{TOP}cpuDOTmax": "a b c\n"}, limits.NO_LIMIT),
    "path of the host": ("0::/docker/abc\n", {f"{TOP}cpuDOTmax": "300000 100000\n"}, 3.0),
    "path outside": ("0::/../../x\n", {f"{TOP}x__cpuDOTmax": "300000 100000\n"}, 3.0),
    "a parent is stricter": (
        "0::/a/b\n", {f"{TOP}a__cpuDOTmax": "200000 100000\n", f"{TOP}a__b__cpuDOTmax": "400000 100000\n"}, 2.0,
    ),
    "a child is stricter": (
        "0::/a/b\n", {f"{TOP}a__cpuDOTmax": "400000 100000\n", f"{TOP}a__b__cpuDOTmax": "200000 100000\n"}, 2.0,
    ),
    "version 1": (
        "5:memory:/x\n4:cpu,cpuacct:/x\n",
        {f"{TOP}cpu,cpuacct__x__cpuDOTcfs_quota_us": "250000\n",
         f"{TOP}cpu,cpuacct__x__cpuDOTcfs_period_us": "100000\n"},
        2.5,
    ),
    "version 1 without limit": (
        "4:cpu,cpuacct:/\n",
        {f"{TOP}cpu__cpuDOTcfs_quota_us": "-1\n", f"{TOP}cpu__cpuDOTcfs_period_us": "100000\n"},
        limits.NO_LIMIT,
    ),
    "both versions": (
        "4:cpu,cpuacct:/\n0::/y\n",
        {f"{TOP}unified__y__cpuDOTmax": "500000 100000\n",
         f"{TOP}cpu__cpuDOTcfs_quota_us": "400000\n", f"{TOP}cpu__cpuDOTcfs_period_us": "100000\n"},
        4.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("cgroup", "files", "expected"), QUOTAS.values(), ids=QUOTAS)
def test_quota_of_control_groups(cgroup, files, expected, tmp_path):
    assert limits.cpu_quota(made(tmp_path, cgroup, **files)) == expected


MEMORY = "MemTotal: 9999999 kB\nMemAvailable: 4194304 kB\n"
MEMORIES = {
    "machine": ("", {}, 4 * GIB),
    "no limit": ("0::/\n", {f"{TOP}memoryDOTmax": "max\n", f"{TOP}memoryDOTcurrent": "5\n"}, 4 * GIB),
    "container": (
        "0::/\n",
        {f"{TOP}memoryDOTmax": f"{3 * 2**30}\n", f"{TOP}memoryDOTcurrent": f"{2 * 2**30}\n",
         f"{TOP}memoryDOTstat": f"anon 7\ninactive_file {2**29}\n"},
        1.5 * GIB,
    ),
    "over its limit": ("0::/\n", {f"{TOP}memoryDOTmax": "5\n", f"{TOP}memoryDOTcurrent": "7\n"}, 0.0),
    "version 1": (
        "5:memory:/x\n",
        {f"{TOP}memory__x__memoryDOTlimit_in_bytes": f"{2**30}\n",
         f"{TOP}memory__x__memoryDOTusage_in_bytes": f"{2**29}\n"},
        0.5 * GIB,
    ),
    "version 1 without limit": (
        "5:memory:/\n", {f"{TOP}memory__memoryDOTlimit_in_bytes": f"{2**63 - 4096}\n"}, 4 * GIB,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("cgroup", "files", "expected"), MEMORIES.values(), ids=MEMORIES)
def test_memory_that_is_left(cgroup, files, expected, tmp_path):
    assert limits.available_memory(made(tmp_path, cgroup, proc__meminfo=MEMORY, **files)) == expected


def test_without_a_word_from_the_machine_its_whole_memory_counts(tmp_path):
    assert GIB / 4 < limits.available_memory(str(tmp_path)) <= limits.NO_LIMIT


def test_this_machine():
    assert limits.cpu_quota() > 0.0
    assert 0.0 < limits.available_memory() < limits.NO_LIMIT


def test_what_linux_says_of_the_processor(tmp_path):
    root = made(tmp_path, "", proc__cpuinfo="processor\t: 0\nmodel name\t: A: 1\nflags\t\t: sse avx2\nmodel name: B\n")
    assert limits.cpuinfo("model name", root) == "A: 1"
    assert limits.cpuinfo("flags", root) == "sse avx2"
    assert limits.cpuinfo("bogomips", root) == ""
    assert limits.cpuinfo("flags", str(tmp_path / "nothing here")) == ""


def test_other_systems_are_asked_nothing_that_they_lack(monkeypatch, tmp_path):
    """As on macOS: no affinity, no /proc and no control groups."""
    monkeypatch.delattr(limits.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(limits.os, "cpu_count", lambda: 6)
    assert limits.allowed_cores() == 6
    assert limits.cpu_quota(str(tmp_path)) == limits.NO_LIMIT
    assert limits.available_memory(str(tmp_path)) > 0


def test_one_module_knows_one_system():
    package = Path(covertreex.__file__).parent
    asking = [
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(
            r"\bproc/|sys/fs|sched_|sysconf|sys\.platform|os\.uname|platform\.system\(\) *[=!]=", path.read_text()
        )
    ]
    assert asking == ["base/limits.py"]
