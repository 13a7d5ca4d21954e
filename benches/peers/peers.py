"""Times bptt's cells beside those of other libraries; README.md says how."""

import argparse
import json
import re
import signal
import statistics
import sys
import tempfile
from datetime import date
from pathlib import Path

from tqdm import tqdm

import cells
import machine
import plots
import reference
import report
import turns
from contenders import BUILT, COMMANDS, HERE, Workers, taking_part, versions

MODES = ["infer", "train"]
# What the contenders are told of a case.
PROBLEM = ["cell", "hidden", "batch", "steps", "lengths", "mode", "threads"]


def main():
    options = parse()
    # Ended so, too, it ends its workers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.plot_only or measure(options)
    if not results["cases"]:
        sys.exit("nothing was measured")
    report.add_ratios(results)
    write_json(results, options.out)
    text = report.markdown(results)
    print(text)
    (options.out / "results.md").write_text(text)
    for cell in report.measured_cells(results):
        plots.ratio(results, cell, options.out)
        plots.roofline(results, cell, options.out)


def parse():
    cores = machine.cores()

    def names(known):
        def split(text):
            given = text.split(",")
            for name in given:
                if name not in known:
                    raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
            return [name for name in known if name in given]

        return split

    def threads(text):
        try:
            given = {cores if part == "all" else int(part) for part in text.split(",")}
        except ValueError:
            given = {0}
        if not all(1 <= count <= cores for count in given):
            raise argparse.ArgumentTypeError(f"expected counts from 1 to {cores}, or all")
        return sorted(given)

    def positive(kind):
        def parse(text):
            value = kind(text)
            if not 0 < value < 1e6:
                raise argparse.ArgumentTypeError("expected more than 0")
            return value

        return parse

    def pattern(text):
        try:
            return re.compile(rf"(?:{text})(?![0-9])")
        except re.error as error:
            raise argparse.ArgumentTypeError(f"no regular expression: {error}") from error

    def results(text):
        try:
            return json.loads(Path(text).read_text())
        except (OSError, ValueError) as error:
            raise argparse.ArgumentTypeError(f"cannot be read: {error}") from error

    parser = argparse.ArgumentParser(prog="benches/peers/run", description=__doc__)
    add = parser.add_argument
    add(
        "--shapes",
        type=pattern,
        metavar="PATTERN",
        help="those whose name, as in H256_B1_T150, matches",
    )
    add("--cell", action="append", choices=cells.GATES, help="one only; again for another")
    add("--quick", action="store_true", help="only a few shapes, in fewer rounds")
    add("--ragged", action="store_true", help="sequences of different lengths instead")
    add("--modes", type=names(MODES), default=MODES, help="infer,train")
    add("--threads", type=threads, default=threads("1,all"), help="as in 1,all")
    add("--only", type=names(COMMANDS), default=list(COMMANDS), help=",".join(COMMANDS))
    add("--rounds", type=positive(int), help="rounds in each case: 5, with --quick 2")
    add("--seconds", type=positive(float), default=0.2, help="of a contender in each round")
    add(
        "--patience",
        type=positive(float),
        help="seconds for a pass: a contender that takes longer is not timed in that case;"
        " 5, with --ragged 60",
    )
    add("--out", type=Path, default=BUILT, help="the folder for the results")
    add("--plot-only", type=results, metavar="JSON", help="report on results of another run")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.cell = [cell for cell in cells.GATES if cell in (options.cell or cells.GATES)]
    options.only = taking_part(options.only, options.ragged)
    # PyTorch's time for a training pass over packed sequences grows faster than their length.
    options.patience = options.patience or (60.0 if options.ragged else 5.0)
    return options


def chosen_shapes(options):
    """(cell, set, H, B, T) of each shape that is wanted, a cell's after another's; where lengths
    differ, also their mean as a share of T."""
    listed = json.loads((HERE / "shapes.json").read_text())
    chosen = []
    for cell in options.cell:
        sets, quick = listed[cell]["sets"], listed[cell]["quick"]
        if options.ragged:
            sets = listed[cell]["ragged"]
        shapes = [(cell, name, *shape) for name, shapes in sets.items() for shape in shapes]
        if options.quick and not options.ragged:
            shapes = [shape for shape in shapes if list(shape[2:]) in quick]
        if options.shapes:
            named = options.shapes.search
            shapes = [shape for shape in shapes if named("H{}_B{}_T{}".format(*shape[2:5]))]
        chosen += sorted(shapes, key=lambda shape: shape[2:])
    if not chosen:
        sys.exit("no shape of shapes.json matches")
    return chosen


def measure(options):
    results = {
        "date": date.today().isoformat(),
        "cpu": machine.cpu(),
        "cores": machine.cores(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "versions": versions(),
        "cases": [],
    }
    workers = Workers()
    shapes = chosen_shapes(options)
    wanted = len(shapes) * len(options.modes) * len(options.threads) * len(options.only)
    try:
        with (
            tempfile.TemporaryDirectory(dir=BUILT) as folder,
            tqdm(
                total=wanted * (options.rounds + 1), unit="turn", smoothing=0.05, disable=None
            ) as progress,
        ):
            for shape in shapes:
                for case in measure_shape(options, workers, shape, Path(folder), progress):
                    results["cases"].append(case)
                    write_json(results, options.out)
    except KeyboardInterrupt:
        print("interrupted: this is what there is so far", file=sys.stderr)
    finally:
        workers.kill()
    return results


def write_json(results, folder):
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")


def measure_shape(options, workers, shape, folder, progress):
    """The shape's cases, one for each mode and number of threads."""
    cell, name, hidden, batch, steps, *fill = shape
    data = reference.draw(cell, hidden, batch, steps)
    lengths = reference.lengths(batch, steps, *fill) if fill else None
    for part, values in data.items():
        values.astype("<f4").tofile(folder / f"{part}.bin")
    expected = reference.results(cell, data, "train" in options.modes, lengths)
    for mode in options.modes:
        for threads in options.threads:
            progress.set_description(
                f"{cells.TITLES[cell]}, H {hidden}, B {batch}, T {steps}, {mode}, {threads} thr."
            )
            case = {
                "cell": cell,
                "set": name,
                "hidden": hidden,
                "batch": batch,
                "steps": steps,
                "mode": mode,
                "threads": threads,
            }
            if fill:
                case["lengths"] = lengths.tolist()
            yield measure_case(options, workers, case, folder, expected, progress)


def measure_case(options, workers, case, folder, expected, progress):
    threads = case["threads"]
    problem = {key: case[key] for key in PROBLEM if key in case}
    problem |= {"do": "setup", "dir": str(folder), "input": case["hidden"]}
    names = [name for name in expected if case["mode"] == "train" or name in ("y", "h_n")]
    wanted = {name: expected[name] for name in names}
    contenders = {}
    for name in options.only:
        worker = workers.get(name, threads)
        status = turns.check(worker, problem, folder, wanted, options.patience)
        contenders[name] = {"status": status, "rounds": []}
        progress.update()

    peaks = []
    for turn in range(options.rounds):
        peaks += turns.take(workers, contenders, threads, options.seconds, turn)
        progress.update(len(options.only))
    weights = 4 * cells.GATES[case["cell"]] * case["hidden"] ** 2
    rust = workers.get("bptt", threads)
    reads = [
        rust.ask("bandwidth", bytes=weights, seconds=0.05, threads=threads)["gbytes"]
        for _ in range(3)
    ]
    for name in turns.ready(contenders):
        workers.get(name, threads).ask("free")
    return {
        **case,
        "peak_gflops": max(peaks, default=None),
        "peak_gflops_median": statistics.median(peaks) if peaks else None,
        "bandwidth_gbytes": max(reads),
        "contenders": contenders,
    }


if __name__ == "__main__":
    main()
