/* Loops over candidate coordinates for nearest.pyx, in float32: they choose candidates and decide nothing. */
#ifndef COVERTREEX_NEAREST_H
#define COVERTREEX_NEAREST_H

#include "screen.h"

/* Squared distances of one query from `count` candidates, coords being (d, stride); `far` where the rank is not below
 * the limit. */
CX_SCREEN_CLONES CX_UNUSED static void cx_nearest_distances(const float *query, const float *coords, ptrdiff_t d,
                                                            ptrdiff_t stride, ptrdiff_t count, const int32_t *rank,
                                                            int32_t limit, float far, float *out)
{
    for (ptrdiff_t i = 0; i < count; ++i)
        out[i] = 0.0f;
    for (ptrdiff_t j = 0; j < d; ++j)
        for (ptrdiff_t i = 0; i < count; ++i) {
            float t = coords[j * stride + i] - query[j];
            out[i] += t * t;
        }
    for (ptrdiff_t i = 0; i < count; ++i)
        out[i] = rank[i] < limit ? out[i] : far;
}

/* A threshold that about K of the values do not exceed, at least K if there are so many below `far`. */
CX_SCREEN_CLONES CX_UNUSED static float cx_nearest_threshold(const float *values, ptrdiff_t count, ptrdiff_t K, float far)
{
    float high = 0.0f, low = 0.0f;
    int32_t within = 0;
    for (ptrdiff_t i = 0; i < count; ++i) {
        float v = values[i] < far ? values[i] : 0.0f;
        high = v > high ? v : high;
        within += values[i] < far;
    }
    if (within <= K)
        return high;
    for (int round = 0; round < 20; ++round) {
        float middle = 0.5f * (low + high);
        int32_t below = 0;
        for (ptrdiff_t i = 0; i < count; ++i)
            below += values[i] <= middle;
        if (below < K)
            low = middle;
        else {
            high = middle;
            if (below <= K + K / 16)
                break;
        }
    }
    return high;
}

CX_SCREEN_CLONES CX_UNUSED static void cx_nearest_mark(const float *values, ptrdiff_t count, float threshold,
                                                       uint8_t *marks)
{
    for (ptrdiff_t i = 0; i < count; ++i)
        marks[i] |= values[i] <= threshold;
}

/* Squared distance between the box [low, high] and each of `count` boxes. */
CX_INLINE double cx_box_distance(const double *low, const double *high, const double *box_low, const double *box_high,
                                 ptrdiff_t d)
{
    double total = 0.0;
    for (ptrdiff_t j = 0; j < d; ++j) {
        double gap = box_low[j] - high[j], other = low[j] - box_high[j];
        gap = gap > other ? gap : other;
        total += gap > 0.0 ? gap * gap : 0.0;
    }
    return total;
}

#endif
