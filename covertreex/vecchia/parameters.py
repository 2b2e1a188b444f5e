"""A kernel's parameters, and perhaps the noise, as a vector of numbers."""

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from covertreex.base.types import FloatArray
from covertreex.errors import InvalidInputError
from covertreex.kernels import Kernel, Product, Sum
from covertreex.kernels.checks import LARGEST, SMALLEST


def free_parameters(kernel: Kernel) -> list[str]:
    """Names of the parameters that are estimated by default: lengthscales, and variances that data can tell apart.

    Of a product's variances only that of the first part is free: all others say the same.

    Examples
    --------
    >>> from covertreex import RBF, Matern12
    >>> free_parameters(RBF() * Matern12(0.5))
    ['k1__lengthscale', 'k1__variance', 'k2__lengthscale']
    """
    return _free(kernel, "", True)


def _free(kernel: Kernel, prefix: str, scaled: bool) -> list[str]:
    names = []
    if isinstance(kernel, (Sum, Product)):
        for i, part in enumerate(kernel.parts, 1):
            own = scaled if i == 1 else isinstance(kernel, Sum)
            names += _free(part, f"{prefix}k{i}__", own)
        return names
    for field in fields(kernel):  # type: ignore[arg-type]
        value = getattr(kernel, field.name)
        if isinstance(value, Kernel):  # a multiple of a sum or product
            names += _free(value, f"{prefix}{field.name}__", False)
        elif (field.name.startswith("lengthscale") and np.ndim(value) < 2) or (field.name == "variance" and scaled):
            names.append(f"{prefix}{field.name}")
    return names


class Parameters:
    """Some parameters of a kernel, and perhaps the noise, as a vector of numbers."""

    def __init__(self, kernel: Kernel, names: Sequence[str], noise: float | None) -> None:
        self.kernel, self.names, self.noise = kernel, list(names), noise
        params, values = kernel.get_params(), []
        for name in self.names:
            if name not in params:
                raise InvalidInputError(f"free names {name!r}, but the kernel has {', '.join(params)}.")
            try:
                value = np.asarray(params[name], dtype=np.float64)
            except (TypeError, ValueError):
                value = np.zeros(0)
            if value.ndim > 1 or value.size == 0 or not np.all(value > 0.0):
                raise InvalidInputError(
                    f"free names {name!r}, which is {params[name]!r}; only positive numbers are fit."
                )
            values.append(value)
        self.shapes = [value.shape for value in values]
        start = [np.ravel(value) for value in values] + ([] if noise is None else [np.array([noise])])
        if not start:
            raise InvalidInputError("nothing is free: give names of parameters in free, or fit_noise=True.")
        lengths = [value.size for value in values]
        ranges = [self._range(name) for name, size in zip(self.names, lengths, strict=True) for _ in range(size)]
        #: From where to where they may be.
        self.low, self.high = np.array(ranges + ([] if noise is None else [(0.0, np.inf)])).T
        #: The numbers that parameters and noise have.
        self.numbers: FloatArray = np.concatenate(start)

    def _range(self, name: str) -> tuple[float, float]:
        """From where to where a parameter may be."""
        owner, _, own = name.rpartition("__")
        kernel: Any = self.kernel.get_params()[owner] if owner else self.kernel
        low, high = getattr(kernel, "ranges", {}).get(own, (SMALLEST, LARGEST))
        return float(low), float(high)

    @property
    def logarithms(self) -> FloatArray:
        """ndarray: of the numbers; of a noise of 0, -inf."""
        with np.errstate(divide="ignore"):
            return np.log(self.numbers)

    @property
    def ends(self) -> tuple[FloatArray, FloatArray]:
        """ndarray, ndarray: the logarithms of `low` and of `high`."""
        with np.errstate(divide="ignore"):
            return np.log(self.low), np.log(self.high)

    def moved(self, theta: FloatArray) -> "Parameters":
        """The same parameters, with these logarithms."""
        kernel, noise = self.at(theta)
        return Parameters(kernel, self.names, noise)

    def places(self) -> list[tuple[str, int | None]]:
        """Of each number but the noise: its parameter, and its place in one that has several."""
        return [
            (name, place if shape else None)
            for name, shape in zip(self.names, self.shapes, strict=True)
            for place in range(math.prod(shape))
        ]

    def named(self, numbers: FloatArray) -> dict[str, Any]:
        """Numbers in the order of the vector, by the names of the parameters; 'noise' beside them."""
        found, at = {}, 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            size = math.prod(shape)
            found[name] = tuple(numbers[at : at + size].tolist()) if shape else float(numbers[at])
            at += size
        return found if self.noise is None else found | {"noise": float(numbers[-1])}

    def at(self, theta: FloatArray) -> tuple[Kernel, float | None]:
        """The kernel, and the noise if that is free, of a vector of logarithms."""
        found = self.named(np.clip(np.exp(theta), self.low, self.high))
        noise = found.pop("noise", None)
        return (self.kernel.set_params(**found) if found else self.kernel), noise
