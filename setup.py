"""The Cython extensions; everything else is in pyproject.toml."""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

# Same bits everywhere: no contraction into fused multiply-add, no -march=native; canonical.h picks registers at run
# time. -fno-math-errno and -fno-trapping-math change no value, they let sqrt be an instruction and loops be vectors.
FLAGS = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi", "-Wno-unused-function"]
CORE = os.path.join("covertreex", "_core")

extensions = [
    Extension(
        f"covertreex._core.{name}",
        [os.path.join(CORE, f"{name}.pyx")],
        include_dirs=[CORE],
        depends=[os.path.join(CORE, "canonical.h"), os.path.join(CORE, "canonical.pxd")],
        extra_compile_args=FLAGS,
    )
    for name in ("canonical", "order", "maximin", "factors", "queries", "build", "search", "scan")
]

setup(
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
    )
)
