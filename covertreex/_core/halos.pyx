"""Halos: rows around an anchor by angle, and the walk of a query through them (docs/mathematics.md, H1).

Under residual correlation angles between lines are a metric. A query near an anchor meets its own nearest rows early on
the way outwards from the anchor, and may stop where all rows that follow are too far from it.
"""

from libc.math cimport INFINITY, asin, sin, sqrt
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport qsort

import numpy as np

from covertreex._core.kbest cimport KBest, Neighbor, offer
from covertreex._core.queries cimport QueriesView
from covertreex._core.screen cimport Lens, Screener, Survivor

cdef enum:
    AHEAD = 3  # rows that are on their way while one is looked at

# H1: more than asin, sqrt and the products around them are off by, relatively.
cdef double GUARD = 2.0 ** -46

cdef struct Slack:
    double rel, abs  # B1


cdef double angle(double square) noexcept nogil:
    return 2.0 * asin(sqrt(0.5 * min(square, 1.0))) if square > 0.0 else 0.0


cdef double least_angle(double rho, Slack slack) noexcept nogil:
    """H1: two lines whose canonical |rho| is at most `rho` are no nearer than this."""
    return angle((1.0 - rho) * (1.0 - 2.0 * slack.rel) - slack.abs) * (1.0 - GUARD)


cdef double largest_angle(double rho, Slack slack) noexcept nogil:
    """H1: two lines whose canonical |rho| is at least `rho` are no farther than this."""
    return angle((1.0 - min(rho, 1.0)) * (1.0 + 2.0 * slack.rel) + slack.abs) * (1.0 + GUARD)


cdef double last_angle(double near, double threshold, double more, Slack slack) noexcept nogil:
    """H1: a row whose least angle from the anchor is above this has a canonical |rho| below `threshold`.

    `near` is the largest angle between query and anchor, `more` what the slack has grown by since the halos were made.
    """
    cdef double far, half
    if threshold == -INFINITY:
        return INFINITY
    far = (near + largest_angle(threshold, slack)) * (1.0 + GUARD)
    if more > 0.0:
        half = sin(0.5 * min(far, 1.6)) * (1.0 + GUARD)
        far = INFINITY if 2.0 * half * half + more >= 1.0 else angle(2.0 * half * half + more) * (1.0 + GUARD)
    return far


def angles(rho, double slack_rel, double slack_abs):
    """The least and the largest true angle of lines whose canonical ``|rho|`` are these.

    Parameters
    ----------
    rho : ndarray
    slack_rel, slack_abs : float
        B1.

    Returns
    -------
    ndarray, shape (2, len(rho))
    """
    cdef Slack slack = Slack(slack_rel, slack_abs)
    cdef double value
    return np.array([[least_angle(value, slack), largest_angle(value, slack)] for value in rho]).reshape(-1, 2).T


cdef int nearer(const void *a, const void *b) noexcept nogil:
    cdef double x = (<const Survivor *>a).high, y = (<const Survivor *>b).high
    return (x < y) - (x > y)


def surround(Screener screener, Py_ssize_t first, Py_ssize_t size, const double[::1] start, Py_ssize_t n,
             double slack_rel, double slack_abs):
    """The halos of some anchors.

    Parameters
    ----------
    screener : Screener
        Its queries are the anchors, its k the rows that a halo has at most, but for ties.
    first, size : int
        Anchors `first` to ``first + size``.
    start : ndarray, shape (size,)
        Rows whose ``|rho|`` is sure to be below this are left out.
    n : int
        Payload rows.
    slack_rel, slack_abs : float
        B1.

    Returns
    -------
    counts : ndarray, shape (size,), int64
        Rows in each halo.
    radii : ndarray, shape (size,)
        No row that was left out is nearer to the anchor; inf if none was.
    rows, angles : ndarray, int32 and float32
        Of one halo after the other, with angles that are never too large, ascending.
    """
    cdef Slack slack = Slack(slack_rel, slack_abs)
    cdef Py_ssize_t i, j, kept, total = 0, at = 0
    cdef int64_t row
    counts, radii = np.zeros(size, dtype=np.int64), np.zeros(size)
    cdef int64_t[::1] count = counts
    cdef double[::1] radius = radii
    cdef Survivor *list
    cdef double value
    cdef float rounded
    with nogil:
        screener.begin(first, size, &start[0])
        screener.aim(screener.broad)
        for row in range(n):
            screener.feed(screener.broad, row)
            if screener.filled == 0 and screener.cancel[0]:
                break
        screener.compare(screener.broad)
        for i in range(size):
            list, kept = screener.lists[i].at, 0
            for j in range(screener.lists[i].size):
                if list[j].high >= screener.lists[i].threshold:
                    list[kept] = list[j]
                    kept += 1
            qsort(list, kept, sizeof(Survivor), nearer)
            count[i] = kept
            total += kept
            radius[i] = INFINITY
            if screener.lists[i].threshold > -INFINITY:
                radius[i] = least_angle(screener.lists[i].threshold, slack)
    rows, angles = np.empty(total, dtype=np.int32), np.empty(total, dtype=np.float32)
    cdef int32_t[::1] row_at = rows
    cdef float[::1] angle_at = angles
    with nogil:
        for i in range(size):
            for j in range(count[i]):
                value = least_angle(screener.lists[i].at[j].high, slack)
                row_at[at] = <int32_t>screener.lists[i].at[j].row
                rounded = <float>value
                # Half a unit in the last place up is more than one rounding to nearest adds.
                angle_at[at] = rounded * <float>(1.0 - 2.0 ** -23)
                at += 1
    return counts, radii, rows, angles


def walk(Lens lens, queries, view, halos, const int64_t[::1] number, Py_ssize_t k, double slack_abs, double slack_rel,
         Py_ssize_t first, Py_ssize_t stop, const int32_t[::1] cancel):
    """Queries `first` to `stop` walk through halos.

    Parameters
    ----------
    lens : Lens
        In float64.
    queries : QueryBlock
    view : PayloadView
    halos : covertreex.halos.Halos
    number : ndarray, shape (q,), int64
        The anchor of each query; -1 for none.
    k : int
    slack_abs, slack_rel : float
        B1, of rows and these queries.
    first, stop : int
    cancel : ndarray, shape (1,), int32

    Returns
    -------
    counts : ndarray, shape (stop - first,), int64
        Rows of each query that may be among its k nearest, if it is certified; else 0.
    rows : ndarray, int64
        Those of one query after the other.
    thresholds : ndarray, shape (stop - first,)
        What the k-th best ``|rho|`` of each query is sure to reach.
    certified : ndarray, shape (stop - first,), bool
        Whether all other rows are too far.
    looked : int
        Rows looked at.
    """
    cdef QueriesView asked = QueriesView(queries, view)
    cdef Slack slack = Slack(slack_rel, slack_abs)
    cdef double more = max(0.0, slack_abs - halos.slack_abs)
    cdef const int64_t[::1] anchors = halos.anchors, ptr = halos.ptr
    cdef const int32_t[::1] rows = halos.rows
    cdef const float[::1] angles = halos.angles
    cdef const double[::1] radii = halos.radii
    cdef Py_ssize_t q, e, end, i, c, size, total = 0, looked = 0, most = halos.most
    cdef int64_t row, own, exclude, limit
    cdef double near, last, low, high, rho, threshold
    cdef bint stale, sure
    counts, thresholds = np.zeros(stop - first, dtype=np.int64), np.full(stop - first, -np.inf)
    certified = np.zeros(stop - first, dtype=bool)
    found = np.empty((stop - first) * (k + 8), dtype=np.int64)
    highs, seen = np.empty(most), np.empty(most, dtype=np.int64)
    heap = np.empty(k, dtype=[("distance", "f8"), ("index", "i8")])
    cdef int64_t[::1] count = counts, kept = found, seen_row = seen
    cdef double[::1] threshold_of = thresholds, seen_high = highs
    cdef unsigned char[::1] is_certified = certified.view(np.uint8)
    cdef Neighbor[::1] places = heap
    cdef KBest best
    best.at, best.k = &places[0], k
    with nogil:
        for q in range(first, stop):
            c = number[q]
            if c < 0 or cancel[0]:
                continue
            own, exclude, limit = asked.rows[q], asked.exclude[q], asked.limit[q]
            near = 0.0
            if own != anchors[c]:
                near = largest_angle(lens.pair(anchors[c], own) - lens.slack(anchors[c], own), slack)
            threshold, last, stale, sure = -INFINITY, INFINITY, False, False
            best.size, size, end = 0, 0, ptr[c + 1]
            for e in range(ptr[c], min(ptr[c] + AHEAD, end)):
                lens.fetch(rows[e])
            for e in range(ptr[c], end):
                if stale and e % 4 == 0:
                    last, stale = last_angle(near, threshold, more, slack), False
                if angles[e] > last:
                    sure = True
                    break
                if e + AHEAD < end:
                    lens.fetch(rows[e + AHEAD])
                row = rows[e]
                if row == exclude or asked.rank[row] >= limit:
                    continue
                if row == own:  # d(i, i) = 0, whatever rho computes
                    low, high = 1.0, INFINITY
                else:
                    rho, low = lens.pair(row, own), lens.slack(row, own)
                    low, high = min(rho - low, 1.0), rho + low
                looked += 1
                if high < threshold:
                    continue
                seen_high[size], seen_row[size] = high, row
                size += 1
                if offer(&best, -low, row) and best.size == k and -best.at[0].distance > threshold:
                    threshold, stale = -best.at[0].distance, True
            if not sure:
                sure = radii[c] > last_angle(near, threshold, more, slack) or radii[c] == INFINITY
            threshold_of[q - first] = threshold
            is_certified[q - first] = sure
            if not sure:
                continue
            if total + size > kept.shape[0]:
                with gil:
                    found = np.concatenate([found, np.empty(len(found) + size, dtype=np.int64)])
                    kept = found
            for i in range(size):
                if seen_high[i] >= threshold:
                    kept[total] = seen_row[i]
                    total += 1
                    count[q - first] += 1
    return counts, found[:total], thresholds, certified, looked
