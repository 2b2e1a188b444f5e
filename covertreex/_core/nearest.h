/* Loops over coordinates for nearest.pyx, in float32: they choose candidates and decide nothing. */
#ifndef COVERTREEX_NEAREST_H
#define COVERTREEX_NEAREST_H

#include "screen.h"

#define CX_BLOCK 32     /* rows per block */
#define CX_SHELF 16     /* blocks per shelf */
#define CX_FAR 3.0e38f  /* no distance is as large */

enum { CX_NEAR_LANES = 8 };

/* Rows in blocks; borrowed from `Blocks` of nearest.pyx, which owns the arrays. */
typedef struct {
    ptrdiff_t count, d;
    const float *coords;    /* (count, d, CX_BLOCK) */
    const int32_t *rank;    /* (count, CX_BLOCK) */
    const float *low, *high; /* (d, count): corners */
    ptrdiff_t shelves;       /* consecutive blocks, CX_SHELF each */
    const float *shelf_low, *shelf_high; /* (d, shelves): their corners */
} cx_blocks;

/* The blocks whose distance from a group is known: all within some reach. Borrowed from a `Finder`. */
typedef struct {
    ptrdiff_t count;
    int32_t *blocks; /* (blocks,) */
    float *far;      /* (blocks,): squared distances between the box of all queries and these */
    float *shelf;    /* (shelves,): the same of shelves */
} cx_near_known;

/* A group of queries, and what `cx_near_gather` remembers of it; borrowed from a `Finder`, which owns the arrays. */
typedef struct {
    ptrdiff_t size, stride;
    const float *coords;    /* (d, stride) */
    const int32_t *limit;   /* (stride,): a query sees rows of rank below it */
    const float *inverse;   /* (stride,): 1 / radius^2 */
    float widest;           /* the largest radius^2 */
    float *best;  /* (blocks, CX_BLOCK): the values so far, so that a query is compared with a block once */
    float *due;   /* (blocks,): how far the next thing in a block is */
    float *gap;   /* (stride,): scratch */
} cx_near_group;

/* Some blocks, with copies of their corners side by side; borrowed from a `Finder`. `width` is a multiple of 8. */
typedef struct {
    ptrdiff_t count, width;
    const int32_t *blocks;   /* (width,) */
    const float *low, *high; /* (d, width) */
    int32_t *met;            /* (width,): scratch */
} cx_near_listed;

/* Where rows are written that were found: there is room for 8 more than there are rows. */
typedef struct {
    float *values;
    int32_t *places;
} cx_near_found;

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

/* Squared distances between the box of a group, with corners (d,), and `count` boxes, with corners (d, stride). */
CX_INLINE void cx_near_boxes(const float *box_low, const float *box_high, ptrdiff_t d, ptrdiff_t stride, ptrdiff_t count,
                             const float *low, const float *high, float *far)
{
    for (ptrdiff_t b = 0; b < count; ++b)
        far[b] = 0.0f;
    for (ptrdiff_t j = 0; j < d; ++j)
        for (ptrdiff_t b = 0; b < count; ++b) {
            float under = box_low[j * stride + b] - high[j], over = low[j] - box_high[j * stride + b];
            float gap = under > over ? under : over;
            gap = gap > 0.0f ? gap : 0.0f;
            far[b] += gap * gap;
        }
}

/* How far shelves are from the box of a group, with corners (d,): nothing is known of blocks yet. */
CX_SCREEN_CLONES CX_UNUSED static void cx_near_shelves(const cx_blocks *all, const float *low, const float *high,
                                                       cx_near_known *known)
{
    cx_near_boxes(all->shelf_low, all->shelf_high, all->d, all->shelves, all->shelves, low, high, known->shelf);
    known->count = 0;
}

/* Get to know the blocks of shelves whose distance from the box is in (above, reach] (squared). */
CX_SCREEN_CLONES CX_UNUSED static void cx_near_open(const cx_blocks *all, const float *low, const float *high, float above,
                                                    float reach, cx_near_known *known)
{
    for (ptrdiff_t s = 0; s < all->shelves; ++s) {
        if (!(known->shelf[s] > above && known->shelf[s] <= reach))
            continue;
        const ptrdiff_t begin = s * CX_SHELF, left = all->count - begin, count = left < CX_SHELF ? left : CX_SHELF;
        float *far = known->far + known->count;
        int32_t *blocks = known->blocks + known->count;
        cx_near_boxes(all->low + begin, all->high + begin, all->d, all->count, count, low, high, far);
        for (ptrdiff_t b = 0; b < count; ++b)
            blocks[b] = (int32_t)(begin + b);
        known->count += count;
    }
}

/* Squared distances of a query, the i-th of the group, from the rows of the `count` listed blocks; CX_FAR for rows whose
 * rank is not below its limit. Returns how many are below it. */
CX_SCREEN_CLONES CX_UNUSED static ptrdiff_t cx_near_rows(const cx_blocks *all, const cx_near_group *group, ptrdiff_t i,
                                                         const int32_t *blocks, ptrdiff_t count, float *out)
{
    const float *query = group->coords + i;
    ptrdiff_t d = all->d, stride = group->stride;
    int32_t within = 0, limit = group->limit[i];
    for (ptrdiff_t b = 0; b < count; ++b) {
        const float *x = all->coords + (ptrdiff_t)blocks[b] * d * CX_BLOCK;
        const int32_t *r = all->rank + (ptrdiff_t)blocks[b] * CX_BLOCK;
        float value[CX_BLOCK];
        for (int l = 0; l < CX_BLOCK; ++l) {
            float t = x[l] - query[0];
            value[l] = t * t;
        }
        for (ptrdiff_t j = 1; j < d; ++j)
            for (int l = 0; l < CX_BLOCK; ++l) {
                float t = x[j * CX_BLOCK + l] - query[j * stride];
                value[l] += t * t;
            }
        for (int l = 0; l < CX_BLOCK; ++l) {
            out[b * CX_BLOCK + l] = r[l] < limit ? value[l] : CX_FAR;
            within += r[l] < limit;
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

/* What `cx_near_gather` asks of a block before it looks at its rows: how far its box is from each query (to `gap`), in
 * units of the query's own radius. Whether any is within `reach`; `next` is the least distance beyond it. */
CX_INLINE int cx_near_gaps(const cx_blocks *all, const cx_near_group *group, ptrdiff_t b, float reach, float *next)
{
    ptrdiff_t blocks = all->count, d = all->d, stride = group->stride;
    const float *queries = group->coords, *box_low = all->low, *box_high = all->high, *inverse = group->inverse;
    float *gap = group->gap;
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
    int any = 0;
    *next = CX_FAR;
    for (int l = 0; l < CX_NEAR_LANES; ++l) {
        *next = soonest[l] < *next ? soonest[l] : *next;
        any |= some[l];
    }
    return any;
}

/* Rows whose distance to some query, in units of that query's own radius, is in (above, reach] (both squared); all blocks
 * that are as near to the box of the group are to be known. Calls for a group go outwards, each from where the last ended
 * (the first from -1), by what `best` and `due` of the group keep. Returns how many. */
CX_SCREEN_CLONES CX_UNUSED static ptrdiff_t cx_near_gather(const cx_blocks *all, const cx_near_group *group,
                                                           const cx_near_known *known, float above, float reach,
                                                           const cx_near_found *found)
{
    enum { PARTS = CX_BLOCK / CX_NEAR_LANES };
    const cx_screen32_bits lane = {0, 1, 2, 3, 4, 5, 6, 7};
    /* By themselves, for stores might change what a pointer leads to. */
    const float *queries = group->coords, *inverse = group->inverse, *gap = group->gap, *far = known->far;
    const int32_t *limit = group->limit;
    const float widest = group->widest;
    float *due = group->due, *values = found->values;
    int32_t *places = found->places;
    ptrdiff_t d = all->d, size = group->size, stride = group->stride, kept = 0;
    for (ptrdiff_t e = 0; e < known->count; ++e) {
        if (far[e] > reach * widest)
            continue;
        const ptrdiff_t b = known->blocks[e];
        float *own = group->best + b * CX_BLOCK, next;
        int fresh = far[e] > above * widest;
        if (fresh)
            for (int l = 0; l < CX_BLOCK; ++l)
                own[l] = CX_FAR;
        else if (due[b] > reach)
            continue;
        int any = cx_near_gaps(all, group, b, reach, &next);
        due[b] = next;
        if (!any)
            continue;
        const float *x = all->coords + b * d * CX_BLOCK;
        const int32_t *r = all->rank + b * CX_BLOCK;
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

/* Rows of the listed blocks at a distance from a query, the i-th of the group, in units of its radius, in (above, reach]
 * (both squared), of those whose rank is below its limit. Returns how many. */
CX_SCREEN_CLONES CX_UNUSED static ptrdiff_t cx_near_around(const cx_blocks *all, const cx_near_group *group,
                                                           ptrdiff_t i, const cx_near_listed *listed, float above,
                                                           float reach, const cx_near_found *found)
{
    enum { PARTS = CX_BLOCK / CX_NEAR_LANES };
    const cx_screen32_bits lane = {0, 1, 2, 3, 4, 5, 6, 7};
    const float *query = group->coords + i;
    const float inverse = group->inverse[i];
    const int32_t limit = group->limit[i];
    float *values = found->values;
    int32_t *places = found->places, *met = listed->met;
    ptrdiff_t d = all->d, stride = group->stride, width = listed->width, count = listed->count, kept = 0, meeting = 0;
    for (ptrdiff_t b = 0; b < count; b += CX_NEAR_LANES) {
        cx_screen32_vector sum = {0};
        cx_screen32_bits number;
        for (ptrdiff_t j = 0; j < d; ++j) {
            float at = query[j * stride];
            cx_screen32_vector t = cx_near_most(cx_screen32_load(listed->low + j * width + b) - at,
                                                at - cx_screen32_load(listed->high + j * width + b));
            t = cx_near_most(t, (cx_screen32_vector){0});
            sum += t * t;
        }
        memcpy(&number, listed->blocks + b, 32);
        meeting += cx_near_keep(sum, number, (sum * inverse <= reach) & (lane < (int32_t)(count - b)), NULL,
                                met + meeting);
    }
    for (ptrdiff_t b = 0; b < meeting; ++b) {
        const float *x = all->coords + (ptrdiff_t)met[b] * d * CX_BLOCK;
        const int32_t *r = all->rank + (ptrdiff_t)met[b] * CX_BLOCK;
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
