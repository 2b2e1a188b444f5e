"""Run torture cases from the command line: ``python tests/torture/run.py --cases 10000 --seed 0``."""

import argparse
import collections
import os
import sys
import tempfile
import time
import traceback

import cases

from covertreex.base import tuning


def main():
    """Count right, refused and wrong cases; 1 if any is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first case; the others follow")
    parser.add_argument("--backend", action="append", help="default: all that are installed")
    parser.add_argument("--files", help="folder for the files of save and load; default: a temporary one")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--verbose", action="store_true", help="what each wrong case is like")
    parser.add_argument("--raise", dest="loud", action="store_true", help="run one case and show its traceback")
    given = parser.parse_args()
    tuning.BRIEF = 0  # threads for few queries too
    backends = given.backend or cases.installed()
    if given.loud:
        drawn = cases.Drawn(given.seed, backends)
        try:
            print(drawn.run(tempfile.mkdtemp()))
        except Exception:
            traceback.print_exc()
        print(drawn.case.features)
        return 0
    counts, refused, wrong = collections.Counter(), collections.Counter(), []
    ordinary = ordinary_refused = hits = total = done = 0
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as own:
        folder = given.files or own
        os.makedirs(folder, exist_ok=True)
        for seed in range(given.seed, given.seed + given.cases):
            if time.perf_counter() - start > given.seconds:
                break
            verdict, features = cases.judge(seed, backends, folder)
            done += 1
            counts[verdict.kind] += 1
            ordinary += verdict.ordinary
            hits, total = hits + verdict.hits, total + verdict.total
            if verdict.kind == "refused":
                refused[verdict.reason] += 1
                if verdict.ordinary:
                    ordinary_refused += 1
                    print(f"refused though ordinary: seed {seed}: {verdict.reason} {features}", flush=True)
            elif verdict.kind == "wrong":
                wrong.append(seed)
                print(f"wrong: seed {seed}: {verdict.reason[:200]} {features if given.verbose else ''}", flush=True)
    print(f"{done} cases in {time.perf_counter() - start:.0f} s with {', '.join(backends)}: {dict(counts)}")
    print(f"ordinary: {ordinary}, of which refused: {ordinary_refused}")
    for reason, times in refused.most_common():
        print(f"refused {times:6d}  {reason}")
    print(f"recall of fast: {hits} of {total}" + (f" = {hits / total:.6f}" if total else ""))
    print(f"wrong: {wrong}")
    return 1 if wrong or ordinary_refused else 0


if __name__ == "__main__":
    sys.exit(main())
