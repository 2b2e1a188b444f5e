"""The version, which pyproject.toml reads here, and the name of the distribution (docs/name.md)."""

DISTRIBUTION = "vecchia-neighbors"
__version__ = "0.1.0"
