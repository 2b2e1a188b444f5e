"""Backends: found by entry point, described without importing their kernels, loaded by name.

A distribution offers a backend through the entry-point group ``covertreex.backends``. Finding is separate from loading;
a plugin that fails stays listed with its reason; a backend asked for by name runs or raises, and no other is tried.
"""

import importlib
import traceback
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import Any, TypeAlias

from covertreex.base.contract import PROTOCOL_VERSION, difference
from covertreex.errors import BackendError
from covertreex.protocols import Capabilities, Traversal
from covertreex.settings import TraversalSettings, settings_from_env

GROUP = "covertreex.backends"

#: Order in which a default is sought.
PREFERENCE = ("cython", "rust", "numba")

#: How to get a backend that is ours but not installed.
HOW_TO_GET = {"rust": "pip install ./backends/rust (needs cargo)"}


@dataclass(frozen=True)
class BackendInfo:
    """One backend as `list_backends` shows it.

    Attributes
    ----------
    name : str
    distribution, version : str
        Of the distribution that offers it.
    target : str
        ``module:attribute`` of its entry point.
    status : {'ok', 'broken', 'hidden'}
    reason : str
        Why it is not ok, and what to do; empty if it is.
    traceback : str
        Of the failure, if an exception was its cause.
    capabilities : Capabilities or None
    """

    name: str
    distribution: str
    version: str
    target: str
    status: str
    reason: str = ""
    traceback: str = ""
    capabilities: Capabilities | None = None


#: An entry point, and the name and version of the distribution that offers it.
Offer: TypeAlias = tuple[metadata.EntryPoint, str, str]


def discover() -> list[Offer]:
    """Entry points of the group, each once, sorted by name; nothing is imported.

    Examples
    --------
    >>> "cython" in [entry.name for entry, _, _ in discover()]
    True
    """
    found: dict[tuple[str, str, str], Offer] = {}
    for entry in metadata.entry_points(group=GROUP):
        name, version = "unknown", ""
        if entry.dist is not None:
            name, version = entry.dist.name or "unknown", entry.dist.version or ""
        found[entry.name, entry.value, name] = entry, name, version
    return [found[key] for key in sorted(found)]


def check_backend_object(backend: Any, name: str) -> str:
    """Why `backend` cannot serve as backend `name`, or an empty string."""
    if isinstance(backend, type):
        return f"its entry point names the class {backend.__name__}, not an object; name an instance of it"
    if getattr(backend, "name", None) != name:
        return f"its name is {getattr(backend, 'name', None)!r}, but its entry point says {name!r}; make them equal"
    version = getattr(backend, "protocol_version", None)
    if version != PROTOCOL_VERSION:
        return (
            f"it was written for protocol version {version!r}, but this covertreex speaks {PROTOCOL_VERSION}; "
            "install matching versions of the two"
        )
    # What is compiled elsewhere tells what it was built with; what imports the contract need not.
    theirs = getattr(backend, "contract", None)
    differing = "" if theirs is None else difference(theirs)
    if differing:
        return (
            f"it was built with another contract than this covertreex has: {differing}; install matching versions of "
            f"the two, or build it again{f': {HOW_TO_GET[name]}' if name in HOW_TO_GET else ''}"
        )
    if not isinstance(getattr(backend, "capabilities", None), Capabilities):
        return "its capabilities are not a covertreex.protocols.Capabilities"
    for verb in backend.capabilities.verbs:
        if not callable(getattr(backend, verb, None)):
            return f"it lacks the verb {verb!r} of the Traversal protocol"
    return ""


@lru_cache(maxsize=1)
def _load_all() -> list[tuple[BackendInfo, Traversal | None]]:
    """(info, backend or None) of every entry point. Cached until `refresh`."""
    found = discover()
    return [_load(entry, distribution, version, found) for entry, distribution, version in found]


def _load(
    entry: metadata.EntryPoint, distribution: str, version: str, found: list[Offer]
) -> tuple[BackendInfo, Traversal | None]:
    """(info, backend), or (info with the reason, None): whatever a plugin does, the others stay usable."""
    common = entry.name, distribution, version, entry.value

    def broken(reason: str, trace: str = "") -> tuple[BackendInfo, None]:
        return BackendInfo(*common, status="broken", reason=reason, traceback=trace), None

    claims = [rival for other, rival, _ in found if other.name == entry.name]
    if len(claims) > 1:
        rivals = sorted(set(claims))
        twice = "" if len(rivals) > 1 else " more than once"
        return broken(f"the name {entry.name!r} is claimed by {' and '.join(rivals)}{twice}; uninstall all but one")
    # SystemExit too: a plugin that leaves Python on import must not take the process along.
    try:
        backend = entry.load()
    except (Exception, SystemExit) as error:
        reason = f"{distribution} {version} cannot be imported: {type(error).__name__}: {error}; reinstall it"
        return broken(reason, traceback.format_exc())
    try:
        reason = check_backend_object(backend, entry.name)
        capabilities = None if reason else backend.capabilities
    except Exception as error:
        return broken(
            f"{distribution} {version} cannot be described: {type(error).__name__}: {error}; report it to its authors",
            traceback.format_exc(),
        )
    if reason:
        return broken(f"{distribution} {version}: {reason}")
    return BackendInfo(*common, status="ok", capabilities=capabilities), backend


def refresh() -> None:
    """Forget what was found, so that plugins installed since are seen.

    Examples
    --------
    >>> import covertreex as cx
    >>> cx.refresh()
    """
    importlib.invalidate_caches()
    _load_all.cache_clear()


def list_backends() -> list[BackendInfo]:
    """All backends that are installed, working or not; their kernels are not imported.

    Returns
    -------
    list of BackendInfo
        One per entry point, sorted by name.

    Examples
    --------
    >>> import covertreex as cx
    >>> {"cython", "numba"} <= {info.name for info in cx.list_backends()}
    True
    """
    hidden = settings_from_env().hidden
    return [_hide(info) if info.name in hidden else info for info, _ in _load_all()]


def _hide(info: BackendInfo) -> BackendInfo:
    reason = f"hidden by COVERTREEX_ENABLE_{info.name.upper()}=0; unset it"
    return BackendInfo(info.name, info.distribution, info.version, info.target, "hidden", reason)


def get_backend(name: str) -> Traversal:
    """The backend called `name`.

    Parameters
    ----------
    name : str

    Returns
    -------
    Traversal

    Raises
    ------
    BackendError
        If it is unknown (the known ones are listed), broken (the reason is given) or hidden.

    Examples
    --------
    >>> import covertreex as cx
    >>> cx.get_backend("cython").name
    'cython'
    """
    infos = {info.name: info for info in list_backends()}
    if name not in infos:
        listed = ", ".join(
            f"{info.name}{'' if info.status == 'ok' else ' (' + info.status + ')'}" for info in infos.values()
        )
        hint = f" To install it: {HOW_TO_GET[name]}." if name in HOW_TO_GET else ""
        raise BackendError(f"unknown backend {name!r}; installed: {listed or 'none'}.{hint}")
    info = infos[name]
    if info.status != "ok":
        raise BackendError(f"backend {name!r} is {info.status}: {info.reason}.")
    return next(backend for other, backend in _load_all() if other.name == name and backend is not None)


def choose_backend(settings: TraversalSettings, name: str | None, verb: str) -> Traversal:
    """The backend for `settings`: the caller's, else the environment's, else the first preferred one that is able.

    Parameters
    ----------
    settings : TraversalSettings
    name : str or None
        The caller's choice.
    verb : {'search', 'scan'}
        What it is to do: a scan needs no mechanism of the tree search.

    Raises
    ------
    BackendError
        If the named one cannot do it, or none can.
    """
    if settings.profile == "gold":
        if name not in (None, "numba"):
            raise BackendError(
                f"the gold profile runs on the numba backend alone, not on {name!r}; leave backend out, or use "
                "settings='parity' to compare backends."
            )
        return get_backend("numba")
    if name is None:
        name = settings_from_env().backend
    if name is not None:
        backend = get_backend(name)
        missing = _missing(backend, settings, verb)
        if missing:
            raise BackendError(
                f"backend {name!r} cannot carry out the {settings.profile} settings: it lacks {', '.join(missing)}. "
                "Choose another backend or settings='parity', which every backend carries out."
            )
        return backend
    problems = []
    for candidate in PREFERENCE:
        try:
            backend = get_backend(candidate)
        except BackendError as error:
            problems.append(str(error))
            continue
        missing = _missing(backend, settings, verb)
        if not missing:
            return backend
        problems.append(f"backend {candidate!r} lacks {', '.join(missing)}.")
    raise BackendError("no backend can carry out these settings. " + " ".join(problems))


def _missing(backend: Traversal, settings: TraversalSettings, verb: str) -> list[str]:
    return backend.capabilities.missing(settings) if verb == "search" else []
