"""How a search is carried out: settings, the named profiles, and the one function that reads the environment."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from numbers import Real
from typing import Any

from covertreex.base import offers
from covertreex.errors import SettingsError

_CHOICES = {
    "profile": ("gold", "parity", "exact", "fast", "custom"),
    "strategy": ("tree", "auto"),
    "precision": ("float64",),
    "child_order": ("insertion", "nearest"),
    "visited": ("plain", "bitset"),
}

#: The named profiles; filled below, where they are made.
PROFILES: dict[str, "TraversalSettings"] = {}

#: Settings of scans alone, and what turns them off.
_OF_SCANS = {"gate": False, "gemm": False, "recall_target": 1.0}


@dataclass(frozen=True)
class TraversalSettings:
    """Everything that may change how a search walks, and nothing that may change a right answer into a wrong one
    without saying so: only `budget_schedule`, `level_cap` and `recall_target` are approximate.

    Use a named profile (`GOLD`, `PARITY`, `EXACT`, `FAST`) or `replace` one of them.

    Parameters
    ----------
    profile : {'gold', 'parity', 'exact', 'fast', 'custom'}
        The name that results and telemetry carry. It is 'custom' wherever the other settings are not those of the
        profile named, as in ``dataclasses.replace(PARITY, level_cap=2)``: whoever reads a name can rely on it.
    strategy : {'tree', 'auto'}
        'tree' walks the cover tree; 'auto' lets the driver choose between the tree and a scan.
    precision : {'float64'}
        Arithmetic of every distance that is returned or decides an order.
    kth_frontier_stop : bool
        Stop when the smallest lower bound on the frontier exceeds the kth best distance.
    child_order : {'insertion', 'nearest'}
        Order in which the children of a node are visited: that of insertion, or by distance from the node.
    visited : {'plain', 'bitset'}
        How visited nodes are remembered: a byte each, or one bit with a masked test per tile.
    stream_tile : int, 1 to 64
        How many children are evaluated before they are offered.
    dynamic_tile : bool
        Start with an eighth of `stream_tile`, double while a tile yields no neighbour, start over when one does.
    level_cache : bool
        Reuse the distances to parents that upper levels computed to skip children without evaluating them.
    dynamic_query_block : bool
        Size query blocks by the number of queries still active, instead of a fixed size.
    radius_floor : float
        Cover radii of inner nodes are taken to be at least this; 0 keeps them as they are.
    budget_schedule : tuple of int
        Budget ladder: distance evaluations allowed per rung; empty is no budget. Approximate.
    budget_up, budget_down : float
        Yield (accepted offers per evaluation) at which a rung leads on to the next, and under which it ends the search.
        In between, one more rung is granted once.
    level_cap : int
        Most nodes evaluated per level and query; 0 is no cap. Approximate.
    gate : bool
        A scan may reject pairs by a float32 screen with a rigorous margin, where float32 is precise enough.
    gemm : bool
        A scan may reject pairs by a float64 screen, blocks of products with a rigorous margin.
    recall_target : float
        Share of the true neighbours to be found, above 0.5. Below 1 a scan looks only at rows near in coordinates, as
        many as a sample of the queries needs. Approximate. 1 looks at all rows.
    telemetry : bool
        Keep one telemetry record per query block in the result.

    Raises
    ------
    SettingsError
        If a value is not allowed, or two contradict each other.

    Examples
    --------
    >>> from covertreex import PARITY
    >>> PARITY.replace(stream_tile=8).profile
    'custom'
    """

    profile: str = "custom"
    strategy: str = "auto"
    precision: str = "float64"
    kth_frontier_stop: bool = True
    child_order: str = "insertion"
    visited: str = "plain"
    stream_tile: int = 1
    dynamic_tile: bool = False
    level_cache: bool = False
    dynamic_query_block: bool = False
    radius_floor: float = 0.0
    budget_schedule: tuple[int, ...] = ()
    budget_up: float = 0.015
    budget_down: float = 0.002
    level_cap: int = 0
    gate: bool = False
    gemm: bool = False
    recall_target: float = 1.0
    telemetry: bool = True

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise SettingsError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}.")
        for name in (
            "kth_frontier_stop", "dynamic_tile", "level_cache", "dynamic_query_block", "gate", "gemm", "telemetry",
        ):  # fmt: skip
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"{name} must be True or False; got {getattr(self, name)!r}.")
        self._check_integer("stream_tile", self.stream_tile, 1, 64)
        self._check_integer("level_cap", self.level_cap, 0, 2**31)
        for name in ("radius_floor", "budget_up", "budget_down"):
            object.__setattr__(self, name, self._number(name, getattr(self, name)))
        if not 0.0 <= self.radius_floor < float("inf"):
            raise SettingsError(f"radius_floor must be finite and not negative; got {self.radius_floor!r}.")
        if isinstance(self.budget_schedule, str) or not isinstance(self.budget_schedule, Iterable):
            raise SettingsError(f"budget_schedule must be a sequence of integers; got {self.budget_schedule!r}.")
        object.__setattr__(self, "budget_schedule", tuple(self.budget_schedule))
        for rung in self.budget_schedule:
            self._check_integer("budget_schedule", rung, 1, 2**31)
        if any(b <= a for a, b in zip(self.budget_schedule, self.budget_schedule[1:], strict=False)):
            raise SettingsError(f"budget_schedule must increase; got {self.budget_schedule}.")
        if not 0.0 <= self.budget_down <= self.budget_up <= 1.0:
            raise SettingsError(
                "budget thresholds must satisfy 0 <= budget_down <= budget_up <= 1; "
                f"got budget_down={self.budget_down!r}, budget_up={self.budget_up!r}."
            )
        if not (isinstance(self.recall_target, (int, float)) and 0.5 < self.recall_target <= 1.0):
            raise SettingsError(f"recall_target must be above 0.5 and at most 1; got {self.recall_target!r}.")
        if self.recall_target < 1.0 and self.strategy == "tree":
            raise SettingsError("recall_target is met by scans; with strategy='tree' use budget_schedule or level_cap.")
        if self.dynamic_tile and self.stream_tile < 8:
            raise SettingsError(
                f"dynamic_tile starts at an eighth of stream_tile, which must be at least 8; got {self.stream_tile}."
            )
        named = PROFILES.get(self.profile)
        if named is not None and asdict(self) != asdict(named):
            object.__setattr__(self, "profile", "custom")

    @staticmethod
    def _number(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise SettingsError(f"{name} must be a number; got {value!r}.")
        return float(value)

    @staticmethod
    def _check_integer(name: str, value: Any, low: int, high: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise SettingsError(f"{name} must be an integer from {low} to {high}; got {value!r}.")

    @property
    def approximate(self) -> bool:
        """bool: whether the answer may miss true neighbours (INVARIANT S1: only these settings may)."""
        return bool(self.budget_schedule) or self.level_cap > 0 or self.recall_target < 1.0

    def replace(self, **changes: Any) -> "TraversalSettings":
        """A changed copy; its profile is 'custom' unless `changes` names one and it is just that.

        ``strategy='tree'`` turns off what scans alone have, unless `changes` name it: `gate`, `gemm`, `recall_target`.
        So ``FAST.replace(strategy="tree")`` is exact.

        Raises
        ------
        SettingsError
            If a name is unknown, or a value is not allowed.

        Examples
        --------
        >>> GOLD.replace(stream_tile=32).profile
        'custom'
        >>> EXACT.replace(strategy="tree").gate
        False
        """
        names = [field.name for field in fields(self)]
        unknown = sorted(set(changes) - set(names))
        if unknown:
            raise SettingsError(f"unknown setting {unknown[0]!r}; the settings are {', '.join(names)}.")
        off = _OF_SCANS if changes.get("strategy") == "tree" else {}
        return replace(self, **{"profile": "custom", **off, **changes})

    def digest(self) -> str:
        """SHA-256, as canonical JSON, of what differs from the inert defaults; a test pins that of `GOLD`.

        So a setting that is added later, and is off unless asked for, leaves all digests as they are.

        Examples
        --------
        >>> GOLD.digest() == GOLD.replace(profile="gold").digest()
        True
        """
        inert = asdict(TraversalSettings())
        chosen = {name: value for name, value in asdict(self).items() if value != inert[name]}
        text = json.dumps(chosen, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


#: The reference configuration: the numba backend alone runs it, and it never changes.
GOLD = TraversalSettings(
    profile="gold",
    strategy="tree",
    visited="bitset",
    stream_tile=64,
    dynamic_tile=True,
    level_cache=True,
    dynamic_query_block=True,
    radius_floor=1e-3,
)

#: The plain search that every backend carries out alike: same bits, same counters.
PARITY = TraversalSettings(profile="parity", strategy="tree")

#: The default: the oracle's answer by the cheapest sound way.
EXACT = TraversalSettings(
    profile="exact",
    strategy="auto",
    level_cache=True,
    dynamic_query_block=True,
    gate=True,
    gemm=True,
)

#: Nearly all of the oracle's answer, for much less: at least 0.999 of the true neighbours.
FAST = EXACT.replace(profile="fast", recall_target=0.999)

PROFILES.update((settings.profile, settings) for settings in (GOLD, PARITY, EXACT, FAST))

_FLAGS = {"0": False, "1": True}


def _environment_flag(environ: Mapping[str, str], name: str, default: bool) -> bool:
    text = environ.get(name)
    if text is None:
        return default
    if text not in _FLAGS:
        raise SettingsError(f"environment variable {name} must be 0 or 1; got {text!r}. Unset it or correct it.")
    return _FLAGS[text]


def _environment_names(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    text = environ.get(name)
    if text is None:
        return ()
    names = tuple(part.strip() for part in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise SettingsError(
            f"environment variable {name} must be names of backends between commas, each once; got {text!r}. Unset it "
            "or correct it."
        )
    return names


#: Variables with a meaning of their own; COVERTREEX_TORTURE says how long the tests of this package take, which read it
#: themselves.
_VARIABLES = (
    "COVERTREEX_RESIDUAL_PARITY",
    "COVERTREEX_BACKEND",
    "COVERTREEX_BACKEND_PRIORITY",
    "COVERTREEX_TORTURE",
)

_OURS, _ENABLE = "COVERTREEX_", "COVERTREEX_ENABLE_"


def _our_names(environ: Mapping[str, str]) -> list[str]:
    """Names of our variables; where the environment is bytes, only ours are decoded, for each search asks."""
    if environ is os.environ and os.supports_bytes_environ:
        prefix = os.fsencode(_OURS)
        return [os.fsdecode(name) for name in os.environb if name.startswith(prefix)]
    return [name for name in environ if name.startswith(_OURS)]


@dataclass(frozen=True)
class EnvironmentSettings:
    """What the environment asks for.

    Attributes
    ----------
    settings : TraversalSettings
    backend : str or None
        Who is to answer.
    priority : tuple of str
        Who is to answer of those that can, the first first.
    hidden : frozenset of str
        Who is not: names as they stand in variables, in lower case.

    Examples
    --------
    >>> settings_from_env({"COVERTREEX_BACKEND": "numba"}).backend
    'numba'
    """

    settings: TraversalSettings
    backend: str | None
    priority: tuple[str, ...]
    hidden: frozenset[str]

    def hides(self, name: str) -> bool:
        """Whether the backend called `name` is not to be used."""
        return bool(self.hidden) and offers.variable(name).lower() in self.hidden


#: What an environment without variables of ours asks for: nearly every one, and each search reads it.
_NOTHING_ASKED = EnvironmentSettings(settings=EXACT, backend=None, priority=(), hidden=frozenset())


def settings_from_env(environ: Mapping[str, str] | None = None) -> EnvironmentSettings:
    """Read the ``COVERTREEX_*`` variables; nothing else in covertreex reads the environment.

    ===================================  ==========================================================
    ``COVERTREEX_RESIDUAL_PARITY=1``     the parity profile, where the caller passes no settings
    ``COVERTREEX_BACKEND=name``          the backend, where the caller names none
    ``COVERTREEX_BACKEND_PRIORITY=a,b``  where nobody names one: a if it can, else b, else ours
    ``COVERTREEX_ENABLE_NAME=0``         hides the backend called ``name``
    ``COVERTREEX_NAME_ANYTHING``         is for an installed backend called ``name`` to read
    ===================================  ==========================================================

    In the last two, ``NAME`` is in capitals, with ``_`` for what is no letter or digit.

    Parameters
    ----------
    environ : mapping, optional
        Defaults to ``os.environ``.

    Returns
    -------
    EnvironmentSettings

    Raises
    ------
    SettingsError
        If a ``COVERTREEX_*`` variable is unknown or malformed.

    Examples
    --------
    >>> settings_from_env({"COVERTREEX_RESIDUAL_PARITY": "1"}).settings.profile
    'parity'
    """
    environ = os.environ if environ is None else environ
    ours = _our_names(environ)
    if not ours:
        return _NOTHING_ASKED
    hidden = []
    for name in ours:
        if name in _VARIABLES:
            continue
        if name.startswith(_ENABLE) and name != _ENABLE:
            if not _environment_flag(environ, name, True):
                hidden.append(name.removeprefix(_ENABLE).lower())
        elif not any(name.startswith(f"COVERTREEX_{offers.variable(offer.name)}_") for offer in offers.backends()):
            installed = ", ".join(sorted({offer.name for offer in offers.backends()}))
            raise SettingsError(
                f"unknown environment variable {name}; the known ones are {', '.join(_VARIABLES[:3])}, {_ENABLE}NAME, "
                f"and COVERTREEX_NAME_... of a backend that is installed ({installed}). Unset it or correct it."
            )
    parity = _environment_flag(environ, "COVERTREEX_RESIDUAL_PARITY", False)
    backend = environ.get("COVERTREEX_BACKEND")
    if backend is not None and not backend.strip():
        raise SettingsError("environment variable COVERTREEX_BACKEND is empty; name a backend or unset it.")
    return EnvironmentSettings(
        settings=PARITY if parity else EXACT,
        backend=backend,
        priority=_environment_names(environ, "COVERTREEX_BACKEND_PRIORITY"),
        hidden=frozenset(hidden),
    )


def resolve_settings(settings: str | TraversalSettings | None, environment: EnvironmentSettings) -> TraversalSettings:
    """The settings for ``settings=``: a profile's name, a `TraversalSettings`, or None for the environment's.

    Raises
    ------
    SettingsError
        If the name is unknown or the type is wrong.

    Examples
    --------
    >>> resolve_settings("parity", settings_from_env({})).profile
    'parity'
    """
    if settings is None:
        return environment.settings
    if isinstance(settings, TraversalSettings):
        return settings
    if isinstance(settings, str) and settings in PROFILES:
        return PROFILES[settings]
    raise SettingsError(
        f"settings must be a TraversalSettings or one of {', '.join(map(repr, PROFILES))}; got {settings!r}."
    )
