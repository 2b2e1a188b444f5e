"""Backends: listed by what is installed, loaded by name, each when it is asked for and no other with it.

Listing imports nothing (`covertreex.base.offers`). A plugin that fails stays listed with its reason, and is in no
other's way; a backend asked for by name runs or raises, and no other is tried.
"""

import traceback
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from covertreex.base import offers
from covertreex.base.contract import PROTOCOL_VERSION, difference
from covertreex.base.offers import Offer
from covertreex.errors import BackendError, BackendWarning
from covertreex.protocols import Capabilities, Traversal
from covertreex.settings import EnvironmentSettings, TraversalSettings, settings_from_env

#: Order in which a default is sought, before any stranger.
PREFERENCE = tuple(offers.SHIPPED)

#: How to get a backend that is ours but not installed.
HOW_TO_GET = {"rust": "pip install ./backends/rust in the source folder (needs cargo)"}


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
    status : {'found', 'ok', 'broken', 'hidden'}
        'found' is one that has not been loaded yet in this process.
    reason : str
        Why it is broken or hidden, and what to do; else empty.
    traceback : str
        Of the failure, if an exception was its cause.
    capabilities : Capabilities or None
        Of one that is ok.
    protocol : str
        The version of the protocol that it needs, if it is ok.
    levels : tuple of str
        What it is held to by the conformance kit, if it is ok.
    """

    name: str
    distribution: str
    version: str
    target: str
    status: str
    reason: str = ""
    traceback: str = ""
    capabilities: Capabilities | None = None
    protocol: str = ""
    levels: tuple[str, ...] = ()


def check_backend_object(backend: Any, name: str) -> str:
    """Why `backend` cannot serve as backend `name`, or an empty string."""
    if isinstance(backend, type):
        return f"its entry point names the class {backend.__name__}, not an object; name an instance of it"
    if getattr(backend, "name", None) != name:
        return f"its name is {getattr(backend, 'name', None)!r}, but its entry point says {name!r}; make them equal"
    problem = _version_problem(getattr(backend, "protocol_version", None))
    if problem:
        return problem
    # What is compiled elsewhere tells what it was built with; what imports the contract need not.
    theirs = getattr(backend, "contract", None)
    differing = "" if theirs is None else difference(theirs, older=True)
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


def _version_problem(version: Any) -> str:
    """Why a backend of this protocol version cannot be used, or an empty string."""
    ours = _shown(PROTOCOL_VERSION)
    if not (isinstance(version, tuple) and len(version) == 2 and all(type(part) is int for part in version)):
        return (
            f"it was written for protocol version {version!r}, but this covertreex speaks {ours}; install matching "
            f"versions of the two (a version is a pair of integers, now {PROTOCOL_VERSION})"
        )
    if version[0] != PROTOCOL_VERSION[0]:
        return (
            f"it was written for protocol version {_shown(version)}, but this covertreex speaks {ours}; install "
            "matching versions of the two"
        )
    if version[1] > PROTOCOL_VERSION[1]:
        return f"it needs protocol version {_shown(version)}, but this covertreex speaks {ours}; update covertreex"
    return ""


def _shown(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


#: What became of loading, by name. Two threads that load the same at once get the same: modules are imported once.
_loaded: dict[str, tuple[BackendInfo, Traversal | None]] = {}


def _load(name: str) -> tuple[BackendInfo, Traversal | None] | None:
    """(info, backend), or (info with the reason, None); None if there is no such backend. Kept until `refresh`."""
    if name not in _loaded:
        claims = _claims(name)
        if not claims:
            return None
        _loaded.setdefault(name, _load_offer(claims))
    return _loaded[name]


def _claims(name: str) -> list[Offer]:
    """Who offers a backend of this name: we alone, if it is ours, without a look at what else is installed."""
    ours = offers.shipped(name)
    return [ours] if ours is not None else [offer for offer in offers.backends() if offer.name == name]


def _load_offer(claims: list[Offer]) -> tuple[BackendInfo, Traversal | None]:
    """As `_load`, of all offers under one name: whatever a plugin does, the others stay usable."""
    offer, problem = claims[0], _claim_problem(claims)

    def broken(reason: str, trace: str = "") -> tuple[BackendInfo, None]:
        return _info(offer, "broken", reason, trace), None

    if problem:
        return broken(problem)
    whose = f"{offer.distribution} {offer.version}"
    # SystemExit too: a plugin that leaves Python on import must not take the process along.
    try:
        backend = offer.entry.load()
    except (Exception, SystemExit) as error:
        reason = f"{whose} cannot be imported: {type(error).__name__}: {error}; reinstall it"
        return broken(reason, traceback.format_exc())
    try:
        problem = check_backend_object(backend, offer.name)
        if problem:
            return broken(f"{whose}: {problem}")
        capabilities: Capabilities = backend.capabilities
        protocol, levels = _shown(backend.protocol_version), capabilities.claimed
    except Exception as error:
        return broken(
            f"{whose} cannot be described: {type(error).__name__}: {error}; report it to its authors",
            traceback.format_exc(),
        )
    info = BackendInfo(
        offer.name, offer.distribution, offer.version, offer.entry.value, "ok",
        capabilities=capabilities, protocol=protocol, levels=levels,
    )  # fmt: skip
    return info, backend


def _claim_problem(claims: list[Offer]) -> str:
    """Why offers under one name cannot be told apart; empty if there is one."""
    if len(claims) < 2:
        return ""
    rivals = sorted({offer.distribution for offer in claims})
    twice = "" if len(rivals) > 1 else " more than once"
    return f"the name {claims[0].name!r} is claimed by {' and '.join(rivals)}{twice}; uninstall all but one"


def _info(offer: Offer, status: str, reason: str = "", trace: str = "") -> BackendInfo:
    return BackendInfo(offer.name, offer.distribution, offer.version, offer.entry.value, status, reason, trace)


def refresh() -> None:
    """Forget what was found and what became of it, so that plugins installed since are seen.

    Examples
    --------
    >>> import covertreex as cx
    >>> cx.refresh()
    """
    offers.forget()
    _loaded.clear()


def list_backends(load: bool | Collection[str] = False) -> list[BackendInfo]:
    """All backends that are installed, working or not.

    Parameters
    ----------
    load : bool or collection of str
        Import each, or those of these names, in this process, to see whether it works. By default none is imported,
        and what nobody has asked for yet is listed as 'found'. ``covertreex doctor`` loads each in a process of its
        own.

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
    environment = settings_from_env()
    return [
        _describe(offer, environment, load if isinstance(load, bool) else offer.name in load)
        for offer in offers.backends()
    ]


def _describe(offer: Offer, environment: EnvironmentSettings, load: bool) -> BackendInfo:
    claims = _claims(offer.name)
    if offer.entry.value not in {claim.entry.value for claim in claims}:
        reason = f"the name {offer.name!r} is that of a backend of covertreex; uninstall {offer.distribution}"
        return _info(offer, "broken", reason)
    if environment.hides(offer.name):
        return _info(offer, "hidden", _hidden(offer.name))
    problem = _claim_problem(claims)
    if problem:
        return _info(offer, "broken", problem)
    found = _load(offer.name) if load else _loaded.get(offer.name)
    return _info(offer, "found") if found is None else found[0]


def _hidden(name: str) -> str:
    return f"hidden by COVERTREEX_ENABLE_{offers.variable(name)}=0; unset it"


def describe(name: str) -> BackendInfo:
    """What is to be said of the backend called `name` once it is loaded, in this process, whatever comes of it.

    Raises
    ------
    BackendError
        If there is none.

    Examples
    --------
    >>> describe("cython").levels
    ('L0', 'L1', 'L2')
    """
    found = _load(name)
    if found is None:
        raise _unknown(name)
    return found[0]


def get_backend(name: str) -> Traversal:
    """The backend called `name`; it is imported, and no other.

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
    return _get(name, settings_from_env())


def _get(name: str, environment: EnvironmentSettings) -> Traversal:
    if environment.hides(name):
        raise BackendError(f"backend {name!r} is hidden: {_hidden(name)}.")
    found = _load(name)
    if found is None:
        raise _unknown(name)
    info, backend = found
    if backend is None:
        raise BackendError(f"backend {name!r} is broken: {info.reason}.")
    return backend


def _unknown(name: str) -> BackendError:
    infos = {info.name: info.status for info in list_backends()}
    listed = ", ".join(
        f"{other} ({status})" if status in ("broken", "hidden") else other for other, status in infos.items()
    )
    hint = f" To install it: {HOW_TO_GET[name]}." if name in HOW_TO_GET else ""
    return BackendError(f"unknown backend {name!r}; installed: {listed or 'none'}.{hint}")


def choose_backend(
    settings: TraversalSettings, name: str | None, verb: str, environment: EnvironmentSettings | None = None
) -> Traversal:
    """The backend for `settings`: the caller's, else the environment's, else the first that is able.

    The first of COVERTREEX_BACKEND_PRIORITY, then of `PREFERENCE`, then of all others by name. What comes first and is
    passed over, and a stranger that nobody named, are warned of: the bits are the same, the time may not be.

    Parameters
    ----------
    settings : TraversalSettings
    name : str or None
        The caller's choice.
    verb : {'search', 'scan'}
        What it is to do: a scan needs no mechanism of the tree search.
    environment : EnvironmentSettings, optional
        What the caller has read already.

    Raises
    ------
    BackendError
        If the named one cannot do it, or none can.

    Warns
    -----
    BackendWarning
    """
    if settings.profile == "gold":
        if name not in (None, "numba"):
            raise BackendError(
                f"the gold profile runs on the numba backend alone, not on {name!r}; leave backend out, or use "
                "settings='parity' to compare backends."
            )
        return get_backend("numba")
    environment = settings_from_env() if environment is None else environment
    name = environment.backend if name is None else name
    if name is None:
        return _first_able(settings, environment, verb)
    backend = _get(name, environment)
    missing = _missing(backend, settings, verb)
    if missing:
        able = "parity" if "L1" in backend.capabilities.levels else "exact"  # parity is a tree search
        raise BackendError(
            f"backend {name!r} cannot carry out the {settings.profile} settings: it lacks {', '.join(missing)}. "
            f"Choose another backend or settings={able!r}, which this one carries out."
        )
    return backend


def _first_able(settings: TraversalSettings, environment: EnvironmentSettings, verb: str) -> Traversal:
    """Who answers where nobody is named."""
    ours = [name for name in PREFERENCE if name not in environment.priority]
    wanted = (*environment.priority, *ours)
    problems: list[str] = []
    unavailable: list[str] = []

    def able(candidate: str) -> Traversal | None:
        try:
            backend = _get(candidate, environment)
        except BackendError as error:
            hidden = environment.hides(candidate)
            absent = not hidden and candidate not in environment.priority and _load(candidate) is None
            # Who hides a backend knows, and who never installed one of ours misses nothing.
            quiet = candidate in PREFERENCE and (absent or hidden)
            (unavailable if quiet else problems).append(str(error))
            return None
        missing = _missing(backend, settings, verb)
        if missing:
            problems.append(f"backend {candidate!r} lacks {', '.join(missing)}.")
        return None if missing else backend

    for candidate in wanted:
        backend = able(candidate)
        if backend is not None:
            if problems:
                _warn(f"backend {candidate!r} answers. {' '.join(problems)}", candidate)
            return backend
    for candidate in sorted({offer.name for offer in offers.backends()} - set(wanted)):
        backend = able(candidate)
        if backend is not None:
            why = " ".join([*unavailable, *problems])
            _warn(f"backend {candidate!r} answers, which is not one of covertreex's own. {why}", candidate)
            return backend
    raise BackendError("no backend can carry out these settings. " + " ".join([*unavailable, *problems]))


def _warn(text: str, name: str) -> None:
    ask = f"To hear no more of it, name it: backend={name!r}, or COVERTREEX_BACKEND={name}."
    # At the caller of the method of CoverTree.
    warnings.warn(f"{text} It may be slower. {ask}", BackendWarning, stacklevel=5)


def _missing(backend: Traversal, settings: TraversalSettings, verb: str) -> list[str]:
    return backend.capabilities.missing(settings) if verb == "search" else []
