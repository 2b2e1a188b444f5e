#!/usr/bin/env bash
# Build the core in a copy of this tree with AddressSanitizer and UndefinedBehaviorSanitizer, and run its tests there. The
# first report ends it. Needs gcc, and an environment in which the tests run. `sanitize.sh brief`, in .ci/run, takes about two
# minutes on two cores: a fixed set of searches, generated cases, and the tests of arithmetic, of scans, searches and the tree.
# Without a word all tests of the core run, for some six minutes; further words go to pytest.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

sanitize="-fsanitize=address,undefined -fno-sanitize-recover=all"
cp "$root"/{setup.py,pyproject.toml,README.md,LICENSE} "$work"
cp -rp "$root/covertreex" "$root/tests" "$work" # with dates: what Cython has translated is translated
cd "$work"
find . -name '*.so' -delete
sed -i 's/"-O3", "-g0", //' setup.py # it would come after -O1, and take many times as long
touch -r "$root/setup.py" setup.py
CC=gcc CFLAGS="-O1 -g1 -fno-omit-frame-pointer $sanitize" LDSHARED="gcc -shared $sanitize" \
    python setup.py --quiet build_ext --inplace >build.log 2>&1 || { tail -50 build.log; exit 1; }

# Leaks: Python's own, at exit. Python's allocator would hide which object memory belongs to. faulthandler would report a
# segmentation fault without the stack of the core. OpenBLAS is not asked to start threads that nobody watches.
# A test that is left out takes most of a minute, in NumPy.
export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:abort_on_error=0:exitcode=99
export UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc OPENBLAS_NUM_THREADS=1
export PYTHONPATH="$work${PYTHONPATH:+:$PYTHONPATH}"
LD_PRELOAD=$(gcc -print-file-name=libasan.so)
export LD_PRELOAD
python - <<'PY'
import os, covertreex._core.screen as built
assert os.path.samefile(os.path.dirname(built.__file__), "covertreex/_core"), built.__file__
PY
run() { python -m pytest -q -x -n 2 --color=no -p no:faulthandler -p no:cacheprovider --backend cython "$@"; }
core=(tests/data/test_canonical.py tests/data/test_tree.py tests/backends/test_scan.py tests/backends/test_search.py)
if [ "${1-}" = brief ]; then
    python tests/torture/searches.py --backend cython >searches.log 2>&1 &
    python tests/torture/run.py --backend cython --cases 60
    wait $! || { cat searches.log; exit 1; }
    run "${core[@]}" "${@:2}"
else
    run "${core[@]}" tests/search/test_{boxes,halos,radius,screens,second_pass}.py \
        -k "not a_lower_target and not fast_meets and not two_passes_meet" "$@"
fi
