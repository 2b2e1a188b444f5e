"""The Cython extensions; everything else is in pyproject.toml."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

# Same bits everywhere: no contraction into fused multiply-add, no -march=native; canonical.h picks registers at run
# time. -fno-math-errno and -fno-trapping-math change no value, they let sqrt be an instruction and loops be vectors.
# Screens alone may contract: they only bound.
FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi", "-Wno-unused-function"]
CONTRACTED = ("nearest", "screen", "whiten")
CORE = Path("covertreex", "_core")
# Any header may be in any extension: all are built again when one changes. C and not C++: std::vector would allocate in
# libstdc++, unseen by the tests that make each allocation of the core fail, and std::sort is slower than sort.h.
HEADERS = sorted(str(path) for pattern in ("*.h", "*.pxd") for path in CORE.rglob(pattern))

extensions = [
    Extension(
        f"covertreex._core.{path.stem}",
        [str(path)],
        include_dirs=[str(CORE)],
        depends=HEADERS,
        extra_compile_args=[*FLAGS, "-ffp-contract=fast" if path.stem in CONTRACTED else "-ffp-contract=off"],
    )
    for path in sorted(CORE.glob("*.pyx"))
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
