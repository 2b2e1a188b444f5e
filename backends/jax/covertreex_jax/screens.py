"""Level S on a device: batched products, a bound of their error, and a word of bits for every 32 pairs.

Rows and queries are multiplied tile by tile. Of a tile the host is told which pairs may reach their threshold, which
rises with what the tiles before have made certain (docs/mathematics.md, V1 to V8; C1 and C6 for the bound).
"""

import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from covertreex.protocols import BackendError, Declined, margin
from covertreex_jax.kernels import Correlation

#: float32 serves if what it adds to the ``|rho|`` of a typical pair is no more; else float64 does.
BLUR = 1e-2

#: Rows of a tile, on a CPU and elsewhere, where a call costs more; and the least.
TILES, LEAST = {"cpu": 4096}, 1024
TILE = 32768

#: Queries, and neighbours, are filled up to one of these numbers, so that few programs are compiled.
WIDTHS = (32, 128, 512, 1024, 2048)

#: Queries farther than this from all data, in lengthscales, are moved nearer, if correlations there are no more.
FAR, GONE = 100.0, 1e-43

#: Bounds are made larger by this factor, for their own rounding.
WIDER = 1.0 + 1e-5

#: Rows that tell on every new copy whether the device computes as well as the bound says.
TRUSTED = 64


def prepare(payload, device, memory):
    """A `Handle` on a device; see `JaxBackend`."""
    kernel, p = payload.covariance, payload.p
    n, m, d = len(payload), payload.factors.shape[1], payload.coords.shape[1]
    device = next(iter(jnp.zeros(()).devices())) if device is None else device
    length = longest(payload.factors)
    low, high = payload.coords.min(axis=0), payload.coords.max(axis=0)
    dtype = None
    for wanted in (np.float32, np.float64):
        own = margin(kernel, m, d, length, float(np.max(high - low)), float(np.finfo(wanted).eps) / 2)
        if own / float(np.median(p)) <= BLUR:
            dtype = wanted
            break
    if dtype is None:
        raise Declined("residual variances are too small for float64")
    bytes_needed = n * (m + d + 1) * np.dtype(dtype).itemsize
    free = room(device) if memory is None else memory
    if bytes_needed > free:
        raise Declined(f"its copy of the data takes {bytes_needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB may be used")
    try:
        correlation = Correlation(kernel, d)
        handle = Handle(kernel, correlation, dtype, device, length, low, high, own, m)
        handle.upload(payload.factors, payload.coords, p)
    except LookupError as error:
        raise Declined(str(error)) from None
    except jax.errors.JaxRuntimeError as error:
        raise Declined(f"{device} refused its copy of the data: {str(error).splitlines()[0]}") from None
    handle.check(payload)
    return handle


def longest(factors):
    """The largest ``|v|**2``."""
    return float(np.max(np.einsum("ij,ij->i", factors, factors), initial=0.0))


def room(device):
    """Bytes that a copy may take: four fifths of what is free, if the device says so."""
    stats = device.memory_stats() or {}
    limit = stats.get("bytes_limit")
    return np.inf if limit is None else 0.8 * (limit - stats.get("bytes_in_use", 0))


class Handle:
    """A payload's copy on a device, and the facts that bounds are made of. It holds no array of the payload (V6)."""

    def __init__(self, kernel, correlation, dtype, device, length, low, high, own, m):
        self.kernel, self.correlation, self.dtype, self.device = kernel, correlation, dtype, device
        self.length, self.low, self.high, self.margin, self.m = length, low, high, own, m
        self.centre = 0.5 * (low + high)
        self.far = FAR if kernel.beyond(FAR) <= GONE else np.inf
        self.floor = 20.0 * float(np.finfo(dtype).eps)
        self.tile, self._lock = TILES.get(device.platform, TILE), threading.Lock()

    def __str__(self):
        return f"{np.dtype(self.dtype).name} on {self.device}"

    def precision(self):
        """A context in which the device has the handle's precision."""
        enable = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64  # before 0.8
        return enable(self.dtype is np.float64)

    def put(self, array):
        """An array on the device."""
        return jax.device_put(array, self.device)

    def upload(self, factors, coords, p):
        """Copy the data."""
        with self.precision():
            self.arrays = (
                self.put(factors.astype(self.dtype)),
                self.put((coords - self.centre).astype(self.dtype)),
                self.put((1.0 / np.sqrt(p)).astype(self.dtype)),
            )
            jax.block_until_ready(self.arrays)

    def delete(self):
        """Free the copy."""
        for array in self.arrays:
            array.delete()

    def check(self, payload):
        """That the device computes as well as the bound says, on a sample: a device may round more than one thinks.

        Raises
        ------
        Declined
            If it does not.
        """
        rows = np.linspace(0, len(payload) - 1, min(TRUSTED, len(payload))).astype(np.int64)
        value = payload.covariance.of_scaled(payload.coords[rows], payload.coords[rows])
        value -= payload.factors[rows] @ payload.factors[rows].T
        scale = 1.0 / np.sqrt(payload.p[rows])
        with self.precision():
            found = _pairs(self.correlation, self.kernel.variance, *(array[rows] for array in self.arrays),
                           *(array[rows] for array in self.arrays))  # fmt: skip
            off = np.abs(np.asarray(found, dtype=np.float64) - np.abs(value) * np.outer(scale, scale))
        # `of_scaled` may be the function that a table was made of, and not the table.
        numerator = self.margin + self.kernel.variance * self.kernel.value_error
        allowed = numerator * np.outer(scale, scale) + self.floor
        if not np.all(off <= allowed):
            raise Declined(
                f"{self.device} computes |rho| with errors up to {np.max(off):.2g}, beyond the bound of "
                f"{np.dtype(self.dtype).name}"
            )

    def asked(self, queries, width):
        """Of `width` queries, on the device: factors, coordinates, scales, bounds, rows, limits, excluded rows."""
        rows = queries.rows
        outside = np.flatnonzero(rows < 0)
        own = np.full(width, self.margin)
        factors = np.zeros((width, self.m), dtype=self.dtype)
        coords, scale = np.zeros((width, len(self.centre)), dtype=self.dtype), np.zeros(width, dtype=self.dtype)
        if len(outside):
            at = -1 - rows[outside]
            v, x = queries.factors[at], np.clip(queries.coords[at], self.low - self.far, self.high + self.far)
            extent = np.max(np.maximum(self.high, x.max(axis=0)) - np.minimum(self.low, x.min(axis=0)))
            length, roundoff = max(self.length, longest(v)), float(np.finfo(self.dtype).eps) / 2
            own[outside] = margin(self.kernel, self.m, x.shape[1], length, float(extent), roundoff)
            factors[outside], coords[outside], scale[outside] = v, x - self.centre, 1.0 / np.sqrt(queries.p[at])
        places = [_filled(one, width, fill) for one, fill in
                  ((rows, 0), (queries.limit, 0), (queries.exclude, -1))]  # fmt: skip
        given = [self.put(one) for one in (factors, coords, scale, (own * WIDER).astype(self.dtype), *places)]
        return _gathered(*self.arrays, *given)


def _filled(values, width, fill):
    """Whole numbers as the device has them, filled up."""
    out = np.full(width, fill, dtype=np.int32)
    out[: len(values)] = values
    return out


@jax.jit
def _gathered(all_factors, all_coords, all_scale, factors, coords, scale, own, rows, limit, exclude):
    inside, at = (rows >= 0)[:, None], jnp.maximum(rows, 0)
    factors, coords = jnp.where(inside, all_factors[at], factors), jnp.where(inside, all_coords[at], coords)
    return factors, coords, jnp.where(inside[:, 0], all_scale[at], scale), own, rows, limit, exclude


def _pairs(correlation, variance, factors, coords, scale, row_factors, row_coords, row_scale):
    """``|rho|`` of queries and rows; products in full float32 (or float64), not in tensor cores' shorter formats."""
    products = jax.lax.dot_general(factors, row_factors, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST)
    return jnp.abs(variance * correlation(coords, row_coords) - products) * scale[:, None] * row_scale


@partial(jax.jit, static_argnames=("correlation",))
def _look(arrays, asked, rows, rank, threshold, best, k, variance, floor, *, correlation):
    """Which pairs of a tile may reach their threshold, as bits, and the thresholds and the best lows after it (V2)."""
    factors, coords, scale, own, own_rows, limit, exclude = asked
    all_factors, all_coords, all_scale = arrays
    row_scale = all_scale[rows]
    rho = _pairs(correlation, variance, factors, coords, scale, all_factors[rows], all_coords[rows], row_scale)
    slack = (own * scale)[:, None] * row_scale + floor
    allowed = (rank < limit[:, None]) & (rows != exclude[:, None])
    itself = rows == own_rows[:, None]  # V3
    if best.shape[1]:
        low = jnp.where(itself, 1.0, jnp.minimum(rho - slack, 1.0))
        low = jnp.where(allowed, low, -jnp.inf)
        # The largest of each part of the tile: k of these are lows of k different rows. Neighbours lie side by side, so
        # a part takes every so-manieth row.
        parts = min(len(rows), max(128, 1 << (8 * best.shape[1] - 1).bit_length()))
        tops = jnp.max(low.reshape(len(low), -1, parts), axis=1)
        best = jax.lax.top_k(jnp.concatenate([best, tops], axis=1), best.shape[1])[0]
        threshold = jnp.maximum(threshold, jnp.take(best, k - 1, axis=1))
    hits = allowed & (itself | ~(rho + slack < threshold[:, None]))
    bits = hits.reshape(len(hits), -1, 32).astype(jnp.uint32) << jnp.arange(32, dtype=jnp.uint32)
    return jnp.sum(bits, axis=2, dtype=jnp.uint32), threshold, best


def shortlist(handle, plan, thresholds, k, out):
    """See `covertreex.protocols.Screening.shortlist`."""
    lists = [np.zeros(0, dtype=np.int64)]
    for places, rows in _groups(plan):
        for start in range(places.start, places.stop, WIDTHS[-1]):
            some = slice(start, min(start + WIDTHS[-1], places.stop))
            queries = plan.queries.slice(some.start, some.stop)
            with handle.precision():
                found, out.counts[some] = _answer(handle, queries, rows, thresholds[some], k, out)
            lists.append(found)
    return np.concatenate(lists)


def _groups(plan):
    """Slices of queries and the rows that they look at; groups of the same runs are one."""
    begin, runs = 0, None
    bounds = plan.run_ptr
    for group in range(len(plan.group_ptr) - 1):
        part = slice(bounds[group], bounds[group + 1])
        own = np.stack([plan.run_start[part], plan.run_stop[part]])
        if runs is not None and not np.array_equal(own, runs):
            yield slice(begin, int(plan.group_ptr[group])), _rows(runs)
            begin = int(plan.group_ptr[group])
        runs = own
    if runs is not None:
        yield slice(begin, int(plan.group_ptr[-1])), _rows(runs)


def _rows(runs):
    return np.concatenate([np.zeros(0, dtype=np.int64), *(np.arange(*run) for run in runs.T)])


def _answer(handle, queries, rows, thresholds, k, out):
    """The rows of some queries that stand, one query's after the other's, and how many each has."""
    while True:
        tile = handle.tile
        try:
            return _look_at_all(handle, queries, rows, thresholds, k, out, tile)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            if tile <= LEAST:
                raise BackendError(
                    f"{handle.device} has no memory for {WIDTHS[-1]} queries and {tile} rows at a time; free some, or "
                    "choose another backend."
                ) from error
            handle.tile = max(LEAST, tile // 2)


def _look_at_all(handle, queries, rows, thresholds, k, out, tile):
    q = len(queries)
    rows = rows[queries.rank[rows] < queries.limit.max(initial=0)]
    if not q or not len(rows):
        return np.zeros(0, dtype=np.int64), np.zeros(q, dtype=np.int64)
    width, tile = next(w for w in WIDTHS if w >= q), LEAST if len(rows) <= LEAST else tile
    asked = handle.asked(queries, width)
    # Rounded down: no threshold may rise.
    start = np.full(width, -np.inf, dtype=handle.dtype)
    start[:q] = np.nextafter(np.maximum(thresholds, -2.0).astype(handle.dtype), handle.dtype(-np.inf))
    places = 0 if k == 0 or k > len(rows) else next((w for w in WIDTHS if w >= k), k)
    threshold, best = handle.put(start), handle.put(np.full((width, places), -np.inf, dtype=handle.dtype))
    found, waiting = [], None
    for begin in range(0, len(rows), tile):
        if out.cancel[0]:  # V8
            break
        part = rows[begin : begin + tile]
        words, threshold, best = _look(
            handle.arrays, asked, handle.put(_filled(part, tile, 0)),
            handle.put(_filled(queries.rank[part], tile, np.iinfo(np.int32).max)), threshold, best, k,
            handle.dtype(handle.kernel.variance), handle.dtype(handle.floor), correlation=handle.correlation,
        )  # fmt: skip
        out.pairs[0] += q * len(part)
        if waiting is not None:  # the device goes on meanwhile
            found.append(_unpacked(*waiting))
        waiting = words, part
    if waiting is not None:
        found.append(_unpacked(*waiting))
    owner, kept = (np.concatenate(parts) for parts in zip(*found, strict=True)) if found else (np.zeros(0, int),) * 2
    return kept[np.argsort(owner, kind="stable")], np.bincount(owner, minlength=q)[:q]


def _unpacked(words, rows):
    """Queries and rows of the bits that are set."""
    words = np.asarray(words)
    q, word = np.nonzero(words)
    bits = np.unpackbits(words[q, word].astype("<u4").view(np.uint8).reshape(-1, 4), axis=1, bitorder="little")
    at, bit = np.nonzero(bits)
    return q[at], rows[32 * word[at] + bit]
