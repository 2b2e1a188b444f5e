"""Level S in NumPy: products by BLAS in float32, all else in float64 (docs/mathematics.md, V1 to V8)."""

import numpy as np

from covertreex.protocols import margin

#: Rows that are looked at together.
TILE = 2048

#: What float64 adds to a ``|rho|``: two roots, a product and a division.
FLOOR = 32 * 2.0**-53


class Points:
    """What a product wants of rows, or of queries."""

    def __init__(self, factors, coords, p):
        self.factors, self.coords, self.scale = factors.astype(np.float32), coords.copy(), 1.0 / np.sqrt(p)
        self.length = float(np.max(np.einsum("ij,ij->i", factors, factors), initial=0.0))


class Handle:
    """A payload's copy. It holds neither the payload nor its arrays (V6)."""

    def __init__(self, payload):
        self.kernel, self.rows = payload.kernel, Points(payload.factors, payload.coords, payload.p)

    def __str__(self):
        return "float32 products by BLAS"

    def asked(self, queries):
        """Factors, coordinates and scales of queries, of which some are rows and others not, and their error bound."""
        rows, more = queries.rows, Points(queries.factors, queries.coords, queries.p)
        parts = []
        for name in ("factors", "coords", "scale"):
            part = getattr(self.rows, name)[np.maximum(rows, 0)]
            part[rows < 0] = getattr(more, name)[-1 - rows[rows < 0]]
            parts.append(part)
        return *parts, self.error(max(self.rows.length, more.length), np.concatenate([self.rows.coords, parts[1]]))

    def error(self, length, coords):
        """How far ``k - v . v`` may be off (V2), given the largest ``|v|**2``.

        All but the product is in float64. For the product both factors were rounded to float32, each of m terms is
        rounded once or twice, and they are added in some order, fused or not, as BLAS likes: that makes at most
        (m + 2) 2^-24 |v|^2, and twice as much is allowed.
        """
        m, d = self.rows.factors.shape[1], coords.shape[1]
        double = margin(self.kernel, m, d, length, float(np.max(np.ptp(coords, axis=0))), 2.0**-53)
        # A kernel by tables is not quite the function that they were made of.
        return double + self.kernel.variance * self.kernel.value_error + (m + 16) * 2.0**-23 * length

    def bounds(self, asked, tile):
        """``|rho|`` of queries and the rows of a tile, and how far that may be off."""
        factors, coords, scale, error = asked
        value = self.kernel.of_scaled(coords, self.rows.coords[tile]) - factors @ self.rows.factors[tile].T
        scale = scale[:, None] * self.rows.scale[tile]
        return np.abs(value) * scale, error * scale + FLOOR


def shortlist(handle, plan, thresholds, k, out):
    """See `covertreex.protocols.Screening.shortlist`."""
    lists = [np.zeros(0, dtype=np.int64)]
    for group in range(len(plan.group_ptr) - 1):
        places = slice(plan.group_ptr[group], plan.group_ptr[group + 1])
        runs = range(plan.run_ptr[group], plan.run_ptr[group + 1])
        rows = [np.arange(plan.run_start[run], plan.run_stop[run]) for run in runs]
        queries = plan.queries.slice(places.start, places.stop)
        if rows and len(queries):
            found, out.counts[places] = look(handle, queries, np.concatenate(rows), thresholds[places], k, out)
            lists.append(found)
    return np.concatenate(lists)


def look(handle, queries, rows, thresholds, k, out):
    """The short lists of one group, one after the other, and how long each is."""
    rows = rows[queries.rank[rows] < queries.limit.max()]
    asked, threshold = handle.asked(queries), thresholds.copy()
    best = np.full((len(queries), k), -np.inf)
    found = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))]
    for begin in range(0, len(rows), TILE):
        if out.cancel[0]:  # V8
            break
        tile = rows[begin : begin + TILE]
        allowed = (queries.rank[tile] < queries.limit[:, None]) & (tile != queries.exclude[:, None])
        rho, slack = handle.bounds(asked, tile)
        itself = tile == queries.rows[:, None]  # V3
        low = np.where(itself, 1.0, np.minimum(rho - slack, 1.0))
        high = np.where(itself, np.inf, rho + slack)
        if k:  # the k-th largest of what is certain is a threshold, too
            best = np.concatenate([best, np.where(allowed, low, -np.inf)], axis=1)
            best = np.partition(best, -k, axis=1)[:, -k:]
            threshold = np.maximum(threshold, best.min(axis=1))
        q, at = np.nonzero(allowed & ~(high < threshold[:, None]))
        found.append((q, tile[at], high[q, at]))
        out.pairs[0] += allowed.size
    q, rows, high = (np.concatenate(parts) for parts in zip(*found, strict=True))
    stays = ~(high < threshold[q])
    q, rows = q[stays], rows[stays]
    return rows[np.argsort(q, kind="stable")], np.bincount(q, minlength=len(queries))
