/* Loops of euclid.pyx. docs/mathematics.md, E1 to E3, say why nothing that they reject can be a neighbour. */
#ifndef COVERTREEX_EUCLID_H
#define COVERTREEX_EUCLID_H

#include "canonical.h"

#define CX_LEAF 32 /* rows of a leaf, at most */
#define CX_FAN 8   /* boxes in a box */

typedef float cx_f8 __attribute__((vector_size(32)));
typedef int32_t cx_i8 __attribute__((vector_size(32)));
typedef int64_t cx_i4 __attribute__((vector_size(32)));

CX_INLINE cx_f8 cx_load8(const float *a)
{
    cx_f8 v;
    memcpy(&v, a, 32);
    return v;
}

/* E2. Bit i is set where row i of a leaf, (d, CX_LEAF), is at a squared distance of at most `reach` from a point, all in
 * float32. */
CX_CLONES CX_UNUSED static uint32_t cx_euclid_rows(const float *leaf, ptrdiff_t count, const float *point, ptrdiff_t d,
                                                   float reach)
{
    cx_f8 a = {0.0f}, b = {0.0f}, c = {0.0f}, e = {0.0f};
    for (ptrdiff_t j = 0; j < d; ++j) {
        const float *x = leaf + j * CX_LEAF;
        float at = point[j];
        cx_f8 q = {at, at, at, at, at, at, at, at}, t;
        t = cx_load8(x) - q;
        a = a + t * t;
        t = cx_load8(x + 8) - q;
        b = b + t * t;
        t = cx_load8(x + 16) - q;
        c = c + t * t;
        t = cx_load8(x + 24) - q;
        e = e + t * t;
    }
    cx_f8 most = {reach, reach, reach, reach, reach, reach, reach, reach};
    cx_i8 bits = {1, 2, 4, 8, 16, 32, 64, 128};
    cx_i4 set = (cx_i4)(((a <= most) & bits) | ((b <= most) & (bits << 8)) | ((c <= most) & (bits << 16)) |
                        ((e <= most) & (bits << 24)));
    uint64_t both = (uint64_t)(set[0] | set[1] | set[2] | set[3]);
    return (uint32_t)(both | both >> 32) & (uint32_t)((UINT64_C(1) << count) - 1);
}

/* The larger of the two, or 0 if neither is above it; both cannot be. */
CX_INLINE cx_v4 cx_gap(cx_v4 under, cx_v4 over)
{
    cx_v4 none = {0.0};
    return (cx_v4)(((cx_i4)under & (under > none)) | ((cx_i4)over & (over > none)));
}

/* E1. Squared distances of a point from the CX_FAN boxes within another, (d, CX_FAN) each. */
CX_CLONES CX_UNUSED static void cx_euclid_boxes(const double *low, const double *high, const double *point, ptrdiff_t d,
                                                double *out)
{
    cx_v4 a = {0.0}, b = {0.0};
    for (ptrdiff_t j = 0; j < d; ++j) {
        cx_v4 q = {point[j], point[j], point[j], point[j]}, gap;
        gap = cx_gap(cx_load4(low + j * CX_FAN) - q, q - cx_load4(high + j * CX_FAN));
        a = a + gap * gap;
        gap = cx_gap(cx_load4(low + j * CX_FAN + 4) - q, q - cx_load4(high + j * CX_FAN + 4));
        b = b + gap * gap;
    }
    memcpy(out, &a, 32);
    memcpy(out + 4, &b, 32);
}

/* The value that comes `kth` (from 0) in ascending order; permutes the values. */
CX_INLINE double cx_euclid_select(double *values, ptrdiff_t count, ptrdiff_t kth)
{
    for (;;) {
        double a = values[0], b = values[count / 2], c = values[count - 1];
        double low = a < b ? a : b, high = a < b ? b : a;
        double pivot = c < low ? low : c > high ? high : c; /* the median of three */
        ptrdiff_t under = 0, upto;
        for (ptrdiff_t i = 0; i < count; ++i) { /* no branches: which side is a coin's toss */
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
        if (kth < upto)
            return pivot;
        values += upto;
        count -= upto;
        kth -= upto;
    }
}

/* Sort at most CX_FEW rows by descending keys, equal ones as they were: each is told its place by how many go before it. */
enum { CX_FEW = 32 };
CX_CLONES CX_UNUSED static void cx_euclid_sort_few(double *keys, int64_t *rows, ptrdiff_t count)
{
    double key[CX_FEW];
    int64_t row[CX_FEW], place[CX_FEW];
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

/* Sort rows by descending keys; many by a merge sort, without branches on keys. The spare arrays are as long. */
CX_INLINE void cx_euclid_sort(double *keys, int64_t *rows, ptrdiff_t count, double *spare_keys, int64_t *spare_rows)
{
    if (count <= CX_FEW) {
        cx_euclid_sort_few(keys, rows, count);
        return;
    }
    double *from = keys, *to = spare_keys;
    int64_t *from_rows = rows, *to_rows = spare_rows;
    for (ptrdiff_t width = 1; width < count; width *= 2) {
        for (ptrdiff_t start = 0; start < count; start += 2 * width) {
            ptrdiff_t middle = start + width < count ? start + width : count;
            ptrdiff_t stop = middle + width < count ? middle + width : count;
            ptrdiff_t i = start, j = middle, at = start;
            while (i < middle && j < stop) {
                int first = from[i] >= from[j];
                ptrdiff_t taken = first ? i : j;
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

#endif
