/* Loops over coordinates for nearest.pyx, in float32: they choose candidates and decide nothing. */
#ifndef COVERTREEX_NEAREST_H
#define COVERTREEX_NEAREST_H

#include "screen.h"

#define CX_BLOCK 32     /* rows per block */
#define CX_FAR 3.0e38f  /* no distance is as large */

enum { CX_NEAR_LANES = 8 };

/* a where all bits of `where` are set, b where none is. */
CX_INLINE cx_screen32_vector cx_near_select(cx_screen32_bits where, cx_screen32_vector a, cx_screen32_vector b)
{
    cx_screen32_bits x, y;
    memcpy(&x, &a, 32);
    memcpy(&y, &b, 32);
    x = (x & where) | (y & ~where);
    memcpy(&a, &x, 32);
    return a;
}

CX_INLINE cx_screen32_vector cx_near_least(cx_screen32_vector a, cx_screen32_vector b)
{
    return cx_near_select(a < b, a, b);
}

CX_INLINE cx_screen32_vector cx_near_most(cx_screen32_vector a, cx_screen32_vector b)
{
    return cx_near_select(a > b, a, b);
}

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
    int32_t within = 0, none = 0;
    for (ptrdiff_t i = 0; i < count; ++i) {
        float v = values[i] < CX_FAR ? values[i] : 0.0f;
        high = v > high ? v : high;
        within += values[i] < CX_FAR;
        none += values[i] <= 0.0f;
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
    enum { PARTS = CX_BLOCK / CX_NEAR_LANES };
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
        cx_screen32_vector soonest = (cx_screen32_vector){0} + CX_FAR;
        cx_screen32_bits some = {0};
        for (ptrdiff_t i = 0; i < stride; i += CX_NEAR_LANES) {
            cx_screen32_vector sum = {0};
            for (ptrdiff_t j = 0; j < d; ++j) {
                cx_screen32_vector at = cx_screen32_load(queries + j * stride + i);
                cx_screen32_vector t = cx_near_most(box_low[j * blocks + b] - at, at - box_high[j * blocks + b]);
                t = cx_near_most(t, (cx_screen32_vector){0});
                sum += t * t;
            }
            sum *= cx_screen32_load(inverse + i);
            memcpy(gap + i, &sum, 32);
            some |= sum <= reach;
            soonest = cx_near_least(soonest, cx_near_select(sum > reach, sum, (cx_screen32_vector){0} + CX_FAR));
        }
        float next = CX_FAR;
        int any = 0;
        for (int l = 0; l < CX_NEAR_LANES; ++l) {
            next = soonest[l] < next ? soonest[l] : next;
            any |= some[l];
        }
        due[b] = next;
        if (!any)
            continue;
        const float *x = coords + b * d * CX_BLOCK;
        const int32_t *r = rank + b * CX_BLOCK;
        cx_screen32_vector nearest[PARTS];
        float least[CX_BLOCK];
        memcpy(nearest, own, sizeof nearest);
        for (ptrdiff_t i = 0; i < size; ++i) {
            if (gap[i] > reach || (gap[i] <= above && !fresh))
                continue;
            cx_screen32_vector value[PARTS];
            for (int l = 0; l < PARTS; ++l)
                value[l] = (cx_screen32_vector){0};
            for (ptrdiff_t j = 0; j < d; ++j)
                for (int l = 0; l < PARTS; ++l) {
                    cx_screen32_vector t = cx_screen32_load(x + j * CX_BLOCK + CX_NEAR_LANES * l) -
                                           queries[j * stride + i];
                    value[l] += t * t;
                }
            for (int l = 0; l < PARTS; ++l) {
                cx_screen32_bits ranks;
                memcpy(&ranks, r + CX_NEAR_LANES * l, 32);
                value[l] = cx_near_select(ranks < limit[i], value[l] * inverse[i], (cx_screen32_vector){0} + CX_FAR);
                nearest[l] = cx_near_least(nearest[l], value[l]);
            }
        }
        memcpy(least, nearest, sizeof least);
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

/* Rows of some blocks at a distance from one query, in units of its radius, in (above, reach] (both squared), of those
 * whose rank is below the limit: their distances and places. The corners of the `count` boxes are (d, width), a multiple of
 * 8 wide; `gap` has room for as many. Returns how many. */
CX_SCREEN_CLONES CX_UNUSED static ptrdiff_t cx_near_around(const float *query, ptrdiff_t stride, int32_t limit,
                                                           float inverse, ptrdiff_t d, const float *coords,
                                                           const int32_t *rank, const float *box_low,
                                                           const float *box_high, const int32_t *blocks,
                                                           ptrdiff_t count, ptrdiff_t width, float above, float reach,
                                                           float *gap, float *values, int32_t *places)
{
    enum { PARTS = CX_BLOCK / CX_NEAR_LANES };
    ptrdiff_t kept = 0, met = 0;
    for (ptrdiff_t b = 0; b < count; b += CX_NEAR_LANES) {
        cx_screen32_vector sum = {0};
        for (ptrdiff_t j = 0; j < d; ++j) {
            float at = query[j * stride];
            cx_screen32_vector t = cx_near_most(cx_screen32_load(box_low + j * width + b) - at,
                                                at - cx_screen32_load(box_high + j * width + b));
            t = cx_near_most(t, (cx_screen32_vector){0});
            sum += t * t;
        }
        sum *= inverse;
        memcpy(gap + b, &sum, 32);
    }
    for (ptrdiff_t b = 0; b < count; ++b) { /* no branches: as many blocks are met as are not */
        int32_t block = blocks[b], meets = gap[b] <= reach;
        memcpy(gap + met, &block, 4); /* gaps up to b have been read */
        met += meets;
    }
    for (ptrdiff_t b = 0; b < met; ++b) {
        int32_t block;
        memcpy(&block, gap + b, 4);
        const float *x = coords + (ptrdiff_t)block * d * CX_BLOCK;
        const int32_t *r = rank + (ptrdiff_t)block * CX_BLOCK;
        cx_screen32_vector value[PARTS];
        for (int l = 0; l < PARTS; ++l)
            value[l] = (cx_screen32_vector){0};
        for (ptrdiff_t j = 0; j < d; ++j)
            for (int l = 0; l < PARTS; ++l) {
                cx_screen32_vector t = cx_screen32_load(x + j * CX_BLOCK + CX_NEAR_LANES * l) - query[j * stride];
                value[l] += t * t;
            }
        for (int l = 0; l < PARTS; ++l) {
            cx_screen32_bits inside;
            cx_screen64_bits any;
            memcpy(&inside, r + CX_NEAR_LANES * l, 32);
            value[l] *= inverse;
            inside = (value[l] > above) & (value[l] <= reach) & (inside < limit);
            memcpy(&any, &inside, 32);
            if (((any[0] | any[1]) | (any[2] | any[3])) == 0)
                continue;
            for (int i = 0; i < CX_NEAR_LANES; ++i) {
                values[kept] = value[l][i];
                places[kept] = block * CX_BLOCK + CX_NEAR_LANES * l + i;
                kept -= inside[i];
            }
        }
    }
    return kept;
}

#endif
