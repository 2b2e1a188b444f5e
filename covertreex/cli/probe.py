"""What loading a backend does, and who answers, seen in processes of their own: an import may take long, or end it."""

import json
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from covertreex.backends import registry
from covertreex.covertree import cover_tree
from covertreex.errors import CovertreexError
from covertreex.kernels import Matern32
from covertreex.protocols import Capabilities

#: Seconds after which a process is given up.
PATIENCE = 60.0

#: Levels of conformance at which the phases of a search run.
PHASES = {"search": "L1", "screen": "S", "decision": "L0"}


def load(info: registry.BackendInfo) -> tuple[registry.BackendInfo, float]:
    """A backend that was found, as it is after it was loaded, and the seconds that took; others as they are."""
    if info.status != "found":
        return info, 0.0
    found = _elsewhere("load", info.name)
    whose = f"{info.distribution} {info.version}"
    if isinstance(found, str):
        reason = f"{whose}: its import {found}; report it to its authors, or uninstall {info.distribution}"
        return registry.BackendInfo(info.name, info.distribution, info.version, info.target, "broken", reason), 0.0
    seconds, made = found.pop("seconds"), found.pop("capabilities")
    capabilities = None if made is None else Capabilities(frozenset(made["mechanisms"]), made["summary"])
    return registry.BackendInfo(**{**found, "levels": tuple(found["levels"])}, capabilities=capabilities), seconds


def answers(*profiles: str) -> list[tuple[str, bool, str]]:
    """Of each profile, whether a small question is answered where nobody names a backend; by whom, phase by phase, or
    why not.
    """
    found = _elsewhere("answer", *profiles)
    if isinstance(found, str):
        why = f"a search {found}; `covertreex backends --check` shows which backend does that"
        return [(profile, False, why) for profile in profiles]
    return [
        (profile, not error, error or ", ".join(f"{phase} by {who} ({PHASES[phase]})" for phase, who in by.items()))
        for profile, (error, by) in found.items()
    ]


def _elsewhere(what: str, *about: str) -> dict[str, Any] | str:
    """What `main` says in a process of its own; or, in words, how that process ended instead."""
    if getattr(sys, "frozen", False):  # the program is no Python that could be started again
        return _found(what, *about)
    command = [sys.executable, "-c", "import sys; from covertreex.cli.probe import main; main(*sys.argv[1:])"]
    try:
        done = subprocess.run([*command, what, *about], capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return f"did not end within {PATIENCE:g} s"
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        return f"ended the process, by {how}"
    return found


def main(what: str, *about: str) -> None:
    """Print, as the last line, what was found: of the process that `_elsewhere` starts."""
    print("\n" + json.dumps(_found(what, *about)))


def _found(what: str, *about: str) -> dict[str, Any]:
    return {profile: _answer(profile) for profile in about} if what == "answer" else _loaded(*about)


def _loaded(name: str) -> dict[str, Any]:
    begin = time.perf_counter()
    info = registry.describe(name)
    seconds = time.perf_counter() - begin
    made = info.capabilities
    told = None if made is None else {"mechanisms": sorted(made.mechanisms), "summary": made.summary}
    return {**asdict(info), "capabilities": told, "seconds": seconds}


def _answer(profile: str) -> tuple[str, dict[str, str]]:
    X = np.random.default_rng(0).normal(size=(300, 2))
    try:
        result = cover_tree(X, kernel=Matern32(lengthscale=0.5), inducing=16).search(5, settings=profile)
    except CovertreexError as error:
        return str(error), {}
    return "", result.plan.phases
