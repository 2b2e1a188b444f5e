"""``covertreex doctor``: is this installation in order?"""

import importlib
import os
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import numpy as np
import typer

from covertreex import kernels, oracle
from covertreex._core import canonical
from covertreex.backends import registry
from covertreex.base import offers
from covertreex.base.types import FloatArray
from covertreex.cli import display, machine, probe
from covertreex.data import metrics
from covertreex.errors import SettingsError
from covertreex.settings import settings_from_env

CORE = ("build", "canonical", "factors", "order", "queries", "scan", "search")


@dataclass(frozen=True)
class Check:
    """Something that must hold: whether it does, and what is to be said about it."""

    name: str
    passed: bool
    detail: str


def doctor(json_file: display.JsonFile = None) -> None:
    """Report versions, BLAS, cores and instruction sets, and check that this installation computes what it should.

    Among the checks: the compiled kernels must give the same bits as NumPy on random data, which they would not if the
    compiler had contracted or reordered operations. Each backend is loaded in a process of its own, and a small
    question shows who answers, phase by phase. Exit code 1 if a check fails.
    """
    out = display.console_beside(json_file)
    checks = [_check_distribution(), _check_core(), _check_numba(), _check_environment()]
    environment_ok = checks[-1].passed
    if checks[1].passed:
        checks += check_arithmetic()
    checks += _check_backends() if environment_ok else []

    known = facts()
    display.write_json({"facts": known, "checks": [asdict(check) for check in checks]}, json_file)
    out.print(display.fact_table(known))
    out.print()
    table = display.plain_table(("check", "left"), ("", "left"), ("", "left"))
    for check in checks:
        table.add_row(check.name, "ok" if check.passed else "FAILED", check.detail)
    out.print(table)
    out.print()
    failed = [check for check in checks if not check.passed]
    if failed:
        out.print(f"{len(failed)} of {len(checks)} checks failed.", style="bold red")
        raise typer.Exit(1)
    out.print(f"All {len(checks)} checks passed.", style="green")


def facts() -> list[tuple[str, str]]:
    """Names and values of what there is to know, for a table."""
    here = machine.describe()
    found = list(machine.versions((*machine.PACKAGES, "llvmlite", "typer", "rich")).items())
    found += [
        ("system", here["system"]),
        ("processor", here["processor"]),
        ("cores", f"{here['usable_cores']} usable of {here['cores']}"),
        ("instruction sets", instruction_sets()),
        *blas(),
    ]
    variables = {name: value for name, value in sorted(os.environ.items()) if name.startswith("COVERTREEX_")}
    found.append(
        ("environment", ", ".join(f"{name}={value}" for name, value in variables.items()) or "no COVERTREEX_*")
    )
    return found


def instruction_sets() -> str:
    """What the kernels were compiled for, and which of these this processor runs."""
    compiled = canonical.features().split(",")
    offered = machine.instruction_sets()
    if compiled == ["none"]:
        return "compiled for the baseline alone"
    if not offered:
        return f"compiled for {', '.join(compiled)}; what this processor offers is unknown"
    used = next(name for name in compiled if name in offered or name == "default")
    return f"compiled for {', '.join(compiled)}; this processor uses {used}"


def blas() -> list[tuple[str, str]]:
    """(name, value) pairs: which BLAS NumPy and SciPy were built with, and what is loaded where that can be told."""
    import scipy

    # threadpoolctl sees what is loaded, and this loads SciPy's own BLAS.
    import scipy.linalg

    found = []
    for name, module in (("numpy", np), ("scipy", scipy)):
        try:
            built = module.show_config(mode="dicts")["Build Dependencies"]["blas"]
            found.append((f"{name} BLAS", f"{built['name']} {built['version']}"))
        except (TypeError, KeyError):  # an older release
            found.append((f"{name} BLAS", "unknown"))
    pools = _pools()
    if pools is None:
        found.append(("loaded BLAS", "unknown (pip install threadpoolctl to see)"))
        return found
    for pool in pools:
        parts = [pool["internal_api"], pool.get("version"), pool.get("architecture"), f"{pool['num_threads']} threads"]
        found.append(("loaded", ", ".join(str(part) for part in parts if part)))
    return found


def _pools() -> list[dict[str, Any]] | None:
    """What threadpoolctl says of the libraries that are loaded; None without it."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return None
    pools: list[dict[str, Any]] = threadpool_info()
    return pools


def multiplies() -> str:
    """Which BLAS multiplies NumPy's matrices, and for which processor it chose its kernels, as well as can be told."""
    pools = [pool for pool in _pools() or () if pool["user_api"] == "blas"]
    pools = [pool for pool in pools if "numpy" in pool["filepath"]] or pools
    if not pools:
        return "unknown"
    kernels = f", kernels for {pools[0]['architecture']}" if "architecture" in pools[0] else ""
    return f"{pools[0]['internal_api']} {pools[0]['version']}{kernels}"


def _check_distribution() -> Check:
    """One distribution alone installed this: two overwrite each other's files, and both claim the commands."""
    ours = {entry.dist.name for entry in metadata.entry_points(group=offers.GROUP)
            if entry.value == offers.SHIPPED["cython"] and entry.dist is not None}  # fmt: skip
    if len(ours) > 1:
        names = " and ".join(sorted(ours))
        advice = "Uninstall both, delete *.egg-info in the source folder, and install again."
        return Check("distribution", False, f"{names} both installed covertreex. {advice}")
    return Check("distribution", True, ours.pop() if ours else "none: a copy, or a frozen program")


def _check_core() -> Check:
    for name in CORE:
        try:
            importlib.import_module(f"covertreex._core.{name}")
        except ImportError as error:
            detail = f"{name} cannot be imported: {error}. Reinstall covertreex; a C compiler is needed."
            return Check("compiled parts", False, detail)
    return Check("compiled parts", True, f"{len(CORE)} modules")


def _check_numba() -> Check:
    try:
        import numba
    except Exception as error:  # numba refuses unsuitable versions of NumPy with more than ImportError
        detail = f"cannot be imported: {type(error).__name__}: {error}. The backend numba will not run."
        return Check("numba", False, detail)
    return Check("numba", True, f"{numba.__version__} imports")


def _check_environment() -> Check:
    try:
        found = settings_from_env()
    except SettingsError as error:
        return Check("environment", False, str(error))
    backend = found.backend or "chosen by covertreex"
    detail = f"default settings: {found.settings.profile}; default backend: {backend}"
    if found.priority:
        detail += f"; first of all: {', '.join(found.priority)}"
    absent = found.hidden - {offers.variable(offer.name).lower() for offer in offers.backends()}
    for name in sorted(absent):
        detail += f"; COVERTREEX_ENABLE_{name.upper()}=0 hides nothing: no such backend is installed"
    return Check("environment", True, detail)


def _check_backends() -> list[Check]:
    """Each backend, loaded in a process of its own; then who answers where nobody names one."""
    checks = []
    for found in registry.list_backends():
        info, seconds = probe.load(found)
        detail = info.reason
        if info.status == "ok":
            detail = f"{info.distribution} {info.version}, protocol {info.protocol}, levels {', '.join(info.levels)}"
            detail += f", loaded in {display.duration(seconds)} s"
        checks.append(Check(f"backend {info.name}", info.status != "broken", detail))
    answers = probe.answers("exact", "fast", "parity")
    return checks + [Check(f"{profile} answers", passed, detail) for profile, passed, detail in answers]


def check_arithmetic(seed: int = 0) -> list[Check]:
    """Checks that canonical arithmetic in C equals that in NumPy, bit for bit.

    Parameters
    ----------
    seed : int
        Of the random data. A single operation contracted into a fused multiply-add changes about half of the results
        in their last bit, so thousands of equal results leave no room for one.

    Returns
    -------
    list of Check
    """
    rng = np.random.default_rng(seed)

    def check(name: str, compiled: FloatArray, reference: FloatArray) -> Check:
        unequal = int(np.sum(compiled.view(np.int64) != reference.view(np.int64)))
        detail = f"{compiled.size:,} values equal NumPy's, bit for bit"
        if unequal:
            detail = (
                f"{unequal:,} of {compiled.size:,} values differ from NumPy's: results would depend on the backend. "
                "Rebuild without -ffast-math and with -ffp-contract=off; look for CFLAGS in the environment."
            )
        return Check(name, unequal == 0, detail)

    x = -np.abs(rng.normal(scale=100.0, size=20_000))
    checks = [
        check("C exp", canonical.exp_neg(x), oracle.exp_neg(x)),
        check("C log", canonical.log(1.0 - x), oracle.log(1.0 - x)),
    ]

    X = rng.normal(size=(600, 3))
    a, b = rng.integers(0, len(X), size=(2, 5_000))
    payload, _ = metrics.Euclidean().prepare(X)
    checks.append(check("C Euclidean", canonical.distances(payload, a, b), oracle.canonical_distances(payload, a, b)))
    compared: dict[str, kernels.Kernel] = {
        name: kernel((0.8, 1.0, 1.3), 1.7) for name, kernel in kernels.CLOSED.items()
    }
    by_tables = kernels.Matern((0.8, 1.0), 1.7, nu=0.8, active_dims=(0, 1)) * kernels.Spherical(3.0, active_dims=(2,))
    for name, kernel in {**compared, "tables": by_tables + kernels.Gneiting(0.7, 1.2)}.items():
        metric = metrics.ResidualCorrelation(kernel, inducing=40)
        payload, projection = metric.prepare(X)
        pairs = canonical.distances(payload, a, b), oracle.canonical_distances(payload, a, b)
        checks.append(check(f"C {name}", *pairs))

    def covariance(A: FloatArray, B: FloatArray) -> FloatArray:
        return oracle.covariances(payload.covariance, A[:, None, :], B[None, :, :])

    assert projection is not None
    Z = projection.inducing
    assert Z is not None
    reference = oracle.canonical_solve(
        oracle.canonical_cholesky(covariance(Z, Z) + metric.jitter_share * np.eye(len(Z))),
        covariance(payload.coords, Z),
    )
    checks.append(check("C factors", payload.factors, reference))
    return checks
