"""From timings to ratios, fractions and tables."""

import math
import statistics
from itertools import groupby

import cells
from contenders import PEERS, TITLES


def flops(case):
    """Of a pass: a training step is three forward passes' worth."""
    hidden, batch, steps = case["hidden"], case["batch"], case["steps"]
    rows = cells.GATES[case["cell"]] * hidden
    return 2 * steps * batch * rows * (hidden + hidden) * passes(case)


def passes(case):
    return 3 if case["mode"] == "train" else 1


def roofline(case):
    """GFLOP/s that a pass cannot exceed if every step reads the recurrent weights
    once, at the bandwidth measured, and all else costs multiply-adds only."""
    peak, bandwidth = case["peak_gflops"], case["bandwidth_gbytes"]
    weights = cells.GATES[case["cell"]] * case["hidden"] ** 2
    # Forward, and in training backward, a product with the weights at each step.
    sweeps = case["steps"] * (2 if case["mode"] == "train" else 1)
    multiplied = 2 * case["batch"] * weights
    sweep = max(multiplied / peak, 4 * weights / bandwidth)
    rest = flops(case) - sweeps * multiplied
    return flops(case) / (sweeps * sweep + rest / peak)


def add_ratios(results):
    """Adds to each case and contender what is derived from the timings."""
    for case in results["cases"]:
        # Results from before there were other cells do not name it.
        case.setdefault("cell", "lstm")
        timed = {}
        for name, contender in case["contenders"].items():
            if contender["rounds"]:
                contender["best"] = min(timing["best"] for timing in contender["rounds"])
                contender["gflops"] = flops(case) / contender["best"] / 1e9
                timed[name] = contender
        if timed:
            # The peak is the machine's own: where it varies, something else ran.
            case["disturbed"] = case["peak_gflops_median"] < 0.9 * case["peak_gflops"]
        ours = timed.get("bptt")
        if not ours:
            continue
        case["peak_fraction"] = ours["gflops"] / case["peak_gflops"]
        case["roofline_gflops"] = roofline(case)
        case["roofline_fraction"] = ours["gflops"] / case["roofline_gflops"]
        peers = [name for name in PEERS if name in timed]
        if not peers:
            continue
        best = min(peers, key=lambda name: timed[name]["best"])
        case["best_peer"] = best
        case["ratio"] = statistics.median(
            theirs["best"] / mine["best"]
            for theirs, mine in zip(timed[best]["rounds"], ours["rounds"], strict=True)
        )


def measured_cells(results):
    """The cells of which there are cases, in their order."""
    measured = {case["cell"] for case in results["cases"]}
    return [cell for cell in cells.GATES if cell in measured]


def panels(results, cell):
    """A cell's cases, those of each mode and number of threads with a title."""

    def key(case):
        return case["mode"], case["threads"]

    cases = sorted((case for case in results["cases"] if case["cell"] == cell), key=key)
    for (mode, threads), group in groupby(cases, key):
        title = f"{mode}, {threads} thread{'s' if threads > 1 else ''}"
        shape = ("hidden", "batch", "steps")
        yield title, sorted(group, key=lambda case: [case[name] for name in shape])


def geometric_mean(values):
    return math.exp(statistics.fmean(math.log(value) for value in values))


def name_of(case):
    """H, B, T, with a star where the timings are in doubt."""
    star = " *" if case.get("disturbed") else ""
    return f"{case['hidden']}, {case['batch']}, {case['steps']}{star}"


def entry(contender):
    if contender is None:
        return ""
    if "gflops" in contender:
        value = contender["gflops"]
        return f"{value:.1f}" if value < 10 else f"{value:.0f}"
    kind = contender["status"].split(":")[0]
    return "" if kind == "unsupported" else kind


def table(cases, names):
    header = ["H, B, T", *(TITLES[name] for name in names)]
    header += ["best peer", "its time / bptt's", "of FMA peak", "of roofline"]
    rows = [header, ["---"] * len(header)]
    for case in cases:
        rows.append(
            [
                name_of(case),
                *(entry(case["contenders"].get(name)) for name in names),
                TITLES.get(case.get("best_peer"), ""),
                *(
                    f"{case[key]:.2f}" if key in case else ""
                    for key in ("ratio", "peak_fraction", "roofline_fraction")
                ),
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def markdown(results):
    """The tables and a summary."""
    versions = ", ".join(f"{title} {number}" for title, number in results["versions"].items())
    parts = [
        f"{results['cpu']}, {results['cores']} cores, {results['date']}. {versions}.",
        "GFLOP/s, I = H, f32.",
    ]
    for cell in measured_cells(results):
        # Those that took part with this cell.
        named = {
            name
            for case in results["cases"]
            if case["cell"] == cell
            for name, contender in case["contenders"].items()
            if not contender["status"].startswith("unsupported")
        }
        names = [name for name in TITLES if name in named]
        for title, cases in panels(results, cell):
            parts += [f"## {cells.TITLES[cell]}, {title}", table(cases, names)]
    if any(case.get("disturbed") for case in results["cases"]):
        parts.append("\\* Disturbed: the FMA peak fell by a tenth or more in half of the samples.")
    parts += ["## Summary", summary(results)]
    failed = failures(results)
    if failed:
        parts += ["## Not timed", "\n".join(failed)]
    return "\n\n".join(parts) + "\n"


def summary(results):
    """The table of what the ratios of each cell, mode and number of threads come to."""
    rows = [
        "| | cases | disturbed, left out | geometric mean of ratios | least | 1.00 or more |",
        "| --- " * 6 + "|",
    ]
    for cell in measured_cells(results):
        for title, cases in panels(results, cell):
            disturbed = sum(case.get("disturbed", False) for case in cases)
            ratios = [case["ratio"] for case in cases if "ratio" in case and not case["disturbed"]]
            if ratios:
                reached = sum(ratio >= 1 for ratio in ratios)
                rows.append(
                    f"| {cells.TITLES[cell]}, {title} | {len(ratios)} | {disturbed} |"
                    f" {geometric_mean(ratios):.2f} | {min(ratios):.2f} | {reached} |"
                )
    return "\n".join(rows)


def failures(results):
    """A line for each contender that did not agree or broke down."""
    return [
        f"- {TITLES[name]}, {cells.TITLES[case['cell']]}, H {case['hidden']}, B {case['batch']},"
        f" T {case['steps']}, {case['mode']}, {case['threads']} threads: {contender['status']}"
        for case in results["cases"]
        for name, contender in case["contenders"].items()
        if contender["status"].startswith(("WRONG", "FAILED"))
    ]
