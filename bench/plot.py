"""Draws bench/plots/*.svg from bench/last.json and bench/leases.json: `cargo xtask bench` and `cargo xtask soak leases` call it."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "daypass"  # the same drawing for the same figures
matplotlib.rcParams["svg.fonttype"] = "none"  # texts stay texts
import matplotlib.pyplot as plt  # noqa: E402

OURS, PEER = "#1a5fb4", "#c0bfbc"


def save(figure, path):
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def bars(rows, key, title, path):
    """One pair of bars per workload, on a logarithmic scale."""
    figure, axes = plt.subplots(figsize=(9, 0.5 * len(rows) + 1.2))
    for place, row in enumerate(rows):
        for offset, whose, colour in ((0.2, "ours", OURS), (-0.2, "peer", PEER)):
            if row[whose]:
                value = row[whose][key]
                axes.barh(-place + offset, value, 0.38, color=colour, label=whose if place == 0 else None)
                axes.text(value * 1.05, -place + offset, f"{value:,.0f}", va="center", fontsize=7)
    axes.set_yticks([-place for place in range(len(rows))])
    axes.set_yticklabels([f"{row['name']} ({row['connections']})" for row in rows], fontsize=7)
    axes.set_xscale("log")
    axes.set_title(title, fontsize=9)
    axes.legend(["daypass", "OpenBao"], fontsize=7)
    save(figure, path)


def curves(sizes, path):
    """What an operation costs as the number of live tokens grows."""
    figure, axes = plt.subplots(figsize=(7, 4))
    tokens = [size["tokens"] for size in sizes]
    for key, label in (("create", "create, µs of CPU"), ("lookup", "lookup-self, µs of CPU"), ("start_ms", "kill -9 to first answer, ms")):
        axes.plot(tokens, [size[key] for size in sizes], marker="o", label=label)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("live tokens", fontsize=8)
    axes.set_title("Cost against the number of leases", fontsize=9)
    axes.legend(fontsize=7)
    save(figure, path)


def main(folder):
    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    if (folder / "last.json").exists():
        rows = json.loads((folder / "last.json").read_text())["workloads"]
        if rows:
            bars(rows, "cpu", "CPU per request, µs, less is better (connections)", plots / "cpu.svg")
            bars(rows, "rate", "Requests a second, more is better (connections)", plots / "rate.svg")
            bars(rows, "p99", "p99, µs, less is better (connections)", plots / "p99.svg")
    if (folder / "leases.json").exists():
        curves(json.loads((folder / "leases.json").read_text())["sizes"], plots / "leases.svg")


main(Path(sys.argv[1]))
