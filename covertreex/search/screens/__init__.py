"""Screens: cheap, rigorous looks that leave few pairs to canonical arithmetic (docs/mathematics.md, C1 to C5)."""
