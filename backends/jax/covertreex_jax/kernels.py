"""Correlations on a device: the closed forms of A4, and sums of products of tables (A10)."""

import jax
import jax.numpy as jnp

#: By the number of the kernel in canonical arithmetic, a function of r2 and alpha.
CLOSED = {
    0: lambda r2, alpha: jnp.exp(-0.5 * r2),
    1: lambda r2, alpha: jnp.exp(-jnp.sqrt(r2)),
    2: lambda r2, alpha: _matern(jnp.sqrt(3.0 * r2), 0.0),
    3: lambda r2, alpha: _matern(jnp.sqrt(5.0 * r2), 1.0 / 3.0),
    4: lambda r2, alpha: jnp.exp(-alpha * jnp.log1p(r2 / (2.0 * alpha))),
}


def _matern(a, square):
    return (1.0 + a + square * a * a) * jnp.exp(-a)


class Correlation:
    """A kernel for a variance of 1, as a device evaluates it: the same object means the same compiled program.

    Parameters
    ----------
    kernel : covertreex.kernels.Kernel
    d : int
        Columns that it compares.
    """

    def __init__(self, kernel, d):
        self.code, self.alpha, self.expression = kernel.code, kernel.alpha, kernel.expression_for(d)
        self.stops = [d] if self.expression is None else self.expression.group_stop.tolist()
        if self.expression is None and self.code not in CLOSED:
            raise LookupError(f"it does not know the kernel with the number {self.code}")

    def __eq__(self, other):
        return self.key == other.key

    def __hash__(self):
        return hash(self.key)

    @property
    def key(self):
        """tuple: what tells it from others."""
        return self.code, self.alpha, id(self.expression), tuple(self.stops)

    def __call__(self, queries, rows):
        """Of coordinates (q, d) and (r, d): an array (q, r)."""
        squares, start = [], 0
        for stop in self.stops:
            t = jnp.zeros((len(queries), len(rows)), rows.dtype)
            for axis in range(start, stop):
                t += jnp.square(queries[:, axis, None] - rows[None, :, axis])
            squares.append(t)
            start = stop
        return CLOSED[self.code](squares[0], self.alpha) if self.expression is None else self._sum(squares)

    def _sum(self, squares):
        e, begin, total = self.expression, 0, jnp.zeros_like(squares[0])
        for weight, end in zip(e.weight.tolist(), e.term_stop.tolist(), strict=True):
            term = jnp.full_like(squares[0], weight)
            for f in range(begin, end):
                t = squares[e.factor_group[f]]
                if e.rescale_table[f] >= 0:
                    t = t * _value(e.tables[e.rescale_table[f]], squares[e.rescale_group[f]])
                term *= _value(e.tables[e.factor_table[f]], t)
            total, begin = total + term, end
        return total


def _value(table, t):
    """A table at t: the piece that the first bits of t name, and a polynomial of the others."""
    double = t.dtype == jnp.float64
    shift, bias = (47, 0) if double else (18, 896 << 5)  # the exponent of float32 begins at another power
    integer = jnp.int64 if double else jnp.int32
    bits = jax.lax.bitcast_convert_type(t, integer)
    number = jnp.clip((bits >> shift) + (bias - table.first), 0, len(table.pieces) - 1)
    one = jnp.asarray(1.0, t.dtype)
    fraction = (bits & ((1 << shift) - 1)) | jax.lax.bitcast_convert_type(one, integer)
    u = (jax.lax.bitcast_convert_type(fraction, t.dtype) - (1.0 + 1.0 / 64.0)) * 64.0
    pieces = jnp.asarray(table.pieces, t.dtype)
    value = jnp.zeros_like(t)
    for power in range(pieces.shape[1] - 1, -1, -1):
        value = value * u + pieces[:, power][number]
    return value
