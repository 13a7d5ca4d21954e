"""The tables of networks of layers."""

import json
import statistics

import cells
from contenders import HERE, PEERS, TITLES
from report import entry, geometric_mean, ratio

SETS = json.loads((HERE / "networks.json").read_text())
SUMMARY = ["", "cases", "disturbed, left out", "geometric mean of ratios", "least", "in", "1.00 or more"]


def markdown(results):
    """A table for each set, and a summary."""
    versions = ", ".join(f"{title} {number}" for title, number in results["versions"].items())
    of = f"{results['cpu']}, {results['cores']} cores, {results['date']}. {versions}."
    starts = f"Milliseconds of a pass, f32, medians of {results['rounds']} starts of each program."
    text = [of, starts]
    timed = [case for case in map(rated, results["cases"]) if case.get("contenders")]
    for name in SETS:
        cases = [case for case in timed if case["set"] == name]
        if cases:
            text += [f"## {SETS[name]['title']}", table(cases)]
    if any(case["disturbed"] for case in timed):
        text.append("\\* Disturbed: the FMA peak fell by a tenth or more in half of the samples.")
    text += ["## Summary", summary(results)]
    failed = [
        f"- {TITLES[name]}, {title(case)}: {contender['status']}"
        for case in timed
        for name, contender in case["contenders"].items()
        if contender["status"].startswith(("WRONG", "FAILED", "slow"))
    ]
    text += ["## Not timed", "\n".join(failed)] if failed else []
    return "\n\n".join(text) + "\n"


def rated(case):
    """The case with the times of its contenders, and how many times as long as bptt the fastest of
    the others takes: the median of that in each start."""
    case = {**case, "disturbed": False}
    timed = {
        name: contender
        for name, contender in case.get("contenders", {}).items()
        if contender["rounds"]
    }
    # After an interruption some have had a turn more.
    turns = min((len(contender["rounds"]) for contender in timed.values()), default=0)
    timed = {name: {"rounds": contender["rounds"][:turns]} for name, contender in timed.items()}
    case["ms"] = {name: 1e3 * median_time(contender) for name, contender in timed.items()}
    if case["peaks"]:
        # The peak is the machine's own: where it varies, something else ran.
        case["disturbed"] = statistics.median(case["peaks"]) < 0.9 * max(case["peaks"])
    peers = [name for name in PEERS if name in timed]
    if "bptt" in timed and peers:
        case["best_peer"] = min(peers, key=case["ms"].get)
        case["ratio"] = ratio(timed[case["best_peer"]], timed["bptt"])
    return case


def median_time(contender):
    """The best of each start's passes, and of these the median."""
    return statistics.median(timing["best"] for timing in contender["rounds"])


def network_name(case):
    """As in 2 bidirectional LSTMs."""
    both = " bidirectional" if case["directions"] == 2 else ""
    return f"{case['layers']}{both} {cells.TITLES[case['cell']]}s"


def sizes(case):
    hidden = f"{case['hidden']} → {case['output']}" if "output" in case else f"{case['hidden']}"
    steps = case["steps"]
    if "lengths" in case:
        steps = f"{min(case['lengths'])} to {max(case['lengths'])}"
    return f"{case['input']}, {hidden}, {case['batch']}, {steps}"


def title(case):
    return f"{network_name(case)}, {sizes(case)}, {case['mode']}, {case['threads']} thr."


def table(cases):
    names = [name for name in TITLES if any(name in case["contenders"] for case in cases)]
    header = ["layers", "I, H, B, T", "pass", "threads", *(TITLES[name] for name in names)]
    header += ["best peer", "its time / bptt's"]
    rows = [header, ["---"] * 3 + ["---:"] * (1 + len(names)) + ["---", "---:"]]
    for case in cases:
        times = [
            f"{case['ms'][name]:.3g}" if name in case["ms"] else entry(case["contenders"].get(name))
            for name in names
        ]
        best = [TITLES[case["best_peer"]], f"{case['ratio']:.2f}"] if "ratio" in case else ["", ""]
        star = " *" if case["disturbed"] else ""
        kind = [network_name(case), sizes(case) + star, case["mode"], str(case["threads"])]
        rows.append([*kind, *times, *best])
    return lines(rows)


def summary(results):
    """The table of what the ratios of each set, mode and number of threads come to, and of all."""
    timed = [case for case in map(rated, results["cases"]) if "ratio" in case]
    groups = {}
    for case in timed:
        threads = f"{case['threads']} thread{'s' if case['threads'] > 1 else ''}"
        name = f"{SETS[case['set']]['title']}, {case['mode']}, {threads}"
        groups.setdefault(name, []).append(case)
    rows = [SUMMARY, ["---"] + ["---:"] * 4 + ["---", "---:"]]
    for name, cases in {**groups, "All": timed}.items():
        calm = [case for case in cases if not case["disturbed"]]
        if calm:
            ratios = [case["ratio"] for case in calm]
            worst = min(calm, key=lambda case: case["ratio"])
            rows.append(
                [
                    name,
                    str(len(calm)),
                    str(len(cases) - len(calm)),
                    f"{geometric_mean(ratios):.2f}",
                    f"{min(ratios):.2f}",
                    f"{network_name(worst)}, {sizes(worst)}",
                    str(sum(value >= 1 for value in ratios)),
                ]
            )
    return lines(rows)


def lines(rows):
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
