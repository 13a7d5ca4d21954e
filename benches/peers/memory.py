"""Times training passes over long sequences in less and less memory: bptt's budgets, and PyTorch's
checkpoints of chunks. README.md says how."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path

from tqdm import tqdm

import machine
import plots
import report
from contenders import BUILT, HERE, ROOT, versions

HIDDEN, STEPS = 256, 10_000
# By the number of sequences: the shares of the memory of a whole pass, PyTorch's steps of a chunk, and
# how often each program is started.
CASES = {
    1: ([0.5, 0.34, 0.2, 0.1, 0.05, 0.02, 0.01], [2500, 500, 100, 25], 5),
    32: ([0.34, 0.1, 0.05, 0.01], [500, 100], 2),
}
RNNBENCH = ROOT / "target" / "release" / "examples" / "rnnbench"


def main():
    parser = argparse.ArgumentParser(prog="benches/peers/run memory", description=__doc__)
    add = parser.add_argument
    add("--batch", type=int, choices=CASES, action="append", help="one only; again for another")
    add("--out", type=Path, default=BUILT / "memory", help="the folder for the results")
    add("--plot-only", type=Path, metavar="JSON", help="report on results of another run")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.plot_only:
        results = json.loads(options.plot_only.read_text())
    else:
        results = measure(options)
    (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = report.memory(results) + "\n"
    print(text)
    (options.out / "results.md").write_text(text)
    plots.memory(results, options.out)


def measure(options):
    cases = []
    for batch in options.batch or CASES:
        shares, chunks, starts = CASES[batch]
        whole = bptt(batch, None)["bytes"]
        budgets = [None, *(int(share * whole) for share in shares)]
        of_batch = [
            *({"library": "bptt", "batch": batch, "budget": budget} for budget in budgets),
            *({"library": "torch", "batch": batch, "chunk": chunk} for chunk in [0, *chunks]),
        ]
        for case in of_batch:
            case["rounds"] = []
        cases += of_batch
        # Each start is followed by one of another case, so that a slow minute does not hit one alone.
        for case in tqdm(of_batch * starts, desc=f"B {batch}", unit="start", disable=None):
            if case["library"] == "bptt":
                case["rounds"].append(bptt(batch, case["budget"]))
            else:
                case["rounds"].append(torch(batch, case["chunk"]))
    return {
        "date": date.today().isoformat(),
        "cpu": machine.cpu(),
        "cores": machine.cores(),
        "versions": versions(),
        "hidden": HIDDEN,
        "steps": STEPS,
        "cases": cases,
    }


def bptt(batch, budget):
    """The time and the memory of a pass, and what it computes again."""
    sizes = ["--input", HIDDEN, "--hidden", HIDDEN, "--batch", batch, "--steps", STEPS]
    options = ["--mode", "train", "--parameters-only", "--seconds", "1", "--json"]
    given = [] if budget is None else ["--budget", budget]
    line = json.loads(start(RNNBENCH, *options, *sizes, *given))
    return {
        "seconds": line["ms_median"] / 1e3,
        "bytes": line["arena_bytes"],
        "steps_again": line["steps_again"],
        "rows_again": line["rows_again"],
    }


def torch(batch, chunk):
    """The time and the memory of a pass, whose first one in a process is not counted."""
    script = HERE / "python" / "checkpointed.py"
    line = json.loads(start(sys.executable, script, HIDDEN, batch, STEPS, chunk, 2))
    return {"seconds": statistics.median(line["seconds"][1:]), "bytes": line["bytes"]}


def start(*words):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [str(word) for word in words]
    return subprocess.run(words, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    main()
