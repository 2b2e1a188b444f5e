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

/* For each set of lanes, their numbers in ascending order. */
#define CX_LANE(set, lane) ((uint64_t)(set) >> (lane) & 1u)
#define CX_AND_LANE(lanes, set, lane) ((lanes) * (CX_LANE(set, lane) ? 16u : 1u) + CX_LANE(set, lane) * (lane))
#define CX_HIGH(set) CX_AND_LANE(CX_AND_LANE(CX_AND_LANE(CX_AND_LANE(0u, set, 7), set, 6), set, 5), set, 4)
#define CX_LANES_OF(set) CX_AND_LANE(CX_AND_LANE(CX_AND_LANE(CX_AND_LANE(CX_HIGH(set), set, 3), set, 2), set, 1), set, 0)
#define CX_NTH(set, n) (int32_t)(CX_LANES_OF(set) >> (4 * (n)) & 7u)
#define CX_SET(set)                                                                                                    \
    {CX_NTH(set, 0), CX_NTH(set, 1), CX_NTH(set, 2), CX_NTH(set, 3),                                                   \
     CX_NTH(set, 4), CX_NTH(set, 5), CX_NTH(set, 6), CX_NTH(set, 7)}
#define CX_SETS4(set) CX_SET(set), CX_SET((set) + 1), CX_SET((set) + 2), CX_SET((set) + 3)
#define CX_SETS16(set) CX_SETS4(set), CX_SETS4((set) + 4), CX_SETS4((set) + 8), CX_SETS4((set) + 12)
#define CX_SETS64(set) CX_SETS16(set), CX_SETS16((set) + 16), CX_SETS16((set) + 32), CX_SETS16((set) + 48)
static const int32_t cx_near_sets[256][CX_NEAR_LANES] = {CX_SETS64(0), CX_SETS64(64), CX_SETS64(128), CX_SETS64(192)};

/* Write the lanes of `inside` to `values` and their `number` to `places` (either may be NULL), without a branch; there
 * is room for all lanes. Returns how many they are. */
CX_INLINE ptrdiff_t cx_near_keep(cx_screen32_vector value, cx_screen32_bits number, cx_screen32_bits inside,
                                 float *values, int32_t *places)
{
    const cx_screen32_bits bits = {1, 2, 4, 8, 16, 32, 64, 128};
    cx_screen64_bits pairs;
    cx_screen32_bits from;
    inside &= bits;
    memcpy(&pairs, &inside, 32);
    int64_t both = (pairs[0] | pairs[1]) | (pairs[2] | pairs[3]);
    int set = (int)((both | (both >> 32)) & 255);
    memcpy(&from, cx_near_sets[set], 32);
#if defined(__clang__)
    for (int i = 0; i < CX_NEAR_LANES; ++i) {
        if (values)
            values[i] = value[from[i]];
        if (places)
            places[i] = number[from[i]];
    }
#else
    value = __builtin_shuffle(value, from);
    number = __builtin_shuffle(number, from);
    if (values)
        memcpy(values, &value, 32);
    if (places)
        memcpy(places, &number, 32);
#endif
    return __builtin_popcount((unsigned)set);
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

/* Of `count` values those in (above, reach]: they go to `kept` (which may be `values`), their numbers to `places`, either
 * of which may be NULL; there is room for a multiple of 8. Returns how many. */
CX_INLINE ptrdiff_t cx_near_between(const float *values, ptrdiff_t count, float above, float reach, float *kept,
                                    int32_t *places)
{
    const cx_screen32_bits lane = {0, 1, 2, 3, 4, 5, 6, 7};
    ptrdiff_t found = 0;
    for (ptrdiff_t i = 0; i < count; i += CX_NEAR_LANES) {
        cx_screen32_vector value = cx_screen32_load(values + i);
        cx_screen32_bits inside = (value > above) & (value <= reach) & (lane < (int32_t)(count - i));
        found += cx_near_keep(value, lane + (int32_t)i, inside, kept ? kept + found : NULL,
                              places ? places + found : NULL);
    }
    return found;
}

/* Where values in (above, reach] are: their numbers, with room for a multiple of 8. Returns how many. */
CX_SCREEN_CLONES CX_UNUSED static ptrdiff_t cx_near_find(const float *values, ptrdiff_t count, float above, float reach,
                                                         int32_t *places)
{
    return cx_near_between(values, count, above, reach, NULL, places);
}

/* A threshold that about `wanted` of the values do not exceed, at least so many if there are so many below CX_FAR. The
 * values are lost; there is room for a multiple of 8. */
CX_SCREEN_CLONES CX_UNUSED static float cx_near_threshold(float *values, ptrdiff_t count, ptrdiff_t wanted)
{
    float high = 0.0f, low = 0.0f;
    int32_t within = 0, none = 0;
    cx_screen32_vector most = {0};
    cx_screen32_bits finite = {0}, nothing = {0};
    while (count % CX_NEAR_LANES > 0)
        values[count++] = CX_FAR;
    for (ptrdiff_t i = 0; i < count; i += CX_NEAR_LANES) {
        cx_screen32_vector value = cx_screen32_load(values + i);
        cx_screen32_bits below = value < CX_FAR;
        most = cx_near_most(most, cx_near_select(below, value, (cx_screen32_vector){0}));
        finite -= below;
        nothing -= value <= 0.0f;
    }
    for (int i = 0; i < CX_NEAR_LANES; ++i) {
        high = most[i] > high ? most[i] : high;
        within += finite[i];
        none += nothing[i];
    }
    if (within <= wanted)
        return high;
    int32_t top = within, dropped = 0;
    for (int round = 0; round < 24; ++round) {
        /* Those above `low`, and not above `high`, are asked from now on if they are few: they alone can tell. */
        if (8 * (ptrdiff_t)(top - none) < count) {
            count = cx_near_between(values, count, low, high, values, NULL);
            dropped = none;
        }
        float middle = 0.5f * (low + high);
        int32_t below = dropped;
        for (ptrdiff_t i = 0; i < count; ++i)
            below += values[i] <= middle;
        if (below < wanted) {
            low = middle;
            none = below;
        } else {
            high = middle;
            top = below;
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
 * `values` and `places` have room for 8 more than there are rows. Returns how many.
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
    const cx_screen32_bits lane = {0, 1, 2, 3, 4, 5, 6, 7};
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
        for (int l = 0; l < PARTS; ++l)
            kept += cx_near_keep(nearest[l], lane + (int32_t)(b * CX_BLOCK + CX_NEAR_LANES * l),
                                 (nearest[l] > above) & (nearest[l] <= reach), values + kept, places + kept);
    }
    return kept;
}

/* Rows of some blocks at a distance from one query, in units of its radius, in (above, reach] (both squared), of those
 * whose rank is below the limit: their distances and places. The corners of the `count` boxes are (d, width), a multiple of
 * 8 wide, as are `blocks`; `met` has room for as many, `values` and `places` for 8 more than there are rows. Returns how
 * many. */
CX_SCREEN_CLONES CX_UNUSED static ptrdiff_t cx_near_around(const float *query, ptrdiff_t stride, int32_t limit,
                                                           float inverse, ptrdiff_t d, const float *coords,
                                                           const int32_t *rank, const float *box_low,
                                                           const float *box_high, const int32_t *blocks,
                                                           ptrdiff_t count, ptrdiff_t width, float above, float reach,
                                                           int32_t *met, float *values, int32_t *places)
{
    enum { PARTS = CX_BLOCK / CX_NEAR_LANES };
    const cx_screen32_bits lane = {0, 1, 2, 3, 4, 5, 6, 7};
    ptrdiff_t kept = 0, meeting = 0;
    for (ptrdiff_t b = 0; b < count; b += CX_NEAR_LANES) {
        cx_screen32_vector sum = {0};
        cx_screen32_bits number;
        for (ptrdiff_t j = 0; j < d; ++j) {
            float at = query[j * stride];
            cx_screen32_vector t = cx_near_most(cx_screen32_load(box_low + j * width + b) - at,
                                                at - cx_screen32_load(box_high + j * width + b));
            t = cx_near_most(t, (cx_screen32_vector){0});
            sum += t * t;
        }
        memcpy(&number, blocks + b, 32);
        meeting += cx_near_keep(sum, number, (sum * inverse <= reach) & (lane < (int32_t)(count - b)), NULL,
                                met + meeting);
    }
    for (ptrdiff_t b = 0; b < meeting; ++b) {
        const float *x = coords + (ptrdiff_t)met[b] * d * CX_BLOCK;
        const int32_t *r = rank + (ptrdiff_t)met[b] * CX_BLOCK;
        cx_screen32_vector value[PARTS];
        for (int l = 0; l < PARTS; ++l)
            value[l] = (cx_screen32_vector){0};
        for (ptrdiff_t j = 0; j < d; ++j)
            for (int l = 0; l < PARTS; ++l) {
                cx_screen32_vector t = cx_screen32_load(x + j * CX_BLOCK + CX_NEAR_LANES * l) - query[j * stride];
                value[l] += t * t;
            }
        for (int l = 0; l < PARTS; ++l) {
            cx_screen32_bits ranks;
            memcpy(&ranks, r + CX_NEAR_LANES * l, 32);
            value[l] *= inverse;
            ranks = (value[l] > above) & (value[l] <= reach) & (ranks < limit);
            kept += cx_near_keep(value[l], lane + (met[b] * CX_BLOCK + CX_NEAR_LANES * l), ranks, values + kept,
                                 places + kept);
        }
    }
    return kept;
}

#endif
