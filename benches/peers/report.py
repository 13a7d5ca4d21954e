"""From timings to ratios, fractions and tables."""

import math
import statistics
from itertools import groupby

import cells
from contenders import PEERS, TITLES


def flops(case):
    """Of a pass: a training step is three forward passes' worth."""
    hidden = case["hidden"]
    rows = cells.GATES[case["cell"]] * hidden
    return 2 * sum(running(case)) * rows * (hidden + hidden) * passes(case)


def running(case):
    """How many sequences take each step; their padding is no work that is needed."""
    lengths = case.get("lengths") or [case["steps"]] * case["batch"]
    return [sum(step < length for length in lengths) for step in range(case["steps"])]


def passes(case):
    return 3 if case["mode"] == "train" else 1


def roofline(case):
    """GFLOP/s that a pass cannot exceed if every step reads the recurrent weights
    once, at the bandwidth measured, and all else costs multiply-adds only."""
    peak, bandwidth = case["peak_gflops"], case["bandwidth_gbytes"]
    weights = cells.GATES[case["cell"]] * case["hidden"] ** 2
    # Forward, and in training backward, a product with the weights at each step.
    sweeps = running(case) * (2 if case["mode"] == "train" else 1)
    multiplied = [2 * sequences * weights for sequences in sweeps]
    swept = sum(max(each / peak, 4 * weights / bandwidth) for each in multiplied)
    rest = flops(case) - sum(multiplied)
    return flops(case) / (swept + rest / peak)


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
        case["ratio"] = ratio(timed[best], ours)
        if "torch-packed" in timed:
            case["packed_ratio"] = ratio(timed["torch-packed"], ours)


def ratio(theirs, ours):
    """How many times as long as bptt a contender takes."""
    rounds = zip(theirs["rounds"], ours["rounds"], strict=True)
    return statistics.median(their["best"] / our["best"] for their, our in rounds)


def measured_cells(results):
    """The cells of which there are cases, in their order."""
    measured = {case["cell"] for case in results["cases"]}
    return [cell for cell in cells.GATES if cell in measured]


def panels(results, cell):
    """A cell's cases, those of each mode and number of threads with a title; those whose lengths
    differ apart."""

    def key(case):
        return is_ragged(case), case["mode"], case["threads"]

    cases = sorted((case for case in results["cases"] if case["cell"] == cell), key=key)
    for (ragged, mode, threads), group in groupby(cases, key):
        title = f"{mode}, {threads} thread{'s' if threads > 1 else ''}"
        title += ", different lengths" if ragged else ""
        shape = ("hidden", "batch", "steps")
        yield title, sorted(group, key=lambda case: [case[name] for name in shape])


def is_ragged(case):
    return "lengths" in case


def geometric_mean(values):
    return math.exp(statistics.fmean(math.log(value) for value in values))


def name_of(case):
    """H, B, T, and the share of B·T that is no padding, if not all; with a star where the timings
    are in doubt."""
    star = " *" if case.get("disturbed") else ""
    share = sum(running(case)) / (case["batch"] * case["steps"])
    fill = f", {share:.0%}" if is_ragged(case) else ""
    return f"{case['hidden']}, {case['batch']}, {case['steps']}{fill}{star}"


def entry(contender):
    if contender is None:
        return ""
    if "gflops" in contender:
        value = contender["gflops"]
        return f"{value:.1f}" if value < 10 else f"{value:.0f}"
    kind = contender["status"].split(":")[0]
    return "" if kind == "unsupported" else kind


def hundredths(case, key):
    return f"{case[key]:.2f}" if key in case else ""


def table(cases, names):
    ragged = any(map(is_ragged, cases))
    header = ["H, B, T, full" if ragged else "H, B, T", *(TITLES[name] for name in names)]
    header += ["PyTorch packed's time / bptt's"] if ragged else []
    header += ["best peer", "its time / bptt's", "of FMA peak", "of roofline"]
    rows = [header, ["---"] * len(header)]
    for case in cases:
        rows.append(
            [
                name_of(case),
                *(entry(case["contenders"].get(name)) for name in names),
                *([hundredths(case, "packed_ratio")] if ragged else []),
                TITLES.get(case.get("best_peer"), ""),
                hundredths(case, "ratio"),
                hundredths(case, "peak_fraction"),
                hundredths(case, "roofline_fraction"),
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
        for ragged, group in groupby(panels(results, cell), lambda panel: is_ragged(panel[1][0])):
            shown = list(group)
            # Those that took part with this cell.
            named = {
                name
                for _, cases in shown
                for case in cases
                for name, contender in case["contenders"].items()
                if not contender["status"].startswith("unsupported")
            }
            names = [name for name in TITLES if name in named]
            for title, cases in shown:
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


def memory(results):
    """The table of a pass's time in less and less memory, for each number of sequences."""
    header = ["B", "", "MB", "of all", "s", "its time / bptt's in full", "steps run again", "rows computed again"]
    rows = [header, ["---:", "---", *["---:"] * 6]]
    for case in results["cases"]:
        whole = whole_pass(results, case["batch"])
        median = lambda key: statistics.median(start[key] for start in case["rounds"])
        again = [""] * 2
        if case["library"] == "bptt":
            again = [f"{int(median(key)):,}" for key in ("steps_again", "rows_again")]
        rows.append(
            [
                str(case["batch"]),
                way(case),
                f"{median('bytes') / 1e6:,.1f}",
                f"{median('bytes') / whole['rounds'][0]['bytes']:.0%}",
                f"{median('seconds'):.2f}",
                f"{time_beside(case, whole):.2f}",
                *again,
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def whole_pass(results, batch):
    """bptt's pass without a budget."""
    return next(
        case
        for case in results["cases"]
        if case["batch"] == batch and case["library"] == "bptt" and case["budget"] is None
    )


def time_beside(case, whole):
    """How many times as long as the whole pass of the same round a pass takes: the median."""
    rounds = zip(case["rounds"], whole["rounds"], strict=True)
    return statistics.median(start["seconds"] / other["seconds"] for start, other in rounds)


def way(case):
    """What the case's pass keeps."""
    if case["library"] == "bptt":
        return "bptt, in full" if case["budget"] is None else "bptt, budget"
    return f"PyTorch, chunks of {case['chunk']}" if case["chunk"] else "PyTorch, in full"


def failures(results):
    """A line for each contender that did not agree or broke down."""
    return [
        f"- {TITLES[name]}, {cells.TITLES[case['cell']]}, H {case['hidden']}, B {case['batch']},"
        f" T {case['steps']}, {case['mode']}, {case['threads']} threads: {contender['status']}"
        for case in results["cases"]
        for name, contender in case["contenders"].items()
        if contender["status"].startswith(("WRONG", "FAILED"))
    ]
