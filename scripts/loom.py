#!/usr/bin/env python3
"""Explores with loom every order in which the threads of a team can take their steps.

    scripts/loom.py              explores, under a minute
    scripts/loom.py --mutants    plants faults in kernels/src/team, one at a time, and fails
                                 where one of them is not found: some minutes
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEAM = ROOT / "kernels/src/team"

# The file, a description of the fault, the code in the file, and the faulty code.
FAULTS = [
    ("shared.rs", "a helper may come in and not see the work",
     "gate.0.store(number.wrapping_mul(NUMBER) | OPEN, Ordering::Release)",
     "gate.0.store(number.wrapping_mul(NUMBER) | OPEN, Ordering::Relaxed)"),
    ("shared.rs", "the caller may not see what a helper wrote who has left",
     "gate.0.fetch_sub(INSIDE, Ordering::Release)",
     "gate.0.fetch_sub(INSIDE, Ordering::Relaxed)"),
    ("shared.rs", "the caller does not wait for who is inside",
     "while gate % NUMBER / INSIDE != 0 {",
     "while gate == u64::MAX {"),
    ("shared.rs", "the gate stays open",
     "fetch_and(!OPEN, Ordering::AcqRel)",
     "fetch_and(u64::MAX, Ordering::AcqRel)"),
    ("shared.rs", "a helper comes in where the gate is closed",
     "if gate & OPEN == 0 || Some(number) == last {",
     "if Some(number) == last {"),
    ("mod.rs", "a phase may begin without what the one before wrote",
     "done.0.fetch_add(1, Ordering::AcqRel)",
     "done.0.fetch_add(1, Ordering::Relaxed)"),
    ("shared.rs", "a task is taken twice", "next + 1,\n", "next,\n"),
    ("shared.rs", "a helper of a pass that is over works in the next one",
     "if self.on.load(Ordering::Relaxed) == seat.pass {",
     "if seat.pass > 0 {"),
]


def explore(quiet=False):
    environment = dict(
        os.environ,
        RUSTFLAGS="--cfg loom",
        CARGO_TARGET_DIR=str(ROOT / "target/loom"),
        # Exploring takes the time, not compiling.
        CARGO_PROFILE_TEST_OPT_LEVEL="1",
    )
    command = ["cargo", "test", "-q", "-p", "bptt-kernels", "--lib", "--", "interleavings"]
    out = subprocess.DEVNULL if quiet else None
    try:
        return subprocess.run(command, cwd=ROOT, env=environment, stdout=out, stderr=out, timeout=600)
    except subprocess.TimeoutExpired:
        return None


def mutants():
    missed = []
    for name, what, old, new in FAULTS:
        file = TEAM / name
        whole = file.read_text()
        if whole.count(old) != 1:
            sys.exit(f"loom.py: stands {whole.count(old)} times in {name}: {old}")
        try:
            file.write_text(whole.replace(old, new))
            done = explore(quiet=True)
        finally:
            file.write_text(whole)
        found = done is None or done.returncode != 0
        print("found:    " if found else "NOT FOUND:", what, flush=True)
        if not found:
            missed.append(what)
    return 1 if missed else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--mutants"]:
        sys.exit(mutants())
    if sys.argv[1:]:
        sys.exit(__doc__)
    sys.exit(explore().returncode)
