#!/usr/bin/env python3
"""Measures the figures of PERFORMANCE.md and writes them there.

    scripts/performance.py                   every table except the comparison with other libraries
    scripts/performance.py cells latency     these tables
    scripts/performance.py --list            prints the names of the tables

A table is between `<!-- name -->` and `<!-- end -->`, with the command, the machine, the date and
the commit of its run. The comparison with other libraries (benches/peers/run, an hour) is not run;
the tables whose names begin with `peers` summarise its results. Each figure is the median of several starts
of the program. Nothing else should run meanwhile.
"""

import argparse
import inspect
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "PERFORMANCE.md"
PEERS = ROOT / "benches/peers"
sys.path.insert(0, str(PEERS))
sys.dont_write_bytecode = True
import machine  # noqa: E402
import network_report  # noqa: E402
import report  # noqa: E402

STARTS = 5
SHAPES = [(16, 1, 100), (64, 32, 100), (256, 1, 150), (256, 16, 150), (512, 32, 25), (1024, 64, 25)]


def commit():
    git = lambda *words: subprocess.run(
        ["git", "-C", ROOT, *words], capture_output=True, text=True, check=True
    ).stdout.strip()
    return git("rev-parse", "--short", "HEAD") + (" and changes" if git("status", "--short", "-uno", "src", "kernels") else "")


def run(*words, isa=None):
    """The output of a command of this repository."""
    env = {**os.environ, **({"BPTT_ISA": isa} if isa else {})}
    print("  ", *words, flush=True)
    return subprocess.run(
        words, cwd=ROOT, env=env, capture_output=True, text=True, check=True
    ).stdout


def rnnbench(isa=None, **options):
    """A problem's GFLOP/s, fraction of the peak and seconds: medians over starts."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = ["cargo", "run", "-q", "--release", "--example", "rnnbench", "--", *words]
    starts = [json.loads(run(*command, "--seconds", "0.5", "--json", isa=isa)) for _ in range(STARTS)]
    of = lambda value: statistics.median(map(value, starts))
    return {
        "gflops": of(lambda start: start["gflops"]),
        "fraction": of(lambda start: start["gflops"] / start["peak_gflops"]),
        "seconds": of(lambda start: start["ms_median"] / 1e3),
        "of_product": of(lambda start: start.get("of_product") or 1.0),
    }


def isas():
    """The vector instruction sets of this machine, the best one first."""
    info = Path("/proc/cpuinfo").read_text()
    return [isa for isa, flag in (("avx512", "avx512vl"), ("avx2", "avx2")) if flag in info] or [None]


def table(header, rows):
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(result):
    return f"{result['gflops']:.0f} ({result['fraction']:.2f})"


def shapes():
    """LSTM, GFLOP/s and in brackets the fraction of the FMA peak"""
    header, rows = ["H = I, B, T"], []
    for isa in isas():
        header += [f"infer, {isa}", f"train, {isa}"]
    for hidden, batch, steps in SHAPES:
        size = {"input": hidden, "hidden": hidden, "batch": batch, "steps": steps}
        row = [f"{hidden}, {batch}, {steps}"]
        for isa in isas():
            row += [figure(rnnbench(isa, mode=mode, **size)) for mode in ("infer", "train")]
        rows.append(row)
    return table(header, rows), "rnnbench --mode train --input 512 --hidden 512 --batch 32 --steps 25"


def cells():
    """All cells at H 512, B 32, T 25, GFLOP/s and in brackets the fraction of the FMA peak"""
    names = run("cargo", "run", "-q", "--release", "--example", "rnnbench", "--", "--list").split()
    rows = [
        [f"`{name}`", *(figure(rnnbench(cell=name, mode=mode)) for mode in ("infer", "train"))]
        for name in names
    ]
    return table(["`--cell`", "infer", "train"], rows), "rnnbench --cell gru --mode train"


def scans():
    """Cells that are scanned, H 512, T 1000: GFLOP/s, and in brackets beside the same product alone"""
    cells = ["min-gru", "min-lstm", "sru", "qrnn-fo", "ind-rnn", "rg-lru"]
    passes = [(batch, mode) for batch in (1, 32) for mode in ("infer", "train")]
    rows = []
    for cell in cells:
        row = [f"`{cell}`"]
        for batch, mode in passes:
            result = rnnbench(cell=cell, mode=mode, batch=batch, steps=1000)
            row.append(f"{result['gflops']:.0f} ({result['of_product']:.2f})")
        rows.append(row)
    header = ["`--cell`", *(f"{mode}, B {batch}" for batch, mode in passes)]
    return table(header, rows), "rnnbench --cell min-gru --mode train --batch 1 --steps 1000"


def threads():
    """Two threads beside one: the LSTM's GFLOP/s and how many times as fast"""
    rows = []
    for hidden, batch, steps in SHAPES:
        size = {"input": hidden, "hidden": hidden, "batch": batch, "steps": steps}
        row = [f"{hidden}, {batch}, {steps}"]
        for mode in ("infer", "train"):
            one, two = (rnnbench(mode=mode, threads=threads, **size) for threads in (1, 2))
            row.append(f"{two['gflops']:.0f} ({two['gflops'] / one['gflops']:.2f})")
        rows.append(row)
    return table(["H = I, B, T", "infer", "train"], rows), "rnnbench --threads 2"


def formats():
    """A step of one sequence with weights in fewer bits, in µs and times as fast as f32"""
    rows = []
    for hidden in (512, 1024, 2048):
        size = {"mode": "stream", "input": hidden, "hidden": hidden, "batch": 1}
        f32, bf16, int8 = (rnnbench(format=format, **size)["seconds"] for format in ("f32", "bf16", "int8"))
        narrow = [f"{1e6 * time:.0f} ({f32 / time:.1f})" for time in (bf16, int8)]
        rows.append([str(hidden), f"{1e6 * f32:.0f}", *narrow])
    command = "rnnbench --mode stream --input 1024 --hidden 1024 --batch 1 --format int8"
    return table(["H = I", "f32", "bf16", "int8"], rows), command


def latency():
    """A step at a time as in real-time audio, one input, with a dense output of one, in ns"""
    starts = [run("cargo", "bench", "-q", "--bench", "latency") for _ in range(STARTS)]
    lines = [
        [line.split() for line in start.splitlines() if re.match(r"\s+\d+  (f32|bf16|int8) ", line)]
        for start in starts
    ]
    rows = []
    for of_all in zip(*lines):
        figures = [[float(value) for value in line[3:]] for line in of_all]
        median = lambda at: statistics.median(line[at] for line in figures)
        spread = " to ".join(f"{bound(line[0] for line in figures):.0f}" for bound in (min, max))
        tail = [f"{median(at):.0f}" for at in (3, 4, 5)]
        rows.append([f"{of_all[0][0]}, {of_all[0][1]}", f"{median(0):.0f}", spread, *tail])
    header = ["H, weights", "median step", "medians of starts", "99.9 %", "99.99 %", "worst of 10⁶"]
    return table(header, rows), "cargo bench --bench latency"


def compiling():
    """A release build, from nothing, of a crate that only depends on bptt, in s of wall time"""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "src").mkdir()
        (folder / "src/main.rs").write_text("fn main() {}")
        for features in ("", "safetensors"):
            dependency = json.dumps({"path": str(ROOT), "features": [features] if features else []})
            (folder / "Cargo.toml").write_text(
                '[package]\nname = "embedder"\nedition = "2024"\n[workspace]\n'
                f"[dependencies]\nbptt = {dependency.replace(':', ' =')}\n"
            )
            starts = []
            for _ in range(STARTS):
                shutil.rmtree(folder / "target", ignore_errors=True)
                manifest = ("--manifest-path", str(folder / "Cargo.toml"))
                began = time.perf_counter()
                run("cargo", "build", "-q", "--release", "--timings", *manifest)
                seconds = {"all": time.perf_counter() - began}
                page = (folder / "target/cargo-timings/cargo-timing.html").read_text()
                units = json.loads(re.search(r"UNIT_DATA = (\[.*?\]);", page, re.DOTALL)[1])
                ours = {unit["name"]: unit["duration"] for unit in units if unit["name"].startswith("bptt")}
                others = sum(unit["duration"] for unit in units if unit["name"] not in ours)
                starts.append({**seconds, **ours, "others": others})
            median = lambda name: f"{statistics.median(start[name] for start in starts):.1f}"
            rows.append([features or "none", *map(median, ("all", "bptt-kernels", "bptt", "others"))])
    header = ["features", "all", "`bptt-kernels`", "`bptt`", "all others, added up"]
    return table(header, rows), "cargo build --release --timings"


def compared(folder):
    """A table that summarises the comparison with other libraries."""
    results = json.loads((PEERS / folder / "results.json").read_text())
    report.add_ratios(results)
    return report.summary(results), results


def peers():
    """LSTMs on DeepBench's shapes and small ones"""
    return compared("results")


def peers_gru_vanilla():
    """GRUs and vanilla layers on DeepBench's shapes, with T cut to 50, and small ones"""
    return compared("results/gru-vanilla")


def sequences():
    """A training pass of an LSTM, H 256, B 32, T 200, in ms and beside that of full sequences"""
    size = {"mode": "train", "input": 256, "hidden": 256, "batch": 32, "steps": 200}
    whole = rnnbench(**size)["seconds"]
    rows = [["all steps of all sequences", f"{1e3 * whole:.0f}", "1.00"]]
    for name, options in (
        ("55 % of the steps: different lengths", {"ragged": 0.55}),
        ("a reset in 1 of 100 steps", {"resets": 0.01}),
        ("a reset in 1 of 10 steps", {"resets": 0.1}),
    ):
        # Each beside the whole pass of its own minutes.
        seconds, whole = rnnbench(**options, **size)["seconds"], rnnbench(**size)["seconds"]
        rows.append([name, f"{1e3 * seconds:.0f}", f"{seconds / whole:.2f}"])
    command = "rnnbench --mode train --input 256 --hidden 256 --batch 32 --steps 200 --ragged 0.55"
    return table(["", "ms", "of the whole pass"], rows), command


def peers_ragged():
    """Sequences of different lengths: how many times as long as bptt PyTorch takes with packed
    sequences, and in brackets the fastest other library, on one thread; a star marks disturbed runs"""
    results = json.loads((PEERS / "results/ragged/results.json").read_text())
    report.add_ratios(results)
    columns = [(cell, mode) for cell in report.measured_cells(results) for mode in ("train", "infer")]
    of = {}
    for case in results["cases"]:
        if case["threads"] == 1:
            figures = f"{case['packed_ratio']:.1f} ({case['ratio']:.1f})" if "packed_ratio" in case else ""
            name, star = report.name_of(case).removesuffix(" *"), " *" * case.get("disturbed", False)
            of.setdefault(name, {})[case["cell"], case["mode"]] = figures + star
    rows = [[name, *(figures.get(column, "") for column in columns)] for name, figures in of.items()]
    header = ["H, B, T, full", *(f"{report.cells.TITLES[cell]}, {mode}" for cell, mode in columns)]
    return table(header, rows), results


def peers_networks():
    """Networks of layers: how many times as long as bptt the fastest of PyTorch and ONNX Runtime takes"""
    results = json.loads((PEERS / "results/networks/results.json").read_text())
    return network_report.summary(results), results


def peers_memory():
    """A training pass of an LSTM, H 256, τ 10 000, in less and less memory, on one thread"""
    results = json.loads((PEERS / "results/memory/results.json").read_text())
    return report.memory(results), results


TABLES = {
    "shapes": shapes,
    "cells": cells,
    "scans": scans,
    "threads": threads,
    "formats": formats,
    "latency": latency,
    "compiling": compiling,
    "peers": peers,
    "peers-gru-vanilla": peers_gru_vanilla,
    "peers-networks": peers_networks,
    "sequences": sequences,
    "peers-ragged": peers_ragged,
    "peers-memory": peers_memory,
}


COMMANDS = {
    "peers-networks": "benches/peers/run networks",
    "peers-ragged": "benches/peers/run --ragged",
    "peers-memory": "benches/peers/run memory",
}


def block(name):
    """The table, with the command, machine and date needed to repeat it."""
    print(name, flush=True)
    body, of = TABLES[name]()
    if isinstance(of, dict):
        source = f"{of['cpu']}, {of['cores']} cores, {of['date']}: `{COMMANDS.get(name, 'benches/peers/run')}`"
        source += f", {of['rounds']} rounds." if "rounds" in of else "."
    else:
        command = of if of.startswith("cargo") else f"cargo run --release --example {of.replace('rnnbench', 'rnnbench --', 1)}"
        source = (
            f"{machine.cpu()}, {machine.cores()} cores, {date.today()}, commit {commit()}: `{command}` and the like;"
            f" medians of {STARTS} starts{', one thread where no other number stands' * (not of.startswith('cargo build'))}."
        )
    return f"{inspect.cleandoc(TABLES[name].__doc__)}.\n\n{body}\n\n*{source}*"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tables", nargs="*", metavar="table", help="of these; none: all")
    parser.add_argument("--list", action="store_true", help="name the tables and exit")
    options = parser.parse_args()
    if options.list:
        return print(*TABLES, sep="\n")
    if unknown := [name for name in options.tables if name not in TABLES]:
        parser.error(f"no table {unknown[0]}; there are {', '.join(TABLES)}")
    for name in options.tables or TABLES:
        made = block(name)
        page = PAGE.read_text()
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not place.search(page):
            sys.exit(f"{PAGE} has no place for {name}")
        PAGE.write_text(place.sub(lambda found: found[1] + made + "\n" + found[2], page))


main()
