"""The Cython extensions, and the headers with the contract; everything else is in pyproject.toml."""

import json
import os
import runpy
import sys
import time
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Same bits everywhere: no contraction into fused multiply-add, no -march=native; canonical.h picks registers at run
# time. -fno-math-errno and -fno-trapping-math change no value, they let sqrt be an instruction and loops be vectors.
# Screens alone may contract: they only bound.
# No debug information, which is four fifths of the size.
FLAGS = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi", "-Wno-unused-function"]
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


def available_cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def extensions():
    """One extension for each file, those that take longest first, so that no core is left alone with one at the end."""
    # Any header may be in any extension: all are built again when one changes. C and not C++: std::vector would
    # allocate in libstdc++, unseen by the tests that make each allocation of the core fail, and std::sort is slower.
    headers = sorted(str(path) for pattern in ("*.h", "*.pxd") for path in CORE.rglob(pattern))
    return [
        Extension(
            f"covertreex._core.{path.stem}",
            [str(path)],
            include_dirs=[str(CORE)],
            depends=headers,
            extra_compile_args=[*FLAGS, "-ffp-contract=fast" if path.stem in CONTRACTED else "-ffp-contract=off"],
        )
        for path in sorted(CORE.glob("*.pyx"), key=lambda path: (-path.stat().st_size, path.stem))
    ]


class TalkingBuild(build_ext):
    """Says what is going on: a line in the beginning, and one for each extension that took a while."""

    def run(self):
        cores = f"{available_cores()} cores" if available_cores() > 1 else "one core"
        say(f"compiling what has changed of {len(self.extensions)} extensions on {cores}; all take a minute or two")
        super().run()

    def build_extension(self, extension):
        begin = time.perf_counter()
        super().build_extension(extension)
        took = time.perf_counter() - begin
        if took > 1.0:
            say(f"{extension.name} compiled in {took:.0f} s")


def say(text):
    print(f"covertreex: {text}", file=sys.stderr, flush=True)


def main():
    write_contract()
    setup(
        cmdclass={"build_ext": TalkingBuild},
        options={"build_ext": {"parallel": available_cores()}},
        ext_modules=cythonize(
            extensions(),
            nthreads=available_cores(),
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


# Processes that translate may import this file once more.
if __name__ == "__main__":
    main()
