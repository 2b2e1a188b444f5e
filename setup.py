"""The Cython extensions; everything else is in pyproject.toml."""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

# Same bits everywhere: no contraction into fused multiply-add, no -march=native; canonical.h picks registers at run
# time. -fno-math-errno and -fno-trapping-math change no value, they let sqrt be an instruction and loops be vectors.
# Screens alone may contract: they only bound.
FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi", "-Wno-unused-function"]
HEADERS = (
    "canonical.h",
    "canonical.pxd",
    "euclid.h",
    "memory.pxd",
    "screen.h",
    "screen_dots.h",
    "screen_tile.h",
    "nearest.h",
    "whiten.h",
)
NAMES = (
    "boxes", "build", "canonical", "euclid", "factors", "graph", "halos", "maximin", "nearest", "order", "queries",
    "scan", "screen", "search", "whiten",
)  # fmt: skip
CONTRACTED = ("nearest", "screen", "whiten")
CORE = os.path.join("covertreex", "_core")

extensions = [
    Extension(
        f"covertreex._core.{name}",
        [os.path.join(CORE, f"{name}.pyx")],
        include_dirs=[CORE],
        depends=[os.path.join(CORE, file) for file in HEADERS],
        extra_compile_args=[*FLAGS, "-ffp-contract=fast" if name in CONTRACTED else "-ffp-contract=off"],
    )
    for name in NAMES
]

setup(
    options={"build_ext": {"parallel": os.cpu_count()}},
    ext_modules=cythonize(
        extensions,
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "freethreading_compatible": False,
        },
    ),
)
