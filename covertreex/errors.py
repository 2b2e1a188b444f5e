"""Exceptions. Each message says what was given, what is allowed and what to do next."""

import numpy as np


class CovertreexError(Exception):
    """Base of every error that covertreex raises on purpose."""


class InvalidInputError(CovertreexError, ValueError):
    """Data or an argument that cannot be used."""


class FileFormatError(CovertreexError, ValueError):
    """A file that is damaged, truncated, of another format, or of a later version of this one."""


class SettingsError(CovertreexError, ValueError):
    """Settings that contradict each other, or an environment variable that is unknown or malformed."""


class BackendError(CovertreexError, RuntimeError):
    """A backend that is unknown, broken, or unable to do what was asked of it."""


class FactorizationError(CovertreexError, np.linalg.LinAlgError):
    """The covariance of the inducing points is not positive definite at the jitter tried."""


class InvariantError(CovertreexError, AssertionError):
    """A structure breaks one of its numbered invariants (docs/architecture.md)."""
