"""Canonical arithmetic (docs/mathematics.md, A1 to A5, A10) and bounds (B1, B2) in Numba, and the k best offers.

Numba keeps the order of operations as written and contracts nothing unless told to (`fastmath`), so these agree to the
bit with `covertreex.oracle` and `covertreex/_core/canonical.h`. `math.exp` and `math.log` are not used: Numba takes
them from SVML or from the C library, whichever it finds.
"""

import hashlib
import logging
import math
import os
import tempfile
from pathlib import Path

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from covertreex.protocols import CONTRACT, DUPLICATE_LEVEL, EUCLIDEAN, KERNEL_CODES, LANES, BackendError

if config.DISABLE_JIT:
    raise BackendError(
        "the numba backend needs Numba's compiler, which NUMBA_DISABLE_JIT=1 turns off; unset it, or choose another "
        "backend (covertreex.list_backends())."
    )

RBF, MATERN12, MATERN32 = KERNEL_CODES["rbf"], KERNEL_CODES["matern12"], KERNEL_CODES["matern32"]
MATERN52, RATIONAL_QUADRATIC = KERNEL_CODES["matern52"], KERNEL_CODES["rationalquadratic"]
NO_INDEX = np.iinfo(np.int64).max


def jit(function):
    """Compile `function`, which other kernels call, into its callers.

    Inlined because a call would copy a hundred words of array descriptions, and because only then Numba sees that
    nothing has to count references (`borrow`).
    """
    return njit(nogil=True, error_model="numpy", forceinline=True)(function)


def sources_digest(folder=Path(__file__).parent):
    """A digest of all that compiled kernels are made of; None where the sources cannot be read.

    Numba itself looks at one file's date and size: not at the functions inlined from others, nor at constants.
    """
    digest = hashlib.sha256(repr((CONTRACT, DUPLICATE_LEVEL)).encode())
    try:
        files = sorted(Path(folder).glob("*.py"))
        for file in files:
            content = file.read_bytes()
            digest.update(f"{file.name} {len(content)}\n".encode() + content)
    except OSError:
        return None
    return digest.hexdigest()[:16] if files else None


def cache_folder():
    """Where compiled kernels are kept: a folder for each state of the sources, so that no other's is ever used.

    In Numba's own folder, if the user named one; else beside the sources, else in the user's cache; None if there is no
    place that can be written.
    """
    digest = sources_digest()
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    places = [config.CACHE_DIR] if config.CACHE_DIR else [Path(__file__).parent / "__pycache__", Path(home)]
    for place in places if digest is not None else []:
        folder = Path(place, f"covertreex-numba-{digest}")
        if not folder.is_absolute() and not config.CACHE_DIR:  # nobody's home is known
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        return str(folder)
    return None


def tell_of_compiling(folder):
    """Say in the log that the first search will compile kernels, where `folder` keeps none."""
    if folder is None or not os.listdir(folder):
        often = "each time: there is no folder to keep them" if folder is None else "once"
        logging.getLogger("covertreex").info("numba compiles the kernels of its backend, for half a minute, %s", often)


_FOLDER = cache_folder()
tell_of_compiling(_FOLDER)


def jit_entry(function):
    """Compile `function`, which Python calls, without the GIL, and keep the result on disk where there is a place."""
    options = {"nogil": True, "error_model": "numpy"}
    if _FOLDER is not None:
        before, config.CACHE_DIR = config.CACHE_DIR, _FOLDER
        try:
            compiled = njit(cache=True, **options)(function)
            # Numba goes on to places of its own, which know nothing of the digest, if it cannot use this one.
            if Path(compiled.stats.cache_path).is_relative_to(_FOLDER):
                return compiled
        except (RuntimeError, OSError):  # "cannot cache function"
            pass
        finally:
            config.CACHE_DIR = before
    return njit(**options)(function)


@intrinsic
def borrow(typingctx, arrays):
    """A named tuple (or an array) whose arrays, and those of tuples in it, have no owner: no kernel counts references.

    Counting costs more than the rest of a tile of one node. The arguments of an entry outlive it; nothing else may be
    borrowed.
    """

    def codegen(context, builder, signature, arguments):
        def without_owner(kind, value):
            if isinstance(kind, types.Array):
                array = context.make_array(kind)(context, builder, value)
                array.meminfo = ir.Constant(array.meminfo.type, None)
                return array._getvalue()
            for place, field in enumerate(kind.types if isinstance(kind, types.BaseTuple) else ()):
                owned = builder.extract_value(value, place)
                value = builder.insert_value(value, without_owner(field, owned), place)
            return value

        return without_owner(signature.args[0], arguments[0])

    return arrays(arrays), codegen


# ---------------------------------------------------------------------------------------------------------------------
# A1: dot products


@jit
def dot16_plain(a, i, b, j):
    """A1 as it reads: the dot product of rows ``a[i]`` and ``b[j]`` in 16 lanes. Same bits as `dot16`, a third of the
    speed."""
    lanes = np.zeros(LANES)
    for start in range(0, a.shape[1], LANES):
        for lane in range(LANES):
            lanes[lane] += a[i, start + lane] * b[j, start + lane]
    for half in (8, 4):
        for lane in range(half):
            lanes[lane] += lanes[lane + half]
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])


@intrinsic
def dot16(typingctx, a, i, b, j):
    """A1: the dot product of rows ``a[i]`` and ``b[j]``, whose length is a multiple of 16.

    The lanes are two vectors of 8 doubles, which the compiler maps to the registers that the machine has. An intrinsic,
    because the loops of `dot16_plain` are not vectorised.
    """
    double, integer = ir.DoubleType(), ir.IntType(64)
    vector = ir.VectorType(double, 8)

    def codegen(context, builder, signature, arguments):
        def row_pointer(array_type, array, at):
            array = context.make_array(array_type)(context, builder, array)
            m = cgutils.unpack_tuple(builder, array.shape, 2)[1]
            return builder.gep(array.data, [builder.mul(at, m)]), m

        def load(pointer, at):
            place = builder.bitcast(builder.gep(pointer, [at]), vector.as_pointer())
            return builder.load(place, align=8)

        pointer_a, m = row_pointer(signature.args[0], arguments[0], arguments[1])
        pointer_b, _ = row_pointer(signature.args[2], arguments[2], arguments[3])
        zero = ir.Constant(vector, [0.0] * 8)
        low, high = (cgutils.alloca_once_value(builder, zero) for _ in range(2))
        with cgutils.for_range_slice(builder, integer(0), m, integer(LANES), inc=True) as (start, _):
            for lanes, at in ((low, start), (high, builder.add(start, integer(8)))):
                product = builder.fmul(load(pointer_a, at), load(pointer_b, at))
                builder.store(builder.fadd(builder.load(lanes), product), lanes)

        eight = builder.fadd(builder.load(low), builder.load(high))
        lane = [builder.extract_element(eight, ir.IntType(32)(number)) for number in range(8)]
        four = [builder.fadd(lane[number], lane[number + 4]) for number in range(4)]
        return builder.fadd(builder.fadd(four[0], four[2]), builder.fadd(four[1], four[3]))

    return types.float64(a, types.int64, b, types.int64), codegen


# ---------------------------------------------------------------------------------------------------------------------
# A2 to A4, A10: kernel values


@intrinsic
def bits_of(typingctx, x):
    """The bits of a float64, as an int64."""

    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), codegen


@intrinsic
def float_of(typingctx, bits):
    """The float64 with these bits."""

    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@jit
def exp_neg(x):
    """A2: ``exp(x)`` for ``x <= 0``; 0 below -708."""
    magic = 6755399441055744.0  # 1.5 * 2**52: adding it rounds to an integer, which the low bits then hold
    clamped = -708.0 if x < -708.0 else x
    shifted = clamped * 1.4426950408889634 + magic
    n = shifted - magic
    r = (clamped - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10
    r2 = r * r
    e = 1.0 / 479001600.0 + r * (1.0 / 6227020800.0)
    e = (1.0 / 3628800.0 + r * (1.0 / 39916800.0)) + r2 * e
    e = (1.0 / 40320.0 + r * (1.0 / 362880.0)) + r2 * e
    e = (1.0 / 720.0 + r * (1.0 / 5040.0)) + r2 * e
    e = (1.0 / 24.0 + r * (1.0 / 120.0)) + r2 * e
    e = (0.5 + r * (1.0 / 6.0)) + r2 * e
    e = (1.0 + r) + r2 * e
    scale = float_of((bits_of(shifted) + 1023) << 52)
    return 0.0 if x < -708.0 else e * scale


@jit
def log(x):
    """A3: ``log(x)`` for finite ``x >= 1``."""
    bits = bits_of(x)
    exponent = (bits >> 52) - 1023
    m = float_of((bits & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000)
    if m > 1.4142135623730951:
        m = m * 0.5
        exponent += 1
    n = float(exponent)
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    t = 1.0 / 21.0
    t = 1.0 / 19.0 + z * t
    t = 1.0 / 17.0 + z * t
    t = 1.0 / 15.0 + z * t
    t = 1.0 / 13.0 + z * t
    t = 1.0 / 11.0 + z * t
    t = 1.0 / 9.0 + z * t
    t = 1.0 / 7.0 + z * t
    t = 1.0 / 5.0 + z * t
    t = 1.0 / 3.0 + z * t
    t = z * t
    low = n * 1.90821492927058770002e-10 + 2.0 * (s * t)
    return n * 0.693147180369123816490 + (2.0 * s + low)


@jit
def kernel_value(code, variance, alpha, r2):
    """A4: the kernel's value at squared scaled distance `r2`; nan for a code that `arguments.payload` lets not pass."""
    if code == RBF:
        return variance * exp_neg(-0.5 * r2)
    if code == MATERN12:
        return variance * exp_neg(-math.sqrt(r2))
    if code == MATERN32:
        a = 1.7320508075688772 * math.sqrt(r2)
        return variance * ((1.0 + a) * exp_neg(-a))
    if code == MATERN52:
        a = 2.23606797749979 * math.sqrt(r2)
        return variance * (((1.0 + a) + (a * a) / 3.0) * exp_neg(-a))
    if code == RATIONAL_QUADRATIC:
        return variance * exp_neg(-alpha * log(1.0 + r2 / (2.0 * alpha)))
    return math.nan


@jit
def table_value(expression, table, t):
    """A10: a table's value at ``t >= 0``."""
    start = expression.table_stop[table - 1] if table > 0 else 0
    bits = bits_of(t)
    number = start + max(0, (bits >> 47) - expression.table_first[table])
    piece = min(number, expression.table_stop[table] - 1)
    a = expression.pieces
    u = (float_of((bits & 0x00007FFFFFFFFFFF) | 0x3FF0000000000000) - 1.015625) * 64.0
    u2 = u * u
    e = a[piece, 6] + a[piece, 7] * u
    e = (a[piece, 4] + a[piece, 5] * u) + u2 * e
    e = (a[piece, 2] + a[piece, 3] * u) + u2 * e
    return a[piece, 0] + (a[piece, 1] * u + u2 * e)


@jit
def group_square(expression, group, x, i, y, j):
    """A10: the squared distance of ``x[i]`` and ``y[j]`` in a group of columns."""
    s = 0.0
    for axis in range(expression.group_stop[group - 1] if group > 0 else 0, expression.group_stop[group]):
        t = x[i, axis] - y[j, axis]
        s = s + t * t
    return s


@jit
def expression_value(expression, x, i, y, j):
    """A10: the correlation of ``x[i]`` and ``y[j]``, rows of scaled coordinates.

    Distances are computed again for every factor, rather than kept: there is no place for them but the heap.
    """
    total, f = 0.0, 0
    for term in range(len(expression.term_stop)):
        product = expression.weight[term]
        while f < expression.term_stop[term]:
            t = group_square(expression, expression.factor_group[f], x, i, y, j)
            if expression.rescale_table[f] >= 0:
                s = group_square(expression, expression.rescale_group[f], x, i, y, j)
                t = t * table_value(expression, expression.rescale_table[f], s)
            product = product * table_value(expression, expression.factor_table[f], t)
            f += 1
        total = total + product
    return total


# ---------------------------------------------------------------------------------------------------------------------
# A5: distances


@jit
def nearness(payload, queries, q, row, by_tables):
    """A5, A7: how near a payload row is to query `q`: distance, ``|rho|``, squared scaled distance.

    `by_tables` says whether the kernel's code is `EXPRESSION`: where it is a constant, what is not needed is not
    compiled, and loops are faster.

    Rows are sorted by distance; those at one distance by ``|rho|``, the largest first, then by the third, then by
    dataset index. Euclidean distance is the scaled distance itself, so the others are
    1 and 0 there.
    """
    i = queries.rows[q]
    if i == row:
        return 0.0, 1.0, 0.0
    coords, factors, p = payload.coords, payload.factors, payload.p
    if i < 0:
        i = -1 - i
        coords, factors, p = queries.coords, queries.factors, queries.p
    r2 = 0.0
    for axis in range(coords.shape[1]):
        t = coords[i, axis] - payload.coords[row, axis]
        r2 = r2 + t * t
    if payload.metric == EUCLIDEAN:
        return math.sqrt(r2), 1.0, 0.0
    if by_tables:
        k = payload.variance * expression_value(payload.expression, coords, i, payload.coords, row)
    else:
        k = kernel_value(payload.kernel_code, payload.variance, payload.alpha, r2)
    rho = abs((k - dot16(factors, i, payload.factors, row)) / math.sqrt(p[i] * payload.p[row]))
    rho = 1.0 if rho > 1.0 else rho
    return math.sqrt(1.0 - rho), rho, r2


# ---------------------------------------------------------------------------------------------------------------------
# B1, B2: bounds


@jit
def lower(payload, queries, d):
    """B1: no true distance is below this when `d` is the computed one."""
    t = (d * d) * (1.0 - payload.slack_rel) - queries.slack_abs
    return math.sqrt(t) if t > 0.0 else 0.0


@jit
def upper(payload, queries, d):
    """B1: no true distance is above this when `d` is the computed one."""
    return math.sqrt((d * d) * (1.0 + payload.slack_rel) + queries.slack_abs)


@jit
def subtree_bound(payload, queries, far, radius):
    """B2: no point within `radius` of a point that is at least `far` away computes closer than this."""
    t = far - radius
    return lower(payload, queries, t) if t > 0.0 else 0.0


# ---------------------------------------------------------------------------------------------------------------------
# The k best offers: a max-heap by INVARIANT A7 (see `nearness`) in a row of the output itself, and beside it in `ties`,
# shape (k, 2), what rows at one distance are told apart by. It is always full: places that hold no offer yet hold
# (inf, NO_INDEX), which every offer comes before. So the kth best distance is distances[0].


@jit
def clear_best(distances, indices, ties):
    """Forget all offers."""
    distances[:] = np.inf
    indices[:] = NO_INDEX
    ties[:] = 0.0


@jit
def offer(distances, indices, ties, d, rho, r2, index):
    """Keep the offer if it is among the k best so far; say whether it was kept."""
    if not _comes_before(d, rho, r2, index, distances, indices, ties, 0):
        return False
    _sift_down(distances, indices, ties, len(distances), d, rho, r2, index)
    return True


@jit
def sort_best(distances, indices, ties):
    """Turn the heap into an answer: nearest first, (inf, -1) past the last."""
    for size in range(len(distances) - 1, 0, -1):
        d, rho, r2, index = distances[size], ties[size, 0], ties[size, 1], indices[size]
        _move_best(distances, indices, ties, 0, size)
        _sift_down(distances, indices, ties, size, d, rho, r2, index)
    for place in range(len(indices)):
        if indices[place] == NO_INDEX:
            indices[place] = -1


@jit
def _comes_before(d, rho, r2, index, distances, indices, ties, place):
    """A7: whether an offer comes before the one at a place of the heap."""
    if d != distances[place]:
        return d < distances[place]
    if rho != ties[place, 0]:
        return rho > ties[place, 0]
    if r2 != ties[place, 1]:
        return r2 < ties[place, 1]
    return index < indices[place]


@jit
def _move_best(distances, indices, ties, source, target):
    distances[target], indices[target] = distances[source], indices[source]
    ties[target, 0], ties[target, 1] = ties[source, 0], ties[source, 1]


@jit
def _sift_down(distances, indices, ties, size, d, rho, r2, index):
    """Put an offer in the place of the top of the heap of this size."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and _comes_before(
            distances[child], ties[child, 0], ties[child, 1], indices[child], distances, indices, ties, child + 1
        ):
            child += 1
        if not _comes_before(d, rho, r2, index, distances, indices, ties, child):
            break
        _move_best(distances, indices, ties, child, place)
        place = child
    distances[place], indices[place], ties[place, 0], ties[place, 1] = d, index, rho, r2
