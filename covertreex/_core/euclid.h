/* Loops of euclid.pyx. docs/mathematics.md, E1 to E3, say why nothing that they reject can be a neighbour. */
#ifndef COVERTREEX_EUCLID_H
#define COVERTREEX_EUCLID_H

#include "sort.h"

#define CX_LEAF 32 /* rows of a leaf, at most */
#define CX_FAN 8   /* boxes in a box */

typedef float cx_f8 __attribute__((vector_size(32)));
typedef int32_t cx_i8 __attribute__((vector_size(32)));

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

#endif
