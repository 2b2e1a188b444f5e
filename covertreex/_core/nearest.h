/* Loops over coordinates for nearest.pyx, in float32: they choose candidates and decide nothing. */
#ifndef COVERTREEX_NEAREST_H
#define COVERTREEX_NEAREST_H

#include "screen.h"

#define CX_BLOCK 32     /* rows per block */
#define CX_SHELF 16     /* blocks per shelf */
#define CX_FAR 3.0e38f  /* no distance is as large */

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

/* Some blocks, with copies of their corners side by side; borrowed from a `Finder`. `width` is a multiple of 16. */
typedef struct {
    ptrdiff_t count, width;
    const int32_t *blocks;   /* (width,) */
    const float *low, *high; /* (d, width) */
    int32_t *met;            /* (width,): scratch */
} cx_near_listed;

/* Where rows are written that were found: there is room for 16 more than there are rows. */
typedef struct {
    float *values;
    int32_t *places;
} cx_near_found;

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
static const int32_t cx_near_sets[256][8] = {CX_SETS64(0), CX_SETS64(64), CX_SETS64(128), CX_SETS64(192)};

#define CX_NAME(x) cx_near_##x
#define CX_BODY "nearest_rows.h"
#include "each_width.h"

/* What others call: in the widest registers that the machine has. */

CX_UNUSED static void cx_near_shelves(const cx_blocks *all, const float *low, const float *high, cx_near_known *known)
{
    CX_WIDEST(shelves, all, low, high, known);
}

CX_UNUSED static void cx_near_open(const cx_blocks *all, const float *low, const float *high, float above, float reach,
                                   cx_near_known *known)
{
    CX_WIDEST(open, all, low, high, above, reach, known);
}

CX_UNUSED static ptrdiff_t cx_near_rows(const cx_blocks *all, const cx_near_group *group, ptrdiff_t i,
                                        const int32_t *blocks, ptrdiff_t count, float *out)
{
    return CX_WIDEST(rows, all, group, i, blocks, count, out);
}

CX_UNUSED static ptrdiff_t cx_near_find(const float *values, ptrdiff_t count, float above, float reach, int32_t *places)
{
    return CX_WIDEST(find, values, count, above, reach, places);
}

CX_UNUSED static float cx_near_threshold(float *values, ptrdiff_t count, ptrdiff_t wanted)
{
    return CX_WIDEST(threshold, values, count, wanted);
}

CX_UNUSED static ptrdiff_t cx_near_gather(const cx_blocks *all, const cx_near_group *group, const cx_near_known *known,
                                          float above, float reach, const cx_near_found *found)
{
    return CX_WIDEST(gather, all, group, known, above, reach, found);
}

CX_UNUSED static ptrdiff_t cx_near_around(const cx_blocks *all, const cx_near_group *group, ptrdiff_t i,
                                          const cx_near_listed *listed, float above, float reach,
                                          const cx_near_found *found)
{
    return CX_WIDEST(around, all, group, i, listed, above, reach, found);
}

#undef CX_NAME

#endif
