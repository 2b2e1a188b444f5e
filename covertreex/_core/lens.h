/* What a screen compares rows with, in one floating-point type: what the functions of screen_tile.h are told. All arrays
 * are borrowed: those of rows from a `Screen` (covertreex/search/screens), those of queries from the `Lens` of screen.pyx
 * that holds this. */
#ifndef COVERTREEX_LENS_H
#define COVERTREEX_LENS_H

#include <stddef.h>
#include <stdint.h>

#include "expression.h"

#define CX_DEFINE_LENS(NAME, T)                                                                                       \
    typedef struct {                                                                                                  \
        int kernel;                                                                                                   \
        T variance, alpha;                                                                                            \
        const cx_expression *expression; /* of CX_EXPRESSION */                                                       \
        int coarse;     /* whether kernels need not be right beyond 1e-4 (C4) */                                      \
        ptrdiff_t d, m; /* coordinates and factors; m is a multiple of 16 */                                          \
        ptrdiff_t t;    /* components in float32 that follow the factors */                                           \
        /* Rows. */                                                                                                   \
        const T *coords;    /* (n, d) */                                                                              \
        const T *scale;     /* (n,) */                                                                                \
        const T *factors;   /* m of each row, `wide` apart; or whole numbers: */                                      \
        const int16_t *whole;                                                                                         \
        const float *steps; /* (n,): what these are multiples of */                                                   \
        const float *tails; /* (n, t) */                                                                              \
        ptrdiff_t wide;                                                                                               \
        /* The queries of a group: the first `count` of `stride`, in whole packs. */                                  \
        ptrdiff_t count, stride;                                                                                      \
        const T *group_coords; /* (d, stride) */                                                                      \
        const T *group_scale;  /* (stride,) */                                                                        \
        const T *group_blunt;  /* (stride,) */                                                                        \
        const T *threshold;    /* (stride,): what |rho| has to reach, less what it may be off by in any case (C1) */  \
    } NAME##_lens;                                                                                                    \
    typedef struct { /* one query */                                                                                  \
        const T *coords, *factors;                                                                                    \
        const int16_t *whole;                                                                                         \
        const float *tail;                                                                                            \
        T scale, step;                                                                                                \
    } NAME##_query

CX_DEFINE_LENS(cx_screen32, float);
CX_DEFINE_LENS(cx_screen64, double);

#endif
