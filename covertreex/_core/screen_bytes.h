/* Dots of six rows with some packs of queries, products of four bytes at once, in registers of CX_BYTES: see
 * screen_whole.h, which includes this with CX_MULTIPLY, the instruction or two. */

#define CX_SUMS CX_NAME(_sums)
#define CX_FLOATS CX_NAME(_floats)
typedef int32_t CX_SUMS __attribute__((vector_size(CX_BYTES)));
typedef float CX_FLOATS __attribute__((vector_size(CX_BYTES)));

#ifdef CX_SIGNED /* both sides have a sign: what a row brings with it for the other is in the sums from the beginning */
#define CX_ROW(j) CX_SUMS a##j = rows[j].raised - (CX_SUMS){0}, b##j = a##j, c##j = a##j, d##j = a##j;
#define CX_SIGN ^ (int32_t)0x80808080
#else
#define CX_ROW(j) CX_SUMS a##j = {0}, b##j = {0}, c##j = {0}, d##j = {0};
#define CX_SIGN
#endif
#define CX_TAKE(q, column)                                                                                             \
    do {                                                                                                               \
        memcpy(&q, pack + column * apart + i * 16, CX_BYTES);                                                          \
        q = q CX_SIGN;                                                                                                 \
    } while (0)
#define CX_ADD(sum, j, column) sum = (CX_SUMS)CX_MULTIPLY(sum, q##column, x)
#define CX_ROW_ADDED(j)                                                                                                \
    memcpy(&four, rows[j].at + i, 4);                                                                                  \
    x = four - (CX_SUMS){0};                                                                                           \
    CX_EACH_COLUMN(CX_ADD, j)
#define CX_LEAVE(sum, j, column)                                                                                       \
    do {                                                                                                               \
        memcpy(&floats, steps + column * V, CX_BYTES);                                                                 \
        floats = __builtin_convertvector(sum - rows[j].raised, CX_FLOATS) * rows[j].step * floats;                     \
        memcpy(out + j * stride + column * V, &floats, CX_BYTES);                                                      \
    } while (0)
#define CX_ROW_LEFT(j) CX_EACH_COLUMN(CX_LEAVE, j)

/* 1 to 4 columns of queries that lie `apart`: packs, or halves of one. */
CX_TARGET CX_INLINE void CX_NAME(_tile)(int columns, const cx_whole_row *rows, const uint8_t *pack, ptrdiff_t apart,
                                        ptrdiff_t bytes, const float *steps, float *out, ptrdiff_t stride)
{
    enum { V = CX_BYTES / 4 };
    CX_SUMS x, q0, q1, q2, q3;
    CX_FLOATS floats;
    int32_t four;
    CX_SIX_ROWS(CX_ROW)
    for (ptrdiff_t i = 0; i < bytes; i += 4) {
        CX_TAKE(q0, 0);
        if (columns > 1)
            CX_TAKE(q1, 1);
        if (columns > 2)
            CX_TAKE(q2, 2);
        if (columns > 3)
            CX_TAKE(q3, 3);
        CX_SIX_ROWS(CX_ROW_ADDED)
    }
    CX_SIX_ROWS(CX_ROW_LEFT)
}

CX_TARGET CX_UNUSED static void CX_NAME(_dots)(const cx_whole_row *rows, ptrdiff_t nrows, ptrdiff_t ahead,
                                               const uint8_t *pack, ptrdiff_t packs, ptrdiff_t bytes,
                                               const float *steps, float *out, ptrdiff_t stride)
{
    for (ptrdiff_t i = 0; i < nrows; i += 6)
        for (ptrdiff_t j = 0, columns; j < packs; j += columns) {
            const uint8_t *from = pack + j * bytes * 16;
            const float *step = steps + j * 16;
            float *to = out + i * stride + j * 16;
            if (j == 0 && i < ahead)
                cx_whole_fetch(rows + nrows + i, bytes);
            columns = CX_BYTES < 64 ? 1 : packs - j == 4 || packs - j >= 7 ? 4 : packs - j >= 3 ? 3 : packs - j;
            if (CX_BYTES < 64)
                CX_NAME(_tile)(64 / CX_BYTES, rows + i, from, CX_BYTES, bytes, step, to, stride);
            else if (columns == 4)
                CX_NAME(_tile)(4, rows + i, from, bytes * 16, bytes, step, to, stride);
            else if (columns == 3)
                CX_NAME(_tile)(3, rows + i, from, bytes * 16, bytes, step, to, stride);
            else if (columns == 2)
                CX_NAME(_tile)(2, rows + i, from, bytes * 16, bytes, step, to, stride);
            else
                CX_NAME(_tile)(1, rows + i, from, bytes * 16, bytes, step, to, stride);
        }
}

#undef CX_SUMS
#undef CX_FLOATS
#undef CX_ROW
#undef CX_SIGN
#undef CX_TAKE
#undef CX_ADD
#undef CX_ROW_ADDED
#undef CX_LEAVE
#undef CX_ROW_LEFT
#undef CX_BYTES
#undef CX_TARGET
#undef CX_NAME
#undef CX_SIGNED
#undef CX_MULTIPLY
