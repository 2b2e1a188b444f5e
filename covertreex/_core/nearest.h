/* Loops over candidate coordinates for nearest.pyx, in float32: they choose candidates and decide nothing. */
#ifndef COVERTREEX_NEAREST_H
#define COVERTREEX_NEAREST_H

#include "screen.h"

#define CX_BLOCK 32 /* rows per box */

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
    for (int round = 0; round < 24; ++round) {
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

/* Rows within `bound` of one query, in blocks of CX_BLOCK with boxes low and high, (d, blocks) each: their squared
 * distances and places; returns how many. A block is looked into only if its box is within the bound. */
CX_SCREEN_CLONES CX_UNUSED static ptrdiff_t cx_nearest_within(const float *query, int32_t limit, float bound, ptrdiff_t d,
                                                              const float *coords, ptrdiff_t stride,
                                                              const int32_t *rank, const float *low, const float *high,
                                                              ptrdiff_t blocks, float *box, float *kept,
                                                              int32_t *places)
{
    ptrdiff_t size = 0;
    for (ptrdiff_t b = 0; b < blocks; ++b)
        box[b] = 0.0f;
    for (ptrdiff_t j = 0; j < d; ++j)
        for (ptrdiff_t b = 0; b < blocks; ++b) {
            float under = low[j * blocks + b] - query[j], over = query[j] - high[j * blocks + b];
            float gap = under > over ? under : over;
            gap = gap > 0.0f ? gap : 0.0f;
            box[b] += gap * gap;
        }
    for (ptrdiff_t b = 0; b < blocks; ++b) {
        if (box[b] > bound)
            continue;
        float values[CX_BLOCK] = {0.0f};
        for (ptrdiff_t j = 0; j < d; ++j)
            for (int i = 0; i < CX_BLOCK; ++i) {
                float t = coords[j * stride + b * CX_BLOCK + i] - query[j];
                values[i] += t * t;
            }
        for (int i = 0; i < CX_BLOCK; ++i) {
            kept[size] = values[i];
            places[size] = (int32_t)(b * CX_BLOCK + i);
            size += values[i] <= bound && rank[b * CX_BLOCK + i] < limit;
        }
    }
    return size;
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
