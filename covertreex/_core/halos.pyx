"""Halos: rows around an anchor by angle, and the walk of a query through them (docs/mathematics.md, H1).

Under residual correlation angles between lines are a metric. A query near an anchor meets its own nearest rows early on
the way outwards from the anchor, and may stop where all rows that follow are too far from it.
"""

from libc.math cimport INFINITY, asin, sin, sqrt
from libc.stdint cimport int32_t, int64_t

import numpy as np

from covertreex._core.screen cimport PANEL, Lens, Screener, Shortlist
from covertreex._core.sort cimport cx_sort

cdef enum:
    AT_ONCE = 8  # rows that a query looks at before it asks whether the next may concern it


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


cdef void take(const Shortlist *found, double *highs, int64_t *rows) noexcept nogil:
    """The rows of a short list that stand, with what their |rho| is at most."""
    cdef Py_ssize_t j, kept = 0
    for j in range(found.size):
        highs[kept], rows[kept] = found.at[j].high, found.at[j].row
        kept += found.at[j].high >= found.threshold


cdef inline float rounded_down(double angle) noexcept nogil:
    """In float32, and no larger: half a unit in the last place up is more than one rounding to nearest adds."""
    cdef float rounded = <float>angle
    return rounded * <float>(1.0 - 2.0 ** -23)


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
    cdef Py_ssize_t i, j, at = 0, longest = 1
    cdef int64_t row
    counts, radii = np.zeros(size, dtype=np.int64), np.full(size, INFINITY)
    cdef int64_t[::1] count = counts
    cdef double[::1] radius = radii
    with nogil:
        screener.begin(first, size, &start[0])
        screener.look_through(screener.broad)
        for row in range(n):
            screener.add(screener.broad, row)
            if screener.filled == PANEL and screener.cancel[0]:
                break
        screener.flush(screener.broad)
        for i in range(size):
            longest = max(longest, screener.lists[i].size)
            for j in range(screener.lists[i].size):
                count[i] += screener.lists[i].at[j].high >= screener.lists[i].threshold
            if screener.lists[i].threshold > -INFINITY:
                radius[i] = least_angle(screener.lists[i].threshold, slack)
    total = counts.sum()
    rows, angles = np.empty(total, dtype=np.int32), np.empty(total, dtype=np.float32)
    cdef int32_t[::1] row_at = rows
    cdef float[::1] angle_at = angles
    # The second of each is scratch of the sort.
    cdef double[:, ::1] highs = np.empty((2, longest))
    cdef int64_t[:, ::1] members = np.empty((2, longest), dtype=np.int64)
    with nogil:
        for i in range(size):
            take(&screener.lists[i], &highs[0, 0], &members[0, 0])
            cx_sort(&highs[0, 0], &members[0, 0], count[i], &highs[1, 0], &members[1, 0])
            for j in range(count[i]):
                row_at[at + j] = <int32_t>members[0, j]
                angle_at[at + j] = rounded_down(least_angle(highs[0, j], slack))
            at += count[i]
    return counts, radii, rows, angles


def walk(Screener screener, halos, const int64_t[::1] number, double slack_abs, double slack_rel, Py_ssize_t first,
         Py_ssize_t stop):
    """Queries `first` to `stop` walk through halos.

    Parameters
    ----------
    screener : Screener
        In float64; the survivors wait for its `take`: of queries that are certified, the rows that may be among the k
        nearest.
    halos : covertreex.search.halos.Halos
    number : ndarray, shape (q,), int64
        The anchor of each query; -1 for none.
    slack_abs, slack_rel : float
        B1, of rows and these queries.
    first, stop : int

    Returns
    -------
    counts : ndarray, shape (stop - first,), int64
        Survivors of each query; 0 if it is not certified.
    thresholds : ndarray, shape (stop - first,)
        What the k-th best ``|rho|`` of each query is sure to reach.
    certified : ndarray, shape (stop - first,), bool
        Whether all other rows are too far.
    """
    cdef Lens lens = screener.broad
    cdef Slack slack = Slack(slack_rel, slack_abs)
    cdef double more = max(0.0, slack_abs - halos.slack_abs)
    cdef const int64_t[::1] anchors = halos.anchors, ptr = halos.ptr
    cdef const int32_t[::1] rows = halos.rows
    cdef const float[::1] angles = halos.angles
    cdef const double[::1] radii = halos.radii
    cdef Py_ssize_t q, e, end, pause, following, i, c, count
    cdef int64_t asked[2 * AT_ONCE]
    cdef double rho[2 * AT_ONCE]
    cdef int64_t own
    cdef double near, last
    counts, thresholds = np.zeros(stop - first, dtype=np.int64), np.full(stop - first, -np.inf)
    certified = np.zeros(stop - first, dtype=bool)
    cdef int64_t[::1] kept = counts
    cdef double[::1] threshold = thresholds
    cdef unsigned char[::1] sure = certified.view(np.uint8)
    with nogil:
        for q in range(first, stop):
            screener.begin(q, 1, NULL)
            c, own = number[q], screener.queries.rows[q]
            if c >= 0 and not screener.cancel[0]:
                near = 0.0
                if own != anchors[c]:
                    lens.correlate(&anchors[c], 1, 0, own, rho)
                    near = largest_angle(rho[0] - lens.slack(anchors[c], own), slack)
                e, end, last = ptr[c], ptr[c + 1], INFINITY
                while e < end and angles[e] <= last:
                    count, pause, following = 0, min(e + AT_ONCE, end), min(e + 2 * AT_ONCE, end)
                    while e < pause:
                        asked[count] = rows[e]
                        count += screener.queries.rank[rows[e]] < screener.queries.limit[q]
                        e += 1
                    for i in range(following - e):
                        asked[count + i] = rows[e + i]
                    screener.screen_rows(lens, 0, asked, count, following - e)
                    last = last_angle(near, screener.lists[0].threshold, more, slack)
                sure[q - first] = e < end or radii[c] > last or radii[c] == INFINITY
            if not sure[q - first]:
                screener.lists[0].size = 0
            screener.finish(&threshold[q - first], &kept[q - first])
    return counts, thresholds, certified
