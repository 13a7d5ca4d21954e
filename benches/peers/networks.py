"""Times networks of layers beside those of other libraries; README.md says how."""

import argparse
import json
import signal
import sys
import tempfile
from datetime import date
from pathlib import Path

from tqdm import tqdm

import machine
import network_reference
import network_report
import turns
from contenders import BUILT, HERE, Workers, versions

SETS = json.loads((HERE / "networks.json").read_text())
CONTENDERS = ["bptt", "torch", "onnxruntime"]
# What describes a network and its passes, for the contenders too.
PROBLEM = ["cell", "layers", "directions", "input", "hidden", "output", "batch", "steps", "lengths"]


def main():
    parser = argparse.ArgumentParser(prog="benches/peers/run networks", description=__doc__)
    add = parser.add_argument
    add("--set", action="append", choices=SETS, help="one only; again for another")
    add("--quick", action="store_true", help="networks of an eighth of the size, in 2 starts")
    add("--threads", type=int, action="append", help="1 and all cores; again for another number")
    add("--starts", type=int, help="of each program: 3, with --quick 2")
    add("--seconds", type=float, default=0.2, help="of a contender in each start")
    add("--patience", type=float, default=60.0, help="seconds for a first pass")
    add("--out", type=Path, default=BUILT / "networks", help="the folder for the results")
    add("--report-only", type=Path, metavar="JSON", help="report on results of another run")
    options = parser.parse_args()
    options.starts = options.starts or (2 if options.quick else 3)
    # Ended so, too, it ends its workers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    options.out.mkdir(parents=True, exist_ok=True)
    if options.report_only:
        results = json.loads(options.report_only.read_text())
    else:
        results = measure(options)
    text = network_report.markdown(results)
    print(text)
    (options.out / "results.md").write_text(text)


def networks(options):
    """What describes each network with its batch, and the modes in which it is run."""
    for name in options.set or SETS:
        passes = SETS[name]["passes"]
        for network in SETS[name]["networks"]:
            sizes = {**network, "set": name}
            if options.quick:
                for size in ("input", "hidden", "output"):
                    if size in sizes:
                        sizes[size] //= 8
            for batch in sorted({batch for batches in passes.values() for batch in batches}):
                sized = {**sizes, "batch": batch}
                if "lengths" in network:
                    sized["lengths"] = network_reference.lengths(batch, *network["lengths"])
                    sized["steps"] = max(sized["lengths"])
                elif options.quick:
                    sized["steps"] = 20
                yield sized, [mode for mode, batches in passes.items() if batch in batches]


def measure(options):
    chosen = list(networks(options))
    threads = sorted(set(options.threads or [1, machine.cores()]))
    results = {
        "date": date.today().isoformat(),
        "cpu": machine.cpu(),
        "cores": machine.cores(),
        "rounds": options.starts,
        "seconds": options.seconds,
        "versions": {
            name: version
            for name, version in versions().items()
            if name in ("bptt", "PyTorch", "ONNX Runtime")
        },
        "cases": [
            {**network, "mode": mode, "threads": count, "peaks": []}
            for network, modes in chosen
            for mode in modes
            for count in threads
        ],
    }
    BUILT.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=BUILT) as folder,
        tqdm(
            total=options.starts * len(results["cases"]), unit="case", smoothing=0.05, disable=None
        ) as progress,
    ):
        def done(case):
            (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
            progress.set_description(network_report.title(case))
            progress.update()

        try:
            # All programs are started anew for another round of all cases, so that a slow minute does
            # not hit one case alone.
            for start in range(options.starts):
                measure_once(options, chosen, results["cases"], Path(folder), start, done)
        except KeyboardInterrupt:
            print("interrupted: this is what there is so far", file=sys.stderr)
    return results


def measure_once(options, chosen, cases, folder, start, done):
    """A turn in each case, of programs that are started for it. Tells `done` of each case."""
    workers = Workers()
    try:
        for network, modes in chosen:
            data = write(network, folder)
            expected = None
            if not start:
                expected = network_reference.results(network, data, "train" in modes)
            for case in cases:
                if network.items() <= case.items():
                    take(options, workers, case, folder, expected, start)
                    done(case)
    finally:
        workers.kill()


def write(network, folder):
    """The data of a network, which are now in the folder."""
    for file in folder.glob("*.bin"):
        file.unlink()
    data = network_reference.draw(network)
    for name, values in data.items():
        values.astype("<f4").tofile(folder / f"{name}.bin")
    return data


def take(options, workers, case, folder, expected, start):
    """A turn of each contender in a case, after a pass that is checked in the first start. In the
    others it only touches the memory, since a turn counts its own first pass if that is long."""
    threads = case["threads"]
    problem = {name: case[name] for name in [*PROBLEM, "mode", "threads"] if name in case}
    problem |= {"do": "network", "dir": str(folder)}
    if expected:
        wanted = {n: v for n, v in expected.items() if case["mode"] == "train" or n == "y"}
        case["contenders"] = {}
        for name in CONTENDERS:
            worker = workers.get(name, threads)
            status = turns.check(worker, problem, folder, wanted, options.patience)
            case["contenders"][name] = {"status": status, "rounds": []}
    else:
        for name in turns.ready(case["contenders"]):
            workers.get(name, threads).ask(**problem)
            workers.get(name, threads).ask("check", dir=str(folder / "results"))
    contenders = case["contenders"]
    case["peaks"] += turns.take(workers, contenders, threads, options.seconds, start)
    for name in turns.ready(contenders):
        workers.get(name, threads).ask("free")


if __name__ == "__main__":
    main()
