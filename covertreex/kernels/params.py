"""Parameters of kernels by name, as scikit-learn asks for them."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, TypeVar

from covertreex.errors import InvalidInputError

K = TypeVar("K", bound="Params")


class Params:
    """What has parameters: dataclasses that never change, and may hold others of their kind."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name.

        Parameters
        ----------
        deep : bool
            Those of kernels that it is made of too: ``k1__lengthscale`` is that of the first of a sum or product.

        Returns
        -------
        dict

        Examples
        --------
        >>> from covertreex import RBF, Matern12
        >>> RBF(2.0).get_params()["lengthscale"]
        2.0
        >>> (RBF(2.0) + Matern12(0.5)).get_params()["k2__lengthscale"]
        0.5
        """
        params = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        if deep:
            for name, part in self._inner():
                params[name] = part
                params |= {f"{name}__{key}": value for key, value in part.get_params().items()}
        return params

    def set_params(self: K, **params: Any) -> K:
        """A kernel with other parameters. Kernels never change: it is the one returned that differs.

        Parameters
        ----------
        **params
            By the names that `get_params` has.

        Returns
        -------
        Kernel

        Raises
        ------
        InvalidInputError
            If there is no such parameter, or its value is out of range.

        Examples
        --------
        >>> from covertreex import RBF, Matern12
        >>> RBF().set_params(lengthscale=0.3)
        RBF(lengthscale=0.3, variance=1.0)
        >>> (RBF() * Matern12()).set_params(k2__variance=4.0).variance
        4.0
        """
        changed, names = self, [field.name for field in fields(self)]  # type: ignore[arg-type]
        own = {name: value for name, value in params.items() if name in names}
        if own:
            changed = replace(changed, **own)  # type: ignore[type-var]
        inner = dict(changed._inner())
        within: dict[str, dict[str, Any]] = {}
        for name, value in params.items():
            first, _, rest = name.partition("__")
            if name in own:
                continue
            if first not in inner:
                raise InvalidInputError(
                    f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(self.get_params())}."
                )
            if rest:
                within.setdefault(first, {})[rest] = value
            else:
                inner[first] = value
        for first, some in within.items():
            inner[first] = inner[first].set_params(**some)
        return changed._with_inner(inner) if len(own) < len(params) else changed

    def _inner(self) -> Iterator[tuple[str, "Params"]]:
        """The kernels that this one is made of, by name."""
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Params):
                yield field.name, value
            elif isinstance(value, tuple) and value and all(isinstance(part, Params) for part in value):
                yield from ((f"k{i}", part) for i, part in enumerate(value, 1))

    def _with_inner(self: K, inner: dict[str, Any]) -> K:
        changes: dict[str, Any] = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Params):
                changes[field.name] = inner[field.name]
            elif isinstance(value, tuple) and value and all(isinstance(part, Params) for part in value):
                changes[field.name] = tuple(inner[f"k{i}"] for i in range(1, len(value) + 1))
        return replace(self, **changes)  # type: ignore[type-var]

    def __sklearn_clone__(self: K) -> K:
        return self  # nobody can change it
