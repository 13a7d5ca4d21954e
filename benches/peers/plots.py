"""The plots of a cell: by shape, one panel for each mode and number of threads."""

import statistics

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

import cells
from contenders import PEERS, TITLES
from report import is_ragged, panels, time_beside, whole_pass

COLOURS = {
    "bptt": "#1b3a5b",
    "torch": "#d1603d",
    "torch-packed": "#d1603d",
    "torch-padded": "#e8a58c",
    "onnxruntime": "#8e7cc3",
    "onednn": "#3a86a8",
    "candle": "#d9a441",
    "burn": "#6a994e",
}

TICKS = [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64]

plt.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        # The same file for the same numbers.
        "svg.hashsalt": "bptt",
    }
)


def figure(results, cell, value, title):
    """A cell's figure and its panels, with the shapes along the lowest one's axis; only
    cases with `value` that were not disturbed. One empty panel where there are none."""
    shown = [
        (name, [case for case in cases if value in case and not case["disturbed"]])
        for name, cases in panels(results, cell)
    ]
    shown = [(name, cases) for name, cases in shown if cases]
    shapes = sorted({shape(case) for _, cases in shown for case in cases})
    width = max(6, 1.5 + 0.21 * len(shapes))
    fig, axes = plt.subplots(
        max(1, len(shown)),
        sharex=True,
        squeeze=False,
        figsize=(width, 1.6 + 1.65 * len(shown)),
        layout="constrained",
    )
    fig.suptitle(f"{cells.TITLES[cell]}: {title}", fontsize=11)
    axes = axes[:, 0]
    for ax, (name, _) in zip(axes, shown):
        ax.set_title(name, loc="left", fontsize=9)
        ax.grid(axis="y", linewidth=0.5, color="#dddddd")
        ax.tick_params(axis="x", length=0)
    if shown:
        # Where lengths differ, shapes do in T alone.
        ragged = any(map(is_ragged, (case for _, cases in shown for case in cases)))
        labels = [f"{h}, {b}, {t}" if ragged else f"{h}, {b}" for h, b, t in shapes]
        axes[-1].set_xticks(range(len(shapes)), labels, rotation=90, fontsize=8)
        axes[-1].set_xlim(-0.7, len(shapes) - 0.3)
        axes[-1].set_xlabel("H, B, T" if ragged else "H, B")
    return fig, [
        (ax, cases, [shapes.index(shape(case)) for case in cases])
        for ax, (_, cases) in zip(axes, shown)
    ]


def shape(case):
    return case["hidden"], case["batch"], case["steps"]


def ratio(results, cell, folder):
    """How many times as long as bptt the best peer takes."""
    title = "time of the best other library / time of bptt (log scale)"
    fig, shown = figure(results, cell, "ratio", title)
    best = set()
    for ax, cases, at in shown:
        ratios = [case["ratio"] for case in cases]
        peers = [case["best_peer"] for case in cases]
        best |= set(peers)
        ax.set_yscale("log")
        # Bars rise or fall from 1, where both are as fast.
        heights = [value - 1 for value in ratios]
        ax.bar(at, heights, bottom=1, width=0.75, color=[COLOURS[peer] for peer in peers])
        ax.axhline(1, color="black", linewidth=1)
        low, high = min([*ratios, 0.9]) * 0.95, max([*ratios, 2]) * 1.1
        ticks = [tick for tick in TICKS if low <= tick <= high]
        ax.yaxis.set_major_locator(FixedLocator(ticks))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
        ax.set_ylim(low, high)
    handles = [Patch(color=COLOURS[name], label=TITLES[name]) for name in PEERS if name in best]
    legend(fig, handles, "The best other library")
    save(fig, folder / file_name("ratio", cell))


def roofline(results, cell, folder):
    """What part of the roofline bptt and the best peer reach."""
    fig, shown = figure(results, cell, "roofline_fraction", "fraction of the roofline")
    best = set()
    for ax, cases, at in shown:
        ours = [case["roofline_fraction"] for case in cases]
        ax.bar(at, ours, width=0.75, color=COLOURS["bptt"])
        top = max([*ours, 1.0])
        for x, case in zip(at, cases, strict=True):
            if "best_peer" in case:
                peer = case["best_peer"]
                fraction = case["contenders"][peer]["gflops"] / case["roofline_gflops"]
                ax.plot(x, fraction, "o", color=COLOURS[peer], markeredgecolor="white")
                best.add(peer)
                top = max(top, fraction)
        ax.axhline(1, color="black", linewidth=1)
        ax.set_ylim(0, top * 1.08)
    handles = [Patch(color=COLOURS["bptt"], label=TITLES["bptt"])]
    handles += [
        Line2D([], [], marker="o", linestyle="", color=COLOURS[name], label=TITLES[name])
        for name in PEERS
        if name in best
    ]
    legend(fig, handles, None)
    save(fig, folder / file_name("roofline", cell))


def memory(results, folder):
    """Time against memory, for each number of sequences."""
    batches = sorted({case["batch"] for case in results["cases"]})
    fig, axes = plt.subplots(
        ncols=len(batches), sharey=True, squeeze=False, figsize=(4.2 * len(batches), 3.6), layout="constrained"
    )
    hidden, steps = results["hidden"], results["steps"]
    fig.suptitle(f"A training pass of an LSTM, H {hidden}, τ {steps:,}, one thread", fontsize=11)
    labels = {"bptt": "bptt, budgets", "torch": "PyTorch, checkpoints of chunks"}
    for ax, batch in zip(axes[0], batches):
        whole = whole_pass(results, batch)
        for library in labels:
            cases = [
                case
                for case in results["cases"]
                if (case["batch"], case["library"]) == (batch, library)
            ]
            points = [
                (
                    statistics.median(start["bytes"] for start in case["rounds"]) / 1e6,
                    time_beside(case, whole),
                    not case.get("budget") and not case.get("chunk"),
                )
                for case in cases
            ]
            line = {"color": COLOURS[library], "linewidth": 1, "markersize": 5}
            ax.plot(*zip(*(point[:2] for point in points)), marker="o", **line)
            for megabytes, time, in_full in points:
                if in_full:
                    ax.annotate("in full", (megabytes, time), (0, 7), textcoords="offset points", ha="center")
        ax.set_title(f"B {batch}", loc="left", fontsize=9)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:,g}"))
        ax.set_xlabel("memory of the pass, MB (log scale)")
        ax.grid(linewidth=0.5, color="#dddddd")
    axes[0][0].set_ylabel("time, as a multiple of bptt's in full")
    axes[0][0].set_ylim(0)
    handles = [
        Line2D([], [], marker="o", color=COLOURS[library], label=label)
        for library, label in labels.items()
    ]
    legend(fig, handles, None)
    save(fig, folder / "memory")


def legend(fig, handles, title):
    if handles:
        fig.legend(
            handles=handles,
            title=title,
            loc="outside lower center",
            ncols=len(handles),
            frameon=False,
        )


def file_name(plot, cell):
    """The LSTM's have the plain name, as when there was no other cell."""
    return plot if cell == "lstm" else f"{plot}_{cell}"


def save(fig, path):
    fig.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    fig.savefig(path.with_suffix(".png"), dpi=150)
    plt.close(fig)
