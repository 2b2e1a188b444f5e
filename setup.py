"""The Cython extensions, and the headers with the contract; everything else is in pyproject.toml."""

import json
import os
import runpy
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

# Same bits everywhere: no contraction into fused multiply-add, no -march=native; canonical.h picks registers at run
# time. -fno-math-errno and -fno-trapping-math change no value, they let sqrt be an instruction and loops be vectors.
# Screens alone may contract: they only bound.
FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi", "-Wno-unused-function"]
FLAGS += ["-Werror=implicit-function-declaration"]  # a kernel that C lacks
CONTRACTED = ("nearest", "screen", "whiten")
CORE = Path("covertreex", "_core")


def write_contract():
    """Write what C and Cython need of `covertreex.base.contract`, where it is not there already."""
    contract = runpy.run_path(os.path.join("covertreex", "base", "contract.py"))
    kernels, note = contract["KERNEL_CODES"], "Written by setup.py from covertreex/base/contract.py."
    counters = {name.upper(): column for column, name in enumerate(contract["COUNTERS"])}
    numbers = {
        "LANES": contract["LANES"],
        **{name.upper(): code for name, code in contract["METRIC_CODES"].items()},
        "NO_KERNEL": contract["NO_KERNEL"],
        **{name.upper(): code for name, code in kernels.items()},
        "EXPRESSION": contract["EXPRESSION"],
        **counters,
    }
    header = [
        f"/* {note} */",
        "#ifndef COVERTREEX_CONTRACT_H",
        "#define COVERTREEX_CONTRACT_H",
        "",
        "enum {",
        *(f"    CX_{name} = {number}," for name, number in numbers.items()),
        "};",
        "",
        "/* DO(code, name) for every kernel. */",
        f"#define CX_EACH_KERNEL(DO) {' '.join(f'DO(CX_{name.upper()}, {name})' for name in kernels)}",
        "",
        "/* All of it, as JSON: what this was built with. */",
        f"#define CX_CONTRACT {json.dumps(json.dumps(contract['CONTRACT']))}",
        "",
        "#endif",
    ]
    declarations = [
        f"# {note}",
        'cdef extern from "contract.h" nogil:',
        "    const char *CX_CONTRACT",
        "    enum:",
        *(f'        {name} "CX_{name}"' if name in counters else f"        CX_{name}" for name in numbers),
    ]
    for file, lines in (("contract.h", header), ("contract.pxd", declarations)):
        path, text = os.path.join(CORE, file), "\n".join(lines) + "\n"
        if os.path.exists(path):
            with open(path) as present:
                if present.read() == text:
                    continue
        with open(path, "w") as out:
            out.write(text)


write_contract()

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
