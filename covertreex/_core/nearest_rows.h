/* Loops over rows that are near, in one kind of registers (see each_width.h); what they find is the same in all. */

enum { CX_WIDTH(LANES) = CX_BYTES / 4 };

CX_TARGET CX_INLINE CX_WIDTH32(bits) CX_WIDTH(lanes)(void)
{
#if CX_BYTES == 64
    return (CX_WIDTH32(bits)){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#else
    return (CX_WIDTH32(bits)){0, 1, 2, 3, 4, 5, 6, 7};
#endif
}

/* a where all bits of `where` are set, b where none is. */
CX_TARGET CX_INLINE CX_WIDTH32(vector) CX_WIDTH(select)(CX_WIDTH32(bits) where, CX_WIDTH32(vector) a,
                                                        CX_WIDTH32(vector) b)
{
    CX_WIDTH32(bits) x, y;
    memcpy(&x, &a, CX_BYTES);
    memcpy(&y, &b, CX_BYTES);
    x = (x & where) | (y & ~where);
    memcpy(&a, &x, CX_BYTES);
    return a;
}

CX_TARGET CX_INLINE CX_WIDTH32(vector) CX_WIDTH(least)(CX_WIDTH32(vector) a, CX_WIDTH32(vector) b)
{
#if CX_BYTES == 64
    return (CX_WIDTH32(vector))_mm512_min_ps((__m512)a, (__m512)b);
#else
    return CX_WIDTH(select)(a < b, a, b);
#endif
}

CX_TARGET CX_INLINE CX_WIDTH32(vector) CX_WIDTH(most)(CX_WIDTH32(vector) a, CX_WIDTH32(vector) b)
{
#if CX_BYTES == 64
    return (CX_WIDTH32(vector))_mm512_max_ps((__m512)a, (__m512)b);
#else
    return CX_WIDTH(select)(a > b, a, b);
#endif
}

/* Write the lanes of `inside` to `values` and their `number` to `places` (either may be NULL), without a branch; there
 * is room for all lanes. Returns how many they are. */
CX_TARGET CX_INLINE ptrdiff_t CX_WIDTH(keep)(CX_WIDTH32(vector) value, CX_WIDTH32(bits) number, CX_WIDTH32(bits) inside,
                                             float *values, int32_t *places)
{
#if CX_BYTES == 64
    const __mmask16 set = _mm512_movepi32_mask((__m512i)inside);
    if (values)
        _mm512_storeu_ps(values, _mm512_maskz_compress_ps(set, (__m512)value));
    if (places)
        _mm512_storeu_si512(places, _mm512_maskz_compress_epi32(set, (__m512i)number));
    return __builtin_popcount(set);
#else
    const CX_WIDTH32(bits) bits = {1, 2, 4, 8, 16, 32, 64, 128};
    cx_screen64_narrow_bits pairs;
    CX_WIDTH32(bits) from;
    inside &= bits;
    memcpy(&pairs, &inside, CX_BYTES);
    int64_t both = (pairs[0] | pairs[1]) | (pairs[2] | pairs[3]);
    int set = (int)((both | (both >> 32)) & 255);
    memcpy(&from, cx_near_sets[set], CX_BYTES);
#if defined(__clang__)
    for (int i = 0; i < CX_WIDTH(LANES); ++i) {
        if (values)
            values[i] = value[from[i]];
        if (places)
            places[i] = number[from[i]];
    }
#else
    value = __builtin_shuffle(value, from);
    number = __builtin_shuffle(number, from);
    if (values)
        memcpy(values, &value, CX_BYTES);
    if (places)
        memcpy(places, &number, CX_BYTES);
#endif
    return __builtin_popcount((unsigned)set);
#endif
}

/* Squared distances between the box of a group, with corners (d,), and `count` boxes, with corners (d, stride). */
CX_TARGET CX_INLINE void CX_WIDTH(boxes)(const float *box_low, const float *box_high, ptrdiff_t d, ptrdiff_t stride,
                                         ptrdiff_t count, const float *low, const float *high, float *far)
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
CX_FUNCTION CX_UNUSED static void CX_WIDTH(shelves)(const cx_blocks *all, const float *low, const float *high,
                                                    cx_near_known *known)
{
    CX_WIDTH(boxes)(all->shelf_low, all->shelf_high, all->d, all->shelves, all->shelves, low, high, known->shelf);
    known->count = 0;
}

/* Get to know the blocks of shelves whose distance from the box is in (above, reach] (squared). */
CX_FUNCTION CX_UNUSED static void CX_WIDTH(open)(const cx_blocks *all, const float *low, const float *high, float above,
                                                 float reach, cx_near_known *known)
{
    for (ptrdiff_t s = 0; s < all->shelves; ++s) {
        if (!(known->shelf[s] > above && known->shelf[s] <= reach))
            continue;
        const ptrdiff_t begin = s * CX_SHELF, left = all->count - begin, count = left < CX_SHELF ? left : CX_SHELF;
        float *far = known->far + known->count;
        int32_t *blocks = known->blocks + known->count;
        CX_WIDTH(boxes)(all->low + begin, all->high + begin, all->d, all->count, count, low, high, far);
        for (ptrdiff_t b = 0; b < count; ++b)
            blocks[b] = (int32_t)(begin + b);
        known->count += count;
    }
}

/* Squared distances of a query, the i-th of the group, from the rows of the `count` listed blocks; CX_FAR for rows whose
 * rank is not below its limit. Returns how many are below it. */
CX_FUNCTION CX_UNUSED static ptrdiff_t CX_WIDTH(rows)(const cx_blocks *all, const cx_near_group *group, ptrdiff_t i,
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
 * of which may be NULL; there is room for a multiple of 16. Returns how many. */
CX_TARGET CX_INLINE ptrdiff_t CX_WIDTH(between)(const float *values, ptrdiff_t count, float above, float reach,
                                                float *kept, int32_t *places)
{
    const CX_WIDTH32(bits) lane = CX_WIDTH(lanes)();
    ptrdiff_t found = 0;
    for (ptrdiff_t i = 0; i < count; i += CX_WIDTH(LANES)) {
        CX_WIDTH32(vector) value = CX_WIDTH32(load)(values + i);
        CX_WIDTH32(bits) inside = (value > above) & (value <= reach) & (lane < (int32_t)(count - i));
        found += CX_WIDTH(keep)(value, lane + (int32_t)i, inside, kept ? kept + found : NULL,
                                places ? places + found : NULL);
    }
    return found;
}

/* Where values in (above, reach] are: their numbers, with room for a multiple of 16. Returns how many. */
CX_FUNCTION CX_UNUSED static ptrdiff_t CX_WIDTH(find)(const float *values, ptrdiff_t count, float above, float reach,
                                                      int32_t *places)
{
    return CX_WIDTH(between)(values, count, above, reach, NULL, places);
}

/* A threshold that about `wanted` of the values do not exceed, at least so many if there are so many below CX_FAR. The
 * values are lost; there is room for a multiple of 16. */
CX_FUNCTION CX_UNUSED static float CX_WIDTH(threshold)(float *values, ptrdiff_t count, ptrdiff_t wanted)
{
    float high = 0.0f, low = 0.0f;
    int32_t within = 0, none = 0;
    CX_WIDTH32(vector) most = {0};
    CX_WIDTH32(bits) finite = {0}, nothing = {0};
    while (count % CX_WIDTH(LANES) > 0)
        values[count++] = CX_FAR;
    for (ptrdiff_t i = 0; i < count; i += CX_WIDTH(LANES)) {
        CX_WIDTH32(vector) value = CX_WIDTH32(load)(values + i);
        CX_WIDTH32(bits) below = value < CX_FAR;
        most = CX_WIDTH(most)(most, CX_WIDTH(select)(below, value, (CX_WIDTH32(vector)){0}));
        finite -= below;
        nothing -= value <= 0.0f;
    }
    for (int i = 0; i < CX_WIDTH(LANES); ++i) {
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
            count = CX_WIDTH(between)(values, count, low, high, values, NULL);
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

/* What `gather` asks of a block before it looks at its rows: how far its box is from each query (to `gap`), in
 * units of the query's own radius. Whether any is within `reach`; `next` is the least distance beyond it. */
CX_TARGET CX_INLINE int CX_WIDTH(gaps)(const cx_blocks *all, const cx_near_group *group, ptrdiff_t b, float reach,
                                       float *next)
{
    ptrdiff_t blocks = all->count, d = all->d, stride = group->stride;
    const float *queries = group->coords, *box_low = all->low, *box_high = all->high, *inverse = group->inverse;
    float *gap = group->gap;
    CX_WIDTH32(vector) soonest = (CX_WIDTH32(vector)){0} + CX_FAR;
    CX_WIDTH32(bits) some = {0};
    for (ptrdiff_t i = 0; i < stride; i += CX_WIDTH(LANES)) {
        CX_WIDTH32(vector) sum = {0};
        for (ptrdiff_t j = 0; j < d; ++j) {
            CX_WIDTH32(vector) at = CX_WIDTH32(load)(queries + j * stride + i);
            CX_WIDTH32(vector) t = CX_WIDTH(most)(box_low[j * blocks + b] - at, at - box_high[j * blocks + b]);
            t = CX_WIDTH(most)(t, (CX_WIDTH32(vector)){0});
            sum += t * t;
        }
        sum *= CX_WIDTH32(load)(inverse + i);
        memcpy(gap + i, &sum, CX_BYTES);
        some |= sum <= reach;
        soonest = CX_WIDTH(least)(soonest, CX_WIDTH(select)(sum > reach, sum, (CX_WIDTH32(vector)){0} + CX_FAR));
    }
    int any = 0;
    *next = CX_FAR;
    for (int l = 0; l < CX_WIDTH(LANES); ++l) {
        *next = soonest[l] < *next ? soonest[l] : *next;
        any |= some[l];
    }
    return any;
}

/* Rows whose distance to some query, in units of that query's own radius, is in (above, reach] (both squared); all blocks
 * that are as near to the box of the group are to be known. Calls for a group go outwards, each from where the last ended
 * (the first from -1), by what `best` and `due` of the group keep. Returns how many. */
CX_FUNCTION CX_UNUSED static ptrdiff_t CX_WIDTH(gather)(const cx_blocks *all, const cx_near_group *group,
                                                        const cx_near_known *known, float above, float reach,
                                                        const cx_near_found *found)
{
    enum { PARTS = CX_BLOCK / CX_WIDTH(LANES) };
    const CX_WIDTH32(bits) lane = CX_WIDTH(lanes)();
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
        int any = CX_WIDTH(gaps)(all, group, b, reach, &next);
        due[b] = next;
        if (!any)
            continue;
        const float *x = all->coords + b * d * CX_BLOCK;
        const int32_t *r = all->rank + b * CX_BLOCK;
        CX_WIDTH32(vector) nearest[PARTS];
        float least[CX_BLOCK];
        memcpy(nearest, own, sizeof nearest);
        for (ptrdiff_t i = 0; i < size; ++i) {
            if (gap[i] > reach || (gap[i] <= above && !fresh))
                continue;
            CX_WIDTH32(vector) value[PARTS];
            for (int l = 0; l < PARTS; ++l)
                value[l] = (CX_WIDTH32(vector)){0};
            for (ptrdiff_t j = 0; j < d; ++j)
                for (int l = 0; l < PARTS; ++l) {
                    CX_WIDTH32(vector) t = CX_WIDTH32(load)(x + j * CX_BLOCK + CX_WIDTH(LANES) * l) -
                                           queries[j * stride + i];
                    value[l] += t * t;
                }
            for (int l = 0; l < PARTS; ++l) {
                CX_WIDTH32(bits) ranks;
                memcpy(&ranks, r + CX_WIDTH(LANES) * l, CX_BYTES);
                value[l] = CX_WIDTH(select)(ranks < limit[i], value[l] * inverse[i], (CX_WIDTH32(vector)){0} + CX_FAR);
                nearest[l] = CX_WIDTH(least)(nearest[l], value[l]);
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
            kept += CX_WIDTH(keep)(nearest[l], lane + (int32_t)(b * CX_BLOCK + CX_WIDTH(LANES) * l),
                                 (nearest[l] > above) & (nearest[l] <= reach), values + kept, places + kept);
    }
    return kept;
}

/* Rows of the listed blocks at a distance from a query, the i-th of the group, in units of its radius, in (above, reach]
 * (both squared), of those whose rank is below its limit. Returns how many. */
CX_FUNCTION CX_UNUSED static ptrdiff_t CX_WIDTH(around)(const cx_blocks *all, const cx_near_group *group, ptrdiff_t i,
                                                        const cx_near_listed *listed, float above, float reach,
                                                        const cx_near_found *found)
{
    enum { PARTS = CX_BLOCK / CX_WIDTH(LANES) };
    const CX_WIDTH32(bits) lane = CX_WIDTH(lanes)();
    const float *query = group->coords + i;
    const float inverse = group->inverse[i];
    const int32_t limit = group->limit[i];
    float *values = found->values;
    int32_t *places = found->places, *met = listed->met;
    ptrdiff_t d = all->d, stride = group->stride, width = listed->width, count = listed->count, kept = 0, meeting = 0;
    for (ptrdiff_t b = 0; b < count; b += CX_WIDTH(LANES)) {
        CX_WIDTH32(vector) sum = {0};
        CX_WIDTH32(bits) number;
        for (ptrdiff_t j = 0; j < d; ++j) {
            float at = query[j * stride];
            CX_WIDTH32(vector) t = CX_WIDTH(most)(CX_WIDTH32(load)(listed->low + j * width + b) - at,
                                                at - CX_WIDTH32(load)(listed->high + j * width + b));
            t = CX_WIDTH(most)(t, (CX_WIDTH32(vector)){0});
            sum += t * t;
        }
        memcpy(&number, listed->blocks + b, CX_BYTES);
        meeting += CX_WIDTH(keep)(sum, number, (sum * inverse <= reach) & (lane < (int32_t)(count - b)), NULL,
                                met + meeting);
    }
    for (ptrdiff_t b = 0; b < meeting; ++b) {
        const float *x = all->coords + (ptrdiff_t)met[b] * d * CX_BLOCK;
        const int32_t *r = all->rank + (ptrdiff_t)met[b] * CX_BLOCK;
        CX_WIDTH32(vector) value[PARTS];
        for (int l = 0; l < PARTS; ++l)
            value[l] = (CX_WIDTH32(vector)){0};
        for (ptrdiff_t j = 0; j < d; ++j)
            for (int l = 0; l < PARTS; ++l) {
                CX_WIDTH32(vector) t = CX_WIDTH32(load)(x + j * CX_BLOCK + CX_WIDTH(LANES) * l) - query[j * stride];
                value[l] += t * t;
            }
        for (int l = 0; l < PARTS; ++l) {
            CX_WIDTH32(bits) ranks;
            memcpy(&ranks, r + CX_WIDTH(LANES) * l, CX_BYTES);
            value[l] *= inverse;
            ranks = (value[l] > above) & (value[l] <= reach) & (ranks < limit);
            kept += CX_WIDTH(keep)(value[l], lane + (met[b] * CX_BLOCK + CX_WIDTH(LANES) * l), ranks, values + kept,
                                 places + kept);
        }
    }
    return kept;
}
