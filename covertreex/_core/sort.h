/* The one sort and the one selection of the core. Which of two numbers is larger is a coin's toss, so neither branches on
 * it: that is why they are no qsort and no std::sort, of which the core's short lists take two to five times as long, and
 * long ones not quite twice. They allocate nothing. */
#ifndef COVERTREEX_SORT_H
#define COVERTREEX_SORT_H

#include "canonical.h"

typedef int64_t cx_i4 __attribute__((vector_size(32)));

enum { CX_RUN = 32 };

/* Sort a run of at most CX_RUN rows as `cx_sort` does: each is told its place by how many go before it. */
CX_CLONES CX_UNUSED static void cx_sort_run(double *keys, int64_t *rows, ptrdiff_t count)
{
    double key[CX_RUN];
    int64_t row[CX_RUN], place[CX_RUN];
    memcpy(key, keys, (size_t)count * sizeof(double));
    memcpy(row, rows, (size_t)count * sizeof(int64_t));
    for (ptrdiff_t i = count; i < (count + 3) / 4 * 4; ++i)
        key[i] = 0.0;
    for (ptrdiff_t i = 0; i < count; i += 4) {
        cx_v4 own = cx_load4(key + i);
        cx_i4 before = {0}, lane = {0, 1, 2, 3};
        for (ptrdiff_t j = 0; j < i; ++j)
            before -= (cx_i4)(key[j] >= own);
        for (ptrdiff_t j = i; j < i + 4 && j < count; ++j)
            before -= (cx_i4)(key[j] > own) | ((cx_i4)(key[j] == own) & (j - i < lane));
        for (ptrdiff_t j = i + 4; j < count; ++j)
            before -= (cx_i4)(key[j] > own);
        memcpy(place + i, &before, 32);
    }
    for (ptrdiff_t i = 0; i < count; ++i) {
        keys[place[i]] = key[i];
        rows[place[i]] = row[i];
    }
}

/* Sort rows by descending keys, which are numbers; rows of equal keys stay as they were, so that there is one order only.
 * Runs are sorted and then merged. The spare arrays are as long. */
CX_UNUSED static void cx_sort(double *keys, int64_t *rows, ptrdiff_t count, double *spare_keys, int64_t *spare_rows)
{
    double *from = keys, *to = spare_keys;
    int64_t *from_rows = rows, *to_rows = spare_rows;
    for (ptrdiff_t start = 0; start < count; start += CX_RUN)
        cx_sort_run(keys + start, rows + start, count - start < CX_RUN ? count - start : CX_RUN);
    for (ptrdiff_t width = CX_RUN; width < count; width *= 2) {
        for (ptrdiff_t start = 0; start < count; start += 2 * width) {
            ptrdiff_t middle = start + width < count ? start + width : count;
            ptrdiff_t stop = middle + width < count ? middle + width : count;
            ptrdiff_t i = start, j = middle, at = start;
            while (i < middle && j < stop) {
                ptrdiff_t first = from[i] >= from[j], taken = j + (-first & (i - j)); /* i if first, else j */
                to[at] = from[taken];
                to_rows[at++] = from_rows[taken];
                i += first;
                j += 1 - first;
            }
            ptrdiff_t rest = i < middle ? i : j;
            memcpy(to + at, from + rest, (size_t)(stop - at) * sizeof(double));
            memcpy(to_rows + at, from_rows + rest, (size_t)(stop - at) * sizeof(int64_t));
        }
        double *keys_swap = from;
        int64_t *rows_swap = from_rows;
        from = to;
        from_rows = to_rows;
        to = keys_swap;
        to_rows = rows_swap;
    }
    if (from != keys) {
        memcpy(keys, from, (size_t)count * sizeof(double));
        memcpy(rows, from_rows, (size_t)count * sizeof(int64_t));
    }
}

/* The value that comes `kth` (from 0) in ascending order; permutes the values. */
CX_UNUSED static double cx_select(double *values, ptrdiff_t count, ptrdiff_t kth)
{
    for (;;) {
        double a = values[0], b = values[count / 2], c = values[count - 1];
        double low = a < b ? a : b, high = a < b ? b : a;
        double pivot = c < low ? low : c > high ? high : c; /* the median of three */
        ptrdiff_t under = 0, upto;
        for (ptrdiff_t i = 0; i < count; ++i) {
            double v = values[i];
            values[i] = values[under];
            values[under] = v;
            under += v < pivot;
        }
        if (kth < under) {
            count = under;
            continue;
        }
        upto = under;
        for (ptrdiff_t i = under; i < count; ++i) {
            double v = values[i];
            values[i] = values[upto];
            values[upto] = v;
            upto += v == pivot;
        }
        if (kth < upto || upto == 0) /* 0 if the pivot is no number: there is no answer, but an end */
            return pivot;
        values += upto;
        count -= upto;
        kth -= upto;
    }
}

#endif
