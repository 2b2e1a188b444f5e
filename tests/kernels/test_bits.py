"""Tables have the same bits on every machine: those that are written down here."""

import hashlib

import pytest

import covertreex as cx
from covertreex.kernels.expression import make_expression

#: The beginning of a digest of all coefficients.
BITS = {
    cx.RBF(): "15e3e2e215231697",
    cx.Matern12(): "36d57c894c7bbbbf",
    cx.Matern32(): "e9ea905ffd7c9015",
    cx.Matern52(): "055b230d8c365f5e",
    cx.RationalQuadratic(alpha=0.3): "4777c2b3a29aff84",
    cx.Matern(nu=0.05): "9f3b8046c8495c2f",
    cx.Matern(nu=0.3): "dd5ae69eb19d0c37",
    cx.Matern(nu=0.6): "c411e6f1a8ea513b",
    cx.Matern(nu=1.1): "f1e656d71a66f2ec",
    cx.Matern(nu=3.3): "eefdd0ff0b0330b1",
    cx.Matern(nu=100.0): "86372270ddd7e4db",
    cx.PoweredExponential(power=0.3): "aab34cf9e0b1e786",
    cx.PoweredExponential(power=1.7): "6a940a2166914d2b",
    cx.Cauchy(alpha=1.3, beta=0.2): "434370d7ecdea8bc",
    cx.Wendland(smoothness=0): "72b1a74509766cc4",
    cx.Wendland(smoothness=3, dimension=5): "e0a0768974e2ed92",
    cx.Spherical(): "1a4fbc66f3f807d3",
    cx.DampedCosine(frequency=0.577): "35d295f56ff9515b",
    cx.Cosine(period=0.7): "8a15262482f71667",
    cx.Gneiting(nu=1.5, alpha=0.4, beta=0.3): "35eacd44bf03d14b",
}


@pytest.mark.parametrize("kernel", BITS, ids=str)
def test_tables_are_those_of_every_machine(kernel):
    pieces = make_expression(kernel.terms()).pieces
    assert hashlib.sha256(pieces.tobytes()).hexdigest()[:16] == BITS[kernel]
