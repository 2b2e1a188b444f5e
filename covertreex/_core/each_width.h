/* Includes CX_BODY once for each kind of registers, with
 *
 * CX_BYTES        how wide they are,
 * CX_TARGET       what inline functions are compiled for, and CX_FUNCTION all others,
 * CX_WIDTH(x)     their names, and CX_WIDTH32(x) those of screen_pairs.h for float,
 *
 * where CX_NAME(x) is defined: narrow ones for any processor, fused ones for x86-64-v3 where the compiler makes no clones for
 * it, and wide ones for x86-64-v4. CX_WIDEST (screen.h) calls the best.
 */

#define CX_BYTES 32
#define CX_TARGET
#define CX_FUNCTION CX_NARROW_CLONES
#define CX_WIDTH(x) CX_NAME(narrow_##x)
#define CX_WIDTH32(x) cx_screen32_narrow_##x
#include CX_BODY
#undef CX_TARGET
#undef CX_FUNCTION
#undef CX_WIDTH
#undef CX_WIDTH32

#ifdef CX_SCREEN_V3
#define CX_TARGET CX_SCREEN_V3
#define CX_FUNCTION CX_SCREEN_V3
#define CX_WIDTH(x) CX_NAME(fused_##x)
#define CX_WIDTH32(x) cx_screen32_fused_##x
#include CX_BODY
#undef CX_TARGET
#undef CX_FUNCTION
#undef CX_WIDTH
#undef CX_WIDTH32
#endif
#undef CX_BYTES

#ifdef CX_SCREEN_V4
#define CX_BYTES 64
#define CX_TARGET CX_SCREEN_V4
#define CX_FUNCTION CX_SCREEN_V4
#define CX_WIDTH(x) CX_NAME(wide_##x)
#define CX_WIDTH32(x) cx_screen32_wide_##x
#include CX_BODY
#undef CX_BYTES
#undef CX_TARGET
#undef CX_FUNCTION
#undef CX_WIDTH
#undef CX_WIDTH32
#endif

#undef CX_BODY
