"""Making halos: a net of anchors is chosen, and the rows around each anchor are sorted by angle (H1)."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from covertreex._core.halos import surround
from covertreex.base import parallel, tuning
from covertreex.data.payload import PayloadStore
from covertreex.protocols import QueryBlock
from covertreex.search.boxes import boxes_of
from covertreex.search.choose import choose_residual
from covertreex.search.context import SearchContext
from covertreex.search.groups import Groups, permuted
from covertreex.search.halos import GivenUp, Halos, Walker
from covertreex.search.screens.cache import sharp, surely_sharp
from covertreex.search.screens.view import View
from covertreex.search.sweep import Sweep, sweep_groups

#: Of some anchors: their rows, how many rows each has around it, its radius, these rows, and their angles.
Part = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int32], NDArray[np.float32]]


def prepare(context: SearchContext, block: QueryBlock) -> Halos | GivenUp | None:
    """Make ready what searches for few queries use again.

    Parameters
    ----------
    context : SearchContext
        Its k is what queries will want.
    block : QueryBlock
        All rows that may be asked for, each of which may be its own neighbour.

    Returns
    -------
    Halos, GivenUp or None
        None where boxes find the nearest, as under Euclidean distance; the payload keeps them.
    """
    if context.by_boxes:
        boxes_of(context.payload)
        return None
    block = permuted(block, np.argsort(block.rows))  # near each other in space
    if sharp(context.payload) is None:
        return GivenUp("residual variances are too small for a screen")
    for near in tuning.HALO_NEAR:
        net = _net(context, block.rows, near)
        if net is not None:
            return _surround_all(context, block, near, *net)
    return GivenUp(
        f"more than {tuning.MOST_ANCHORS:.0%} of a sample of rows would be anchors, hardly any row being near another"
    )


def _surround_all(
    context: SearchContext,
    block: QueryBlock,
    near: float,
    own: NDArray[np.int64],
    angle: NDArray[np.float64],
) -> Halos | GivenUp:
    """Halos of the anchors that `_net` chose, and of rows that leave theirs."""
    payload, k = context.payload, context.k
    anchors, reach = _reach(own, angle)
    # Angles are wanted in float64; a halo holds its anchor too.
    wider = replace(context, k=min(k + 1, len(block)), settings=context.settings.replace(gate=False, recall_target=1.0))
    sweep = choose_residual(wider, permuted(block, anchors))
    if not isinstance(sweep, Sweep) or sweep.lists is None:
        return GivenUp("no screen would drop enough rows")
    kth = np.full(len(anchors), np.pi)
    if sweep.start is not None:
        kth = np.arccos(np.clip(sweep.start, -1.0, 1.0))
    # A row within `reach` of its anchor has its k nearest within the anchor's own k-th angle and twice `reach`.
    widest = np.minimum(kth + 2.0 * reach[sweep.groups.order], tuning.HALO_WIDEST)
    builder = _Builder(context, sweep.queries, sweep.groups, np.maximum(widest, kth), len(block))
    sample = builder.sample(tuning.HALO_ANCHORS)
    if len(sample) < len(sweep.groups):
        halos = _halos(payload, k, near, builder.parts(sample))
        probe = permuted(block, np.flatnonzero(halos.number[block.rows] >= 0))
        share = float(np.mean(Walker(context, halos, probe, halos.number[probe.rows]).walk_all().certified))
        if share < tuning.LEAST_CERTIFIED:
            return GivenUp(f"they would certify {share:.0%} of a sample of queries")
    parts = builder.parts(range(len(sweep.groups)))
    halos = _halos(payload, k, near, parts)
    # Rows that leave their halo become anchors themselves: those so far from all others that no halo is wide enough.
    asked = permuted(replace(block, exclude=block.rows), np.argsort(halos.anchors[halos.number[block.rows]]))
    walked = Walker(context, halos, asked, halos.number[asked.rows]).walk_all()
    left = np.flatnonzero(~walked.certified)
    if not 0 < len(left) <= len(anchors):
        return halos
    kth, alone = np.arccos(np.clip(walked.thresholds[left], -1.0, 1.0)), permuted(asked, left)
    groups = sweep_groups(replace(context, n_threads=1), alone)
    alone = permuted(replace(alone, exclude=np.full(len(alone), -1)), groups.order)
    builder = _Builder(context, alone, groups, kth[groups.order], len(block))
    return _halos(payload, k, near, parts, builder.parts(range(len(groups))))


def _reach(own: NDArray[np.int64], angle: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Anchors, and the angle of the farthest row of each, if row i is at ``angle[i]`` from its anchor ``own[i]``."""
    anchors, number = np.unique(own, return_inverse=True)
    reach = np.zeros(len(anchors))
    np.maximum.at(reach, number, angle)
    return anchors, reach


def _net(
    context: SearchContext, rows: NDArray[np.int64], near: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """For each of these rows the place of its anchor among them, and the angle to it; None if a sample says that too
    many rows would be anchors.
    """
    spans = parallel.spans(len(rows), tuning.HALO_BLOCK)
    count = min(tuning.HALO_BLOCKS, len(spans))
    sample = np.unique(np.linspace(0, len(spans) - 1, count).astype(np.int64)).tolist()

    def cover(numbers: list[int]) -> dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]]:
        with parallel.one_blas_thread():
            tasks = [partial(_cover, context.payload, rows[slice(*spans[number])], near) for number in numbers]
            return dict(zip(numbers, context.run(tasks), strict=True))

    found = cover(sample)
    share = sum(len(np.unique(own)) for own, _ in found.values()) / sum(len(own) for own, _ in found.values())
    if share > tuning.MOST_ANCHORS:
        return None
    found |= cover([number for number in range(len(spans)) if number not in found])
    parts = [found[number] for number in range(len(spans))]
    own = np.concatenate([own + begin for (own, _), (begin, _) in zip(parts, spans, strict=True)])
    return own, np.concatenate([angle for _, angle in parts])


def _cover(
    payload: PayloadStore, rows: NDArray[np.int64], near: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of some rows, the place of each one's anchor among them, within ``|rho|`` of `near`, and the angle to it.

    Anchors are chosen one after the other: that to which the most rows without an anchor are near.
    """
    inverse = 1.0 / np.sqrt(payload.p[rows])
    factors, coords = payload.factors[rows] * inverse[:, None], payload.coords[rows]
    rho = payload.covariance.of_scaled(coords, coords)
    rho *= inverse
    rho *= inverse[:, None]
    rho -= factors @ factors.T
    np.abs(rho, out=rho)
    np.fill_diagonal(rho, 1.0)
    linked = (rho >= near) | (rho.T >= near)  # rounding may tell them apart
    left, chosen = linked.sum(axis=0), []
    open_rows = np.ones(len(rows), dtype=bool)
    while open_rows.any():
        best = int(np.argmax(left))
        chosen.append(best)
        new = np.flatnonzero(linked[best] & open_rows)
        open_rows[new] = False
        left -= linked[new].sum(axis=0)
    places = np.sort(chosen)
    own = places[np.argmax(rho[places], axis=0)]
    return own, np.arccos(np.minimum(rho[own, np.arange(len(rows))], 1.0))


class _Builder:
    """Makes halos of groups of anchors, so wide that they reach beyond the angle that `far` has for each."""

    def __init__(
        self, context: SearchContext, queries: QueryBlock, groups: Groups, far: NDArray[np.float64], rows: int
    ) -> None:
        self._context, self._queries, self._groups = context, queries, groups
        self._start = np.ascontiguousarray(np.cos(np.minimum(far + tuning.HALO_SPARE, np.pi)))
        most = min(max(tuning.HALO_ROWS, 4 * context.k), rows)
        view = View(context, surely_sharp(context.payload), queries)
        self._screener = parallel.PerThread(
            lambda: context.screener(view.lens(queries, groups.most), queries, groups.most, k=most)
        )

    def sample(self, anchors: int) -> list[int]:
        """Some groups, of about so many anchors."""
        count = -(-anchors // max(1, self._groups.most))
        groups: list[int] = np.unique(np.linspace(0, len(self._groups) - 1, count).astype(np.int64)).tolist()
        return groups

    def parts(self, groups: Iterable[int]) -> list[Part]:
        """For each of some groups, its anchors and what `covertreex._core.halos.surround` returns."""
        return self._context.run([partial(self._surround, group) for group in groups])

    def _surround(self, group: int) -> Part:
        payload, (first, last) = self._context.payload, self._groups.span(group, group + 1)
        found = surround(
            self._screener.get(), first, last - first, self._start[first:last], len(payload), payload.slack_rel,
            payload.slack_abs,
        )  # fmt: skip
        return self._queries.rows[first:last], *found


def _halos(payload: PayloadStore, k: int, near: float, parts: list[Part], more: Iterable[Part] = ()) -> Halos:
    """`Halos` of the parts that a `_Builder` made; of the anchors around a row the nearest is its own, if it is `near`.

    Those of `more` serve no row but themselves.
    """
    both = zip(*parts, *more, strict=True)
    anchors, counts, radii, rows, angles = (np.concatenate(arrays) for arrays in both)
    shared = sum(len(part[3]) for part in parts)
    best = np.full(len(payload), np.inf, dtype=np.float32)
    np.minimum.at(best, rows[:shared], angles[:shared])
    nearest = np.flatnonzero((angles[:shared] == best[rows[:shared]]) & (angles[:shared] <= np.arccos(near)))
    number = np.full(len(payload), -1)
    number[rows[nearest]] = np.searchsorted(np.cumsum(counts), nearest, side="right")
    number[anchors] = np.arange(len(anchors))
    return Halos(
        k=k,
        anchors=anchors,
        ptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        rows=rows,
        angles=angles,
        radii=radii,
        number=number,
        slack_abs=payload.slack_abs,
    )
