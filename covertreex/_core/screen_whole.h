/* Dots of rows with queries whose components are whole numbers, of eight bits (docs/mathematics.md, C4) or sixteen (C7).
 *
 * They are added up as integers, so they are the same however that is done. Of eight bits there are four products at
 * once where the processor multiplies bytes (VNNI), else two; these are of 16 bits, for which components have to be
 * small, seven bits. Of sixteen bits there are two, and sums stay within 32 bits.
 *
 * A pack is four bytes of each of 16 queries, 64 bytes: four components of eight bits, or two of sixteen. Those of eight
 * are `offset` more than they are, one more than the largest there may be, for instructions want one side without a
 * sign; what that adds to a dot comes with the row.
 */
#ifndef COVERTREEX_SCREEN_WHOLE_H
#define COVERTREEX_SCREEN_WHOLE_H

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

/* ARM multiplies four bytes at once since ARMv8.2, if it says so. */
#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#define CX_HAS_DOT 1
#define CX_DOT_TARGET
#elif defined(__aarch64__) && defined(__linux__) && !defined(__clang__)
#include <sys/auxv.h>
#define CX_HAS_DOT (getauxval(AT_HWCAP) & HWCAP_ASIMDDP)
#define CX_DOT_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#endif

/* A row: where its components are, what they are multiples of, and `offset` times their sum, 0 of sixteen bits. */
typedef struct {
    const char *at;
    float step;
    int32_t raised;
} cx_whole_row;

/* Put a query's components into lane `lane` of its packs. */
CX_UNUSED static void cx_eight_put(const int8_t *components, ptrdiff_t m, int offset, uint8_t *pack, ptrdiff_t lane)
{
    for (ptrdiff_t i = 0; i < m; ++i)
        pack[i / 4 * 64 + lane * 4 + i % 4] = (uint8_t)(components[i] + offset);
}

CX_INLINE void cx_whole_fetch(const cx_whole_row *rows, ptrdiff_t bytes)
{
    for (int j = 0; j < 6; ++j)
        for (ptrdiff_t i = 0; i < bytes; i += 64)
            CX_PREFETCH(rows[j].at + i);
}

/* On any processor, slowly. */
CX_UNUSED static void cx_eight_plain_dots(const cx_whole_row *rows, ptrdiff_t nrows, ptrdiff_t ahead,
                                          const uint8_t *pack, ptrdiff_t packs, ptrdiff_t m, const float *steps,
                                          float *out, ptrdiff_t stride)
{
    (void)ahead;
    for (ptrdiff_t j = 0; j < nrows; ++j)
        for (ptrdiff_t number = 0; number < packs; ++number) {
            const uint8_t *from = pack + number * m * 16;
            int32_t sums[16] = {0};
            for (ptrdiff_t i = 0; i < m; i += 4)
                for (int lane = 0; lane < 16; ++lane)
                    for (int l = 0; l < 4; ++l)
                        sums[lane] += from[i * 16 + lane * 4 + l] * (int8_t)rows[j].at[i + l];
            for (int lane = 0; lane < 16; ++lane)
                out[j * stride + number * 16 + lane] =
                    (float)(sums[lane] - rows[j].raised) * rows[j].step * steps[number * 16 + lane];
        }
}

#ifdef CX_SCREEN_V4
typedef int32_t cx_seven_sums __attribute__((vector_size(32)));
typedef float cx_seven_floats __attribute__((vector_size(32)));

/* Two products at once, in 16 bits: 6 rows and half a pack. Components are at most CX_SEVEN: products come in pairs, and
 * two pairs are added up, at most 4 * 63 * 127 < 2**15, before they are made wider. */
enum { CX_SEVEN = 63 };
#define CX_EIGHT_V3 __attribute__((target("avx2")))
#define CX_ROW(j) __m256i a##j = _mm256_setzero_si256();
#define CX_FOUR(x, j, l)                                                                                               \
    memcpy(&four, rows[j].at + l, 4);                                                                                  \
    x = _mm256_set1_epi32(four);
#define CX_ADD(j)                                                                                                      \
    CX_FOUR(x, j, i)                                                                                                   \
    CX_FOUR(y, j, i + 4)                                                                                               \
    x = _mm256_add_epi16(_mm256_maddubs_epi16(p, x), _mm256_maddubs_epi16(q, y));                                      \
    a##j = _mm256_add_epi32(a##j, _mm256_madd_epi16(x, ones));
#define CX_LEAVE(j)                                                                                                    \
    floats = __builtin_convertvector((cx_seven_sums)a##j - rows[j].raised, cx_seven_floats) * rows[j].step * step;     \
    memcpy(out + j * stride, &floats, 32);
CX_EIGHT_V3 CX_INLINE void cx_eight_half(const cx_whole_row *rows, const uint8_t *pack, ptrdiff_t m,
                                         const float *steps, float *out, ptrdiff_t stride)
{
    const __m256i ones = _mm256_set1_epi16(1);
    cx_seven_floats floats, step;
    int32_t four;
    memcpy(&step, steps, 32);
    CX_SIX_ROWS(CX_ROW)
    for (ptrdiff_t i = 0; i < m; i += 8) {
        const __m256i p = _mm256_loadu_si256((const __m256i *)(pack + i * 16));
        const __m256i q = _mm256_loadu_si256((const __m256i *)(pack + i * 16 + 64));
        __m256i x, y;
        CX_SIX_ROWS(CX_ADD)
    }
    CX_SIX_ROWS(CX_LEAVE)
}
#undef CX_ROW
#undef CX_FOUR
#undef CX_ADD
#undef CX_LEAVE

CX_EIGHT_V3 CX_UNUSED static void cx_eight_v3_dots(const cx_whole_row *rows, ptrdiff_t nrows, ptrdiff_t ahead,
                                                   const uint8_t *pack, ptrdiff_t packs, ptrdiff_t m,
                                                   const float *steps, float *out, ptrdiff_t stride)
{
    for (ptrdiff_t i = 0; i < nrows; i += 6) {
        if (i < ahead)
            cx_whole_fetch(rows + nrows + i, m);
        for (ptrdiff_t half = 0; half < 2 * packs; ++half)
            cx_eight_half(rows + i, pack + half / 2 * 16 * m + half % 2 * 32, m, steps + 8 * half,
                          out + i * stride + 8 * half, stride);
    }
}

/* Four at once, in registers of 64 bytes, or of 32 on processors that have no wider ones. */
#define CX_HAS_BYTES4 (CX_HAS_V4 && __builtin_cpu_supports("avx512vnni"))
#define CX_BYTES 64
#define CX_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define CX_NAME(x) cx_eight_wide##x
#define CX_MULTIPLY(sum, q, x) _mm512_dpbusd_epi32((__m512i)(sum), (__m512i)(q), (__m512i)(x))
#include "screen_bytes.h"

#if !defined(__clang__) && __GNUC__ >= 11
#define CX_HAS_BYTES3 (!cx_narrow_only && __builtin_cpu_supports("avxvnni"))
#define CX_BYTES 32
#define CX_TARGET __attribute__((target("avx2,avxvnni")))
#define CX_NAME(x) cx_eight_narrow##x
#define CX_MULTIPLY(sum, q, x) _mm256_dpbusd_avx_epi32((__m256i)(sum), (__m256i)(q), (__m256i)(x))
#include "screen_bytes.h"
#endif
#endif

#ifdef CX_HAS_DOT
#define CX_BYTES 16
#define CX_TARGET CX_DOT_TARGET
#define CX_NAME(x) cx_eight_dot##x
#define CX_SIGNED 1
#define CX_MULTIPLY(sum, q, x) vdotq_s32((int32x4_t)(sum), (int8x16_t)(q), (int8x16_t)(x))
#include "screen_bytes.h"
#endif

/* Ways to form dots: on any processor, and what it may have. */
enum { CX_EIGHT_PLAIN, CX_EIGHT_SEVEN, CX_EIGHT_NARROW, CX_EIGHT_WIDE, CX_EIGHT_DOT };

/* The fastest for components of at most `largest`. */
CX_UNUSED static int cx_eight_way(int largest)
{
    (void)largest;
#ifdef CX_HAS_BYTES4
    if (CX_HAS_BYTES4)
        return CX_EIGHT_WIDE;
#endif
#ifdef CX_HAS_BYTES3
    if (CX_HAS_BYTES3)
        return CX_EIGHT_NARROW;
#endif
#ifdef CX_EIGHT_V3
    if (largest <= CX_SEVEN && __builtin_cpu_supports("avx2"))
        return CX_EIGHT_SEVEN;
#endif
#ifdef CX_HAS_DOT
    if (CX_HAS_DOT)
        return CX_EIGHT_DOT;
#endif
    return CX_EIGHT_PLAIN;
}

/* The largest components for which there is a fast way; 0 where there is none. */
CX_UNUSED static int cx_eight_largest(void)
{
    for (int largest = 127; largest > 0; largest /= 2)
        if (cx_eight_way(largest) != CX_EIGHT_PLAIN)
            return largest;
    return 0;
}

/* Dots of rows (a multiple of 6, and `ahead` more, which will be next) with packs of queries, whose components are
 * multiples of `steps`: out[row * stride + query]. m, the components of a row, is a multiple of 16. */
CX_UNUSED static void cx_eight_dots(int way, const cx_whole_row *rows, ptrdiff_t nrows, ptrdiff_t ahead,
                                    const uint8_t *pack, ptrdiff_t packs, ptrdiff_t m, const float *steps, float *out,
                                    ptrdiff_t stride)
{
#define CX_WAY(number, name)                                                                                           \
    case number:                                                                                                       \
        cx_eight_##name##_dots(rows, nrows, ahead, pack, packs, m, steps, out, stride);                                \
        return;
    switch (way) {
#ifdef CX_HAS_BYTES4
        CX_WAY(CX_EIGHT_WIDE, wide)
#endif
#ifdef CX_HAS_BYTES3
        CX_WAY(CX_EIGHT_NARROW, narrow)
#endif
#ifdef CX_EIGHT_V3
        CX_WAY(CX_EIGHT_SEVEN, v3)
#endif
#ifdef CX_HAS_DOT
        CX_WAY(CX_EIGHT_DOT, dot)
#endif
        CX_WAY(CX_EIGHT_PLAIN, plain)
    }
#undef CX_WAY
}

/* Sixteen bits. ARM has the products of even components in one half of a register and those of odd ones in the other,
 * any other processor side by side. */
CX_INLINE ptrdiff_t cx_sixteen_place(ptrdiff_t i, ptrdiff_t lane)
{
#ifdef __aarch64__
    return i / 2 * 32 + lane / 4 * 8 + i % 2 * 4 + lane % 4;
#else
    return i / 2 * 32 + lane * 2 + i % 2;
#endif
}

/* Put a query's components into lane `lane` of its packs. */
CX_UNUSED static void cx_sixteen_put(const int16_t *components, ptrdiff_t m, int16_t *pack, ptrdiff_t lane)
{
    for (ptrdiff_t i = 0; i < m; ++i)
        pack[cx_sixteen_place(i, lane)] = components[i];
}

/* On any processor, slowly. */
CX_UNUSED static void cx_sixteen_plain_dots(const cx_whole_row *rows, ptrdiff_t nrows, ptrdiff_t ahead,
                                            const uint8_t *pack, ptrdiff_t packs, ptrdiff_t bytes, const float *steps,
                                            float *out, ptrdiff_t stride)
{
    (void)ahead;
    for (ptrdiff_t j = 0; j < nrows; ++j)
        for (ptrdiff_t number = 0; number < packs; ++number) {
            const int16_t *row = (const int16_t *)rows[j].at, *from = (const int16_t *)(pack + number * bytes * 16);
            int32_t sums[16] = {0};
            for (ptrdiff_t i = 0; i < bytes / 2; ++i)
                for (int lane = 0; lane < 16; ++lane)
                    sums[lane] += from[cx_sixteen_place(i, lane)] * row[i];
            for (int lane = 0; lane < 16; ++lane)
                out[j * stride + number * 16 + lane] = (float)sums[lane] * rows[j].step * steps[number * 16 + lane];
        }
}

#ifdef CX_SCREEN_V4
#define CX_BYTES 64
#define CX_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define CX_NAME(x) cx_sixteen_wide##x
#define CX_MULTIPLY(sum, q, x) _mm512_dpwssd_epi32((__m512i)(sum), (__m512i)(q), (__m512i)(x))
#include "screen_bytes.h"

#define CX_BYTES 32
#define CX_TARGET __attribute__((target("avx2")))
#define CX_NAME(x) cx_sixteen_narrow##x
#define CX_MULTIPLY(sum, q, x) _mm256_add_epi32((__m256i)(sum), _mm256_madd_epi16((__m256i)(q), (__m256i)(x)))
#include "screen_bytes.h"

#define CX_BYTES 16
#define CX_TARGET
#define CX_NAME(x) cx_sixteen_half##x
#define CX_MULTIPLY(sum, q, x) _mm_add_epi32((__m128i)(sum), _mm_madd_epi16((__m128i)(q), (__m128i)(x)))
#include "screen_bytes.h"
#elif defined(__aarch64__)
#define CX_BYTES 16
#define CX_TARGET
#define CX_NAME(x) cx_sixteen_half##x
#define CX_MULTIPLY(sum, q, x)                                                                                         \
    vmlal_s16(vmlal_s16((int32x4_t)(sum), vget_low_s16((int16x8_t)(q)),                                                \
                        vget_low_s16(vuzp1q_s16((int16x8_t)(x), (int16x8_t)(x)))),                                     \
              vget_high_s16((int16x8_t)(q)), vget_low_s16(vuzp2q_s16((int16x8_t)(x), (int16x8_t)(x))))
#include "screen_bytes.h"
#endif

/* As `cx_eight_dots`, of sixteen bits; `plain`: as any processor would. */
CX_UNUSED static void cx_sixteen_dots(int plain, const cx_whole_row *rows, ptrdiff_t nrows, ptrdiff_t ahead,
                                      const uint8_t *pack, ptrdiff_t packs, ptrdiff_t m, const float *steps, float *out,
                                      ptrdiff_t stride)
{
#ifdef CX_SCREEN_V4
    if (!plain && CX_HAS_BYTES4) {
        cx_sixteen_wide_dots(rows, nrows, ahead, pack, packs, 2 * m, steps, out, stride);
        return;
    }
    if (!plain && __builtin_cpu_supports("avx2")) {
        cx_sixteen_narrow_dots(rows, nrows, ahead, pack, packs, 2 * m, steps, out, stride);
        return;
    }
#endif
#if defined(CX_SCREEN_V4) || defined(__aarch64__)
    if (!plain) {
        cx_sixteen_half_dots(rows, nrows, ahead, pack, packs, 2 * m, steps, out, stride);
        return;
    }
#endif
    cx_sixteen_plain_dots(rows, nrows, ahead, pack, packs, 2 * m, steps, out, stride);
}

#endif
