"""What this process may use of the machine: CPUs and memory, as the control groups of containers grant them.

All that one operating system alone tells is asked here, and nowhere else; where it cannot be asked, nothing is known.
"""

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

#: What stands for "no limit": more than any machine has.
NO_LIMIT = float(2**60)


def allowed_cores() -> int:
    """Cores that this process may run on: those of its affinity, or all where there is no such thing (macOS)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpuinfo(field: str, root: str = "/") -> str:
    """What Linux says of the first processor: "model name", "flags". Empty where it does not.

    Parameters
    ----------
    field : str
    root : str
        Of the file system; for tests.

    Returns
    -------
    str
    """
    for line in _lines(Path(root, "proc/cpuinfo")):
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""


@lru_cache(maxsize=4)
def cpu_quota(root: str = "/") -> float:
    """CPUs' worth of time that control groups grant this process; `NO_LIMIT` where they do not say.

    A container with ``--cpus=2`` sees all cores of the machine, but is stopped for the rest of each period once it has
    used two of them. The least of all groups above the process counts. Read once: a quota hardly ever changes.

    Parameters
    ----------
    root : str
        Of the file system; for tests.

    Returns
    -------
    float
    """
    quotas = [NO_LIMIT]
    for version, folder in _groups(root, "cpu"):
        if version == 2:
            quota, period = [*_first(folder / "cpu.max").split(), "", ""][:2]
        else:
            quota, period = (_first(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        if _number(quota) and _number(period):  # not "max", "-1" or nothing
            quotas.append(_number(quota) / _number(period))
    return min(quotas)


def available_memory(root: str = "/") -> float:
    """Bytes that can be had without swapping: what the machine has available, no more than control groups leave.

    Parameters
    ----------
    root : str
        Of the file system; for tests.

    Returns
    -------
    float
        `NO_LIMIT` where nothing is known.
    """
    left = [NO_LIMIT]
    for line in _lines(Path(root, "proc/meminfo")):
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            left.append(1024.0 * _number((rest.split() or [""])[0]))
    if len(left) == 1 and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):  # macOS
        left.append(float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE"))
    for version, folder in _groups(root, "memory"):
        most, used = (
            ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        )
        most, used = _first(folder / most), _first(folder / used)
        if _number(most):
            # Pages of files that are cached count as used, but are given up when something else wants them.
            pairs = [line.split() for line in _lines(folder / "memory.stat") if len(line.split()) == 2]
            stat = {pair[0]: pair[1] for pair in pairs}
            cached = _number(stat.get("inactive_file", stat.get("total_inactive_file", "")))
            left.append(max(0.0, _number(most) - max(0.0, _number(used) - cached)))
    return min(left)


def _groups(root: str, controller: str) -> Iterator[tuple[int, Path]]:
    """(version, folder) of the control groups of this process and of all above them."""
    top = Path(root, "sys/fs/cgroup")
    for line in _lines(Path(root, "proc/self/cgroup")):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:  # version 2, alone or beside version 1
            version, mounts = 2, [top, top / "unified"]
        elif controller in controllers.split(","):
            version, mounts = 1, [top / controllers, top / controller]
        else:
            continue
        # The path may be as the host sees it, while the container's own group is mounted at the top.
        parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        for mount in mounts:
            for depth in range(len(parts) + 1):
                yield version, mount.joinpath(*parts[:depth])


def _number(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _first(path: Path) -> str:
    return next(iter(_lines(path)), "")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
