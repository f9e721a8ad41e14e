"""Judges the reports of scripts/stalled.sh for one policy: DIRECTORY POLICY RUNS STALLED."""

import json
import pathlib
import statistics
import sys

# The p99 of the healthy members beside the stalled, by that without these.
RATIO_MAX = 1.25


def load(path):
    return json.loads(path.read_text())


def p99_ms(report):
    return report["stall"]["delivery_us"]["p99"] / 1000


def wrongs(policy, report, gateway, wanted):
    """What became of stalled members that should not have, in words."""
    stall, closes, drops = report["stall"], gateway["closes"], gateway["drops"]
    closing = policy == "close"
    dropped = drops["drop_oldest"] + drops["keep_latest"]
    expected = {
        "stalled": (stall["stalled"], wanted),
        "closed by the gateway": (stall["closed_by_server"], wanted if closing else 0),
        "gateway: closed as too slow": (closes["outbound_limit"], wanted if closing else 0),
        "left open, with publishes dropped": (stall["trimmed"], 0 if closing else wanted),
        "gateway: publishes dropped": (dropped, stall["dropped"]),
        "gateway: times one fell behind": (gateway["totals"]["trims"] >= (0 if closing else wanted), True),
        "not whole, again or out of order": (stall["wrong"], 0),
    }
    return [f"{what}: {seen} instead of {due}" for what, (seen, due) in expected.items() if seen != due]


def main(work, policy, runs, wanted):
    p99s, missing, outcomes, wrong = {"without": [], "with": []}, 0, [], []
    print(f"{policy}: p99 in ms, without and with {wanted} stalled members")
    for run in range(runs):
        for kind, seen in p99s.items():
            report, gateway = (load(work / f"{policy}-{run}-{kind}.{end}") for end in ("json", "gateway.json"))
            seen.append(p99_ms(report))
            deliveries = report["stall"]["deliveries"]
            missing += deliveries["expected"] - deliveries["right"]
            if kind == "with":
                outcomes.append((report["stall"]["closed_by_server"], report["stall"]["dropped"]))
            due = wanted if kind == "with" else 0
            wrong += [f"run {run}, {kind}: {each}" for each in wrongs(policy, report, gateway, due)]
        closed, dropped = outcomes[-1]
        without, beside = p99s["without"][-1], p99s["with"][-1]
        print(f"  {without:8.2f} {beside:8.2f}   {closed} closed, {dropped} publishes dropped for the others")
    without, beside = (statistics.median(p99s[kind]) for kind in ("without", "with"))
    ratio, least = beside / without, min(p99s["with"]) / min(p99s["without"])
    print(f"  medians {without:.2f} and {beside:.2f}: × {ratio:.2f} (of minima × {least:.2f}), at most × {RATIO_MAX}")
    print(f"  deliveries missing among the healthy: {missing}")
    if ratio > RATIO_MAX:
        wrong.append(f"p99 × {ratio:.2f}")
    if missing:
        wrong.append(f"{missing} deliveries missing")
    for each in wrong:
        print(f"  WRONG: {each}")
    return not wrong


if __name__ == "__main__":
    directory, name, count, members = sys.argv[1:]
    sys.exit(0 if main(pathlib.Path(directory), name, int(count), int(members)) else 1)
