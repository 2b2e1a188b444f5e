/* Dots of gathered rows with packs of queries, for one floating-point type, CX_T, and one kind of registers (see
 * each_width.h). A pack is 64 bytes a component: 2 narrow columns or 1 wide.
 *
 * Each dot is one chain of fused multiply-adds, component after component, so that it has the same bits in either width.
 */

#define CX_ROW(j)                                                                                                      \
    const CX_T *r##j = r[j];                                                                                           \
    CX_WIDTH(column) a##j = {0}, b##j = {0}, c##j = {0}, d##j = {0};
#define CX_TAKE_UP(sum, j, column) memcpy(&sum, out + j * stride + column * V, CX_BYTES)
#define CX_LEAVE(sum, j, column) memcpy(out + j * stride + column * V, &sum, CX_BYTES)
#define CX_ADD(sum, j, column) sum += x * q##column
#define CX_ROW_TAKEN_UP(j) CX_EACH_COLUMN(CX_TAKE_UP, j)
#define CX_ROW_LEFT(j) CX_EACH_COLUMN(CX_LEAVE, j)
#define CX_ROW_ADDED(j)                                                                                                \
    x = r##j[i] - (CX_WIDTH(column)){0};                                                                               \
    CX_EACH_COLUMN(CX_ADD, j)

typedef CX_T CX_WIDTH(column) __attribute__((vector_size(CX_BYTES)));

/* Dots of 6 rows with `columns` columns (1 to 4) that lie `apart`, over components `begin` to `end` (multiples of 16):
 * the sums stay in registers and are added to out[row * stride + query] unless `begin` is 0. The `ahead` components
 * that `next` points to are on their way when it returns: rows lie far apart in memory. */
CX_TARGET CX_INLINE void CX_WIDTH(tile)(int columns, const CX_T *const *r, const CX_T *const *next,
                                        ptrdiff_t next_begin, ptrdiff_t ahead, const CX_T *pack, ptrdiff_t apart,
                                        ptrdiff_t begin, ptrdiff_t end, CX_T *out, ptrdiff_t stride)
{
    enum { V = CX_BYTES / sizeof(CX_T), LANES = 64 / sizeof(CX_T) };
    CX_SIX_ROWS(CX_ROW)
    if (next)
        for (int j = 0; j < 6; ++j)
            for (ptrdiff_t at = 0; at < ahead; at += LANES)
                CX_PREFETCH(next[j] + next_begin + at);
    if (begin > 0) {
        CX_SIX_ROWS(CX_ROW_TAKEN_UP)
    }
    for (ptrdiff_t i = begin; i < end; ++i) {
        CX_WIDTH(column) x, q0, q1, q2, q3;
        memcpy(&q0, pack + i * LANES, CX_BYTES);
        if (columns > 1)
            memcpy(&q1, pack + apart + i * LANES, CX_BYTES);
        if (columns > 2)
            memcpy(&q2, pack + 2 * apart + i * LANES, CX_BYTES);
        if (columns > 3)
            memcpy(&q3, pack + 3 * apart + i * LANES, CX_BYTES);
        CX_SIX_ROWS(CX_ROW_ADDED)
    }
    CX_SIX_ROWS(CX_ROW_LEFT)
}

/* As `dots` of screen_tile.h, in registers of CX_BYTES. */
CX_FUNCTION CX_UNUSED static void CX_WIDTH(dots)(const CX_T *const *rows, ptrdiff_t nrows, const CX_T *const *next,
                                                    ptrdiff_t ahead, const CX_T *pack, ptrdiff_t packs, ptrdiff_t m,
                                                    CX_T *out, ptrdiff_t stride)
{
    enum { LANES = 64 / sizeof(CX_T), MOST = CX_BYTES == 64 ? 4 : 1 }; /* packs at once: 12 or 24 sums in registers */
    /* Components that are multiplied at once: those of all packs, 24 KB, stay in the first-level cache. */
    ptrdiff_t chunk = 384 / packs < 32 ? 32 : 384 / packs, parts = (m + chunk / 2) / chunk;
    chunk = parts > 1 ? (m + 16 * parts - 1) / (16 * parts) * 16 : m;
    for (ptrdiff_t begin = 0; begin < m; begin += chunk) {
        ptrdiff_t end = begin + chunk < m ? begin + chunk : m, more = end < m ? end : 0;
        ptrdiff_t soon = more + chunk < m ? chunk : m - more;
        for (ptrdiff_t i = 0; i < nrows; i += 6)
            for (ptrdiff_t j = 0; j < packs; j += MOST) {
                const CX_T *const *fetched = j > 0 ? NULL : end < m ? rows + i : i < ahead ? next + i : NULL;
                const CX_T *from = pack + j * m * LANES;
                CX_T *to = out + i * stride + j * LANES;
                if (CX_BYTES == 32)
                    CX_WIDTH(tile)(2, rows + i, fetched, more, soon, from, LANES / 2, begin, end, to, stride);
                else if (packs - j >= 4)
                    CX_WIDTH(tile)(4, rows + i, fetched, more, soon, from, m * LANES, begin, end, to, stride);
                else if (packs - j == 3)
                    CX_WIDTH(tile)(3, rows + i, fetched, more, soon, from, m * LANES, begin, end, to, stride);
                else if (packs - j == 2)
                    CX_WIDTH(tile)(2, rows + i, fetched, more, soon, from, m * LANES, begin, end, to, stride);
                else
                    CX_WIDTH(tile)(1, rows + i, fetched, more, soon, from, m * LANES, begin, end, to, stride);
            }
    }
}

#undef CX_ROW
#undef CX_TAKE_UP
#undef CX_LEAVE
#undef CX_ADD
#undef CX_ROW_TAKEN_UP
#undef CX_ROW_LEFT
#undef CX_ROW_ADDED
