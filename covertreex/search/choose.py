"""Which strategy a search has. What is chosen depends on its question alone."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covertreex.base import tuning
from covertreex.data.payload import EUCLIDEAN, PayloadStore
from covertreex.protocols import QueryBlock
from covertreex.results import Plan
from covertreex.search import expected
from covertreex.search.boxes import Boxes
from covertreex.search.calibration import (
    Rule,
    Sample,
    hopeless,
    logs_of_groups,
    pairs_of_groups,
    rows_of_first_pass,
    rule_alone,
    rule_of_groups,
)
from covertreex.search.called import choose_called, is_called
from covertreex.search.context import SearchContext
from covertreex.search.from_answer import Earlier, from_answer
from covertreex.search.groups import permuted
from covertreex.search.halos import GivenUp, Halos, HaloWalk
from covertreex.search.near import Near
from covertreex.search.rings import Rings
from covertreex.search.screens.cache import first_choice, for_sweep, mixed_or_sharp, surely_sharp
from covertreex.search.screens.pairs import PairSample
from covertreex.search.screens.plain import Screen
from covertreex.search.screens.view import View
from covertreex.search.screens.whitened import whitened
from covertreex.search.second_pass import FirstPass
from covertreex.search.shortlists import OWN, prepared
from covertreex.search.strategy import Strategy
from covertreex.search.sweep import Sweep, sweep_groups
from covertreex.settings import TraversalSettings

#: Why residual correlation is scanned.
WHY = "residual correlation: most pairs are nearly uncorrelated, and blocks of rows are shared by queries"


def choose_verb(settings: TraversalSettings, payload: PayloadStore) -> str:
    """How `settings` are carried out on `payload`: 'search' (the tree) or 'scan'.

    Under residual correlation most points are nearly uncorrelated, and a blocked scan, which loads each row once for
    many queries, is faster than a tree that visits a third of them. Under Euclidean distance, boxes around rows are
    built in a moment and prune as well as a cover tree; but only the tree knows budgets and caps.
    """
    if settings.strategy == "tree":
        return "search"
    if payload.metric == EUCLIDEAN:
        return "scan" if settings.gate and not (settings.budget_schedule or settings.level_cap) else "search"
    return "scan"


def choose_scan(
    context: SearchContext,
    queries: QueryBlock,
    halos: Halos | GivenUp | None = None,
    earlier: Earlier | None = None,
) -> Strategy:
    """The strategy of a scan for the nearest neighbours of a block of queries, whose answer of before may be known."""
    if is_called(context.payload):
        return choose_called(context, queries)
    if context.by_boxes:
        return Boxes(context, queries)
    if isinstance(halos, Halos) and halos.serve(queries, context.k, context.settings):
        return HaloWalk(context, queries, halos)
    return choose_residual(context, queries, halos.reason if isinstance(halos, GivenUp) else "", earlier=earlier)


def choose_residual(
    context: SearchContext,
    queries: QueryBlock,
    no_halos: str = "",
    two_passes: bool = True,
    earlier: Earlier | None = None,
) -> Strategy:
    """As `choose_scan` under correlation, without halos (`no_halos` says why), and perhaps in one pass."""
    payload, settings, total = context.payload, context.settings, len(queries)
    few = total <= tuning.FEW_QUERIES and context.products(total) <= tuning.FEW_PRODUCTS
    worth = not few and context.k * tuning.WORTH_SCREENING < len(payload)
    screen = first_choice(payload, settings, total, context.n_threads) if worth else None
    view = None if screen is None else View(context, screen, queries)
    if view is None or total < tuning.WORTH_BLOCKS:
        groups = sweep_groups(context, queries)
        told = {} if view is None else _screened(payload, queries, view, None, Rule(None))
        plan = context.plan("scan", WHY, no_halos=no_halos, **told, expected=expected.sweep(context, queries, screen))
        return Sweep(context.exact, groups, permuted(queries, groups.order), view, None, plan)
    near, plan = Near.of(context, queries, view), context.plan("scan", WHY, no_halos=no_halos)
    calibrated: tuple[Rule, Screen | None] = Rule(None), None
    if settings.recall_target < 1.0:
        again = None if earlier is None else from_answer(near, queries, earlier, plan)
        if again is not None:
            return again
        found = _choose_rings(near, queries, plan, two_passes)
        if not isinstance(found, tuple):
            return found
        calibrated = found
    return _choose_sweep(near, queries, plan, *calibrated)


def _choose_rings(
    near: Near, queries: QueryBlock, plan: Plan, two_passes: bool
) -> Strategy | tuple[Rule, Screen | None]:
    """Rings that meet the recall target; where none do, what was tried, and a whitened screen if one was made."""
    context, screen, sample = near.context, near.view.screen, Sample.draw(near)
    float64 = surely_sharp(context.payload)

    def told(near: Near, rule: Rule, rows: float) -> Plan:
        told = _screened(context.payload, queries, near.view, rule.least, rule, rows)
        return replace(plan, strategy="rings", **told, expected=expected.rings(near, sample, rule, rows))

    alone = rule_alone(near, sample) if screen.dtype is np.float32 else None
    if alone is not None:
        return Rings(near, alone, told(near, alone, alone.rows))
    if sample is None:
        return Rule(None), None
    rows, worth = rows_of_first_pass(near, sample) if two_passes else (np.inf, False)
    logs = [] if worth else logs_of_groups(near, sample, 0.0, 1)
    rule = None if worth or rows == np.inf else rule_of_groups(near, sample, logs, patient=False)
    # Several rings in a row look at more rows than two passes do.
    if worth or (rule is not None and rule.least is None):
        if screen is float64:
            mixed = mixed_or_sharp(context.payload, context.settings, len(queries), context.n_threads)
            near = near.through(View(context, mixed, queries))
        otherwise = partial(choose_residual, context, queries, plan.no_halos, two_passes=False)
        return FirstPass(near, queries, sample, told(near, Rule(tuning.FIRST_PASS), rows), otherwise)
    if hopeless(near, logs):
        return Rule(None), None
    white = None
    if _may_whiten(near):
        white = whitened(context.payload, *pairs_of_groups(near, sample, logs), context.n_threads)
        if white is not None:
            near = near.through(View(context, white, queries))
    rule = rule_of_groups(near, sample, logs) if rule is None else rule
    if rule.least is None:
        return rule, white
    return Rings(near, rule, told(near, rule, rule.rows))


def _choose_sweep(near: Near, queries: QueryBlock, plan: Plan, rule: Rule, white: Screen | None) -> Sweep:
    """A sweep that begins with what the first ring of near rows tells; `rule` has missed the recall target."""
    context, payload, total = near.context.exact, near.context.payload, len(queries)
    may_whiten = _may_whiten(near)
    if near.context.settings.recall_target < 1.0:
        near = near.through(near.view, context)
    view: View | None = near.view
    start, left = near.first_thresholds()
    apart: NDArray[np.bool_] | None = None
    if left > tuning.WORTH_A_SCREEN * len(payload):  # so many are equally near
        view = None
    elif prepared(near.context.backend, payload).handle is None:
        if may_whiten:
            if white is None:
                pairs = PairSample.of_sweep(payload, queries, start)
                white = whitened(payload, pairs, float(np.sum(queries.limit)), context.n_threads)
            screen = white or mixed_or_sharp(payload, context.settings, total, context.n_threads)
        else:
            screen = for_sweep(payload, near.view.screen, queries, start, context.n_threads)
        view = near.view if screen is near.view.screen else View(context, screen, queries)
        apart = view.blind_to(queries)
    told = _screened(payload, queries, view, None, rule, rule.rows)
    plan = replace(plan, **told, expected=expected.sweep(context, queries, None if view is None else view.screen))
    groups = sweep_groups(context, queries, apart)
    return Sweep(context, groups, permuted(queries, groups.order), view, start[groups.order], plan)


def _may_whiten(near: Near) -> bool:
    return near.context.settings.gate and near.view.screen.dtype is np.float64


def _screened(
    payload: PayloadStore, queries: QueryBlock, view: View | None, least: float | None, rule: Rule, rows: float = 0.0
) -> dict[str, Any]:
    """What a `Plan` says of a screen and a rule, where `rows` near each group are looked at, or would have been."""
    told: dict[str, Any] = {
        "screen": "none" if view is None else view.screen.name,
        "screened_by": "" if view is None else OWN,
        "least": least,
        "patience": rule.patience,
        "alone": rule.alone,
        "tried": rule.tried,
    }
    if view is None or len(queries) == 0:
        return told
    screen, float64, every = view.screen, surely_sharp(payload), float(np.mean(queries.limit))
    plain = float64 if screen.tried else screen
    where, pairs = ("all rows", every) if least is None else ("near rows", rows)
    if rule.alone:
        ways = [(f"{where} alone, {screen.name}", tuning.ALONE_COST * screen.pair_cost, pairs)]
        return told | {"costs": (*ways, (f"all rows, {plain.name}", plain.pair_cost, every))}
    ways = [(f"{where}, {screen.name}", screen.pair_cost, pairs)]
    ways += [(f"{where}, whitened 8 bits, {r} components", cost, pairs) for r, cost in screen.tried]
    ways.append((f"{where}, float64", float64.pair_cost, pairs))
    if least is not None:
        ways.append((f"all rows, {plain.name}", plain.pair_cost, every))
    elif rows:
        ways.append((f"near rows, {plain.name}", plain.pair_cost, rows))
    return told | {"costs": tuple(dict.fromkeys(ways))}
