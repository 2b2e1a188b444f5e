"""Exceptions. Each message says what was given, what is allowed and what to do next."""

import numpy as np


class CovertreexError(Exception):
    """Base of every error that covertreex raises on purpose.

    Examples
    --------
    >>> import covertreex as cx
    >>> issubclass(cx.SettingsError, cx.CovertreexError)
    True
    """


class InvalidInputError(CovertreexError, ValueError):
    """Data or an argument that cannot be used.

    Examples
    --------
    >>> import covertreex as cx
    >>> cx.cover_tree([])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    covertreex.errors.InvalidInputError: X must have shape (n, d), got (0,). Use X.reshape(-1, 1) ...
    """


class FileFormatError(CovertreexError, ValueError):
    """A file that is damaged, truncated, of another format, or of a later version of this one."""


class SettingsError(CovertreexError, ValueError):
    """Settings that contradict each other, or an environment variable that is unknown or malformed.

    Examples
    --------
    >>> import covertreex as cx
    >>> cx.TraversalSettings(stream_tile=0)
    Traceback (most recent call last):
    ...
    covertreex.errors.SettingsError: stream_tile must be an integer from 1 to 64; got 0.
    """


class BackendError(CovertreexError, RuntimeError):
    """A backend that is unknown, broken, or unable to do what was asked of it.

    Examples
    --------
    >>> import covertreex as cx
    >>> cx.get_backend("abacus")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    covertreex.errors.BackendError: unknown backend 'abacus'; installed: ...
    """


class BackendWarning(UserWarning):
    """Another backend answers than the one that would come first: the bits are the same, the time may not be.

    Examples
    --------
    >>> import covertreex as cx
    >>> issubclass(cx.BackendWarning, UserWarning)
    True
    """


class FactorizationError(CovertreexError, np.linalg.LinAlgError):
    """The covariance of the inducing points is not positive definite at the jitter tried.

    Examples
    --------
    >>> import numpy as np, covertreex as cx
    >>> cx.cover_tree(np.zeros((9, 1)), kernel=cx.RBF(), inducing=3, jitter=0.0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    covertreex.errors.FactorizationError: the covariance of the 3 inducing points is not ...
    """


class InvariantError(CovertreexError, AssertionError):
    """A structure breaks one of its numbered invariants (docs/architecture.md).

    Examples
    --------
    >>> import covertreex as cx
    >>> issubclass(cx.InvariantError, AssertionError)
    True
    """
