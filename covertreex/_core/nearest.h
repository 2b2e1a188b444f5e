/* Loops over coordinates for nearest.pyx, in float32: they choose candidates and decide nothing. */
#ifndef COVERTREEX_NEAREST_H
#define COVERTREEX_NEAREST_H

#include "screen.h"

#define CX_BLOCK 32     /* rows per block */
#define CX_FAR 3.0e38f  /* no distance is as large */

/* Squared distances between one box and `blocks` boxes, whose corners are (d, blocks). */
CX_SCREEN_CLONES CX_UNUSED static void cx_near_boxes(const float *low, const float *high, ptrdiff_t d,
                                                     const float *box_low, const float *box_high, ptrdiff_t blocks,
                                                     float *out)
{
    for (ptrdiff_t b = 0; b < blocks; ++b)
        out[b] = 0.0f;
    for (ptrdiff_t j = 0; j < d; ++j)
        for (ptrdiff_t b = 0; b < blocks; ++b) {
            float under = box_low[j * blocks + b] - high[j], over = low[j] - box_high[j * blocks + b];
            float gap = under > over ? under : over;
            gap = gap > 0.0f ? gap : 0.0f;
            out[b] += gap * gap;
        }
}

/* Squared distances of one query from the rows of the listed blocks, each (d, CX_BLOCK); CX_FAR for rows whose rank is
 * not below the limit. Returns how many are below it. */
CX_SCREEN_CLONES CX_UNUSED static ptrdiff_t cx_near_rows(const float *query, ptrdiff_t stride, int32_t limit,
                                                         ptrdiff_t d, const float *coords, const int32_t *rank,
                                                         const int32_t *blocks, ptrdiff_t count, float *out)
{
    int32_t within = 0;
    for (ptrdiff_t b = 0; b < count; ++b) {
        const float *x = coords + (ptrdiff_t)blocks[b] * d * CX_BLOCK;
        const int32_t *r = rank + (ptrdiff_t)blocks[b] * CX_BLOCK;
        float value[CX_BLOCK];
        for (int i = 0; i < CX_BLOCK; ++i) {
            float t = x[i] - query[0];
            value[i] = t * t;
        }
        for (ptrdiff_t j = 1; j < d; ++j)
            for (int i = 0; i < CX_BLOCK; ++i) {
                float t = x[j * CX_BLOCK + i] - query[j * stride];
                value[i] += t * t;
            }
        for (int i = 0; i < CX_BLOCK; ++i) {
            out[b * CX_BLOCK + i] = r[i] < limit ? value[i] : CX_FAR;
            within += r[i] < limit;
        }
    }
    return within;
}

/* A threshold that about `wanted` of the values do not exceed, at least so many if there are so many below CX_FAR. */
CX_SCREEN_CLONES CX_UNUSED static float cx_near_threshold(const float *values, ptrdiff_t count, ptrdiff_t wanted)
{
    float high = 0.0f, low = 0.0f;
    int32_t within = 0;
    for (ptrdiff_t i = 0; i < count; ++i) {
        float v = values[i] < CX_FAR ? values[i] : 0.0f;
        high = v > high ? v : high;
        within += values[i] < CX_FAR;
    }
    if (within <= wanted)
        return high;
    for (int round = 0; round < 24; ++round) {
        float middle = 0.5f * (low + high);
        int32_t below = 0;
        for (ptrdiff_t i = 0; i < count; ++i)
            below += values[i] <= middle;
        if (below < wanted)
            low = middle;
        else {
            high = middle;
            if (below <= wanted + wanted / 16)
                break;
        }
    }
    return high;
}

/* Rows whose distance to some query, in units of that query's own radius, is in (above, reach] (both squared): their
 * values and places. Queries are (d, stride), `inverse` is 1 / radius^2; a query sees rows below its limit. `far` holds
 * the distances between the box of all queries and the blocks, and `widest` is the largest radius^2. Calls for a group
 * go outwards, each from where the last ended (the first from -1), and keep two things: `best`, (blocks, CX_BLOCK), the
 * values so far, so that a query is compared with a block once; `due`, (blocks,), how far the next thing in a block is.
 * Returns how many.
 */
CX_SCREEN_CLONES CX_UNUSED static ptrdiff_t cx_near_gather(const float *queries, ptrdiff_t stride, ptrdiff_t size,
                                                           const int32_t *limit, const float *inverse, float widest,
                                                           ptrdiff_t d, const float *coords, const int32_t *rank,
                                                           const float *box_low, const float *box_high,
                                                           ptrdiff_t blocks, const float *far, float above,
                                                           float reach, float *gap, float *best, float *due,
                                                           float *values, int32_t *places)
{
    ptrdiff_t kept = 0;
    for (ptrdiff_t b = 0; b < blocks; ++b) {
        if (far[b] > reach * widest)
            continue;
        float *own = best + b * CX_BLOCK;
        int fresh = far[b] > above * widest;
        if (fresh)
            for (int l = 0; l < CX_BLOCK; ++l)
                own[l] = CX_FAR;
        else if (due[b] > reach)
            continue;
        for (ptrdiff_t i = 0; i < stride; ++i)
            gap[i] = 0.0f;
        for (ptrdiff_t j = 0; j < d; ++j)
            for (ptrdiff_t i = 0; i < stride; ++i) {
                float under = box_low[j * blocks + b] - queries[j * stride + i];
                float over = queries[j * stride + i] - box_high[j * blocks + b];
                float t = under > over ? under : over;
                t = t > 0.0f ? t : 0.0f;
                gap[i] += t * t;
            }
        float next = CX_FAR;
        int32_t some = 0;
        for (ptrdiff_t i = 0; i < stride; ++i) {
            gap[i] *= inverse[i];
            float later = gap[i] > reach ? gap[i] : CX_FAR;
            next = later < next ? later : next;
            some |= gap[i] <= reach;
        }
        due[b] = next;
        if (!some)
            continue;
        const float *x = coords + b * d * CX_BLOCK;
        const int32_t *r = rank + b * CX_BLOCK;
        float least[CX_BLOCK]; /* nothing else points to it: its loops become vectors */
        memcpy(least, own, sizeof least);
        for (ptrdiff_t i = 0; i < size; ++i) {
            if (gap[i] > reach || (gap[i] <= above && !fresh))
                continue;
            float value[CX_BLOCK], scale = inverse[i];
            int32_t top = limit[i];
            for (int l = 0; l < CX_BLOCK; ++l) {
                float t = x[l] - queries[i];
                value[l] = t * t;
            }
            for (ptrdiff_t j = 1; j < d; ++j)
                for (int l = 0; l < CX_BLOCK; ++l) {
                    float t = x[j * CX_BLOCK + l] - queries[j * stride + i];
                    value[l] += t * t;
                }
            for (int l = 0; l < CX_BLOCK; ++l) {
                float scaled = value[l] * scale;
                scaled = r[l] < top ? scaled : CX_FAR;
                least[l] = scaled < least[l] ? scaled : least[l];
            }
        }
        memcpy(own, least, sizeof least);
        for (int l = 0; l < CX_BLOCK; ++l) {
            float later = least[l] > reach ? least[l] : CX_FAR;
            next = later < next ? later : next;
        }
        due[b] = next;
        for (int l = 0; l < CX_BLOCK; ++l) {
            values[kept] = least[l];
            places[kept] = (int32_t)(b * CX_BLOCK + l);
            kept += (least[l] > above) & (least[l] <= reach);
        }
    }
    return kept;
}

#endif
