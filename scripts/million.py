"""Holds the counters of scripts/million.sh's two ends against each other, and writes its table and charts."""

import json
import pathlib
import re
import shutil
import sys

CHARTS = [
    ("connections", "connections open over time"),
    ("memory", "resident memory of both processes over time"),
    ("kernel", "kernel memory over time"),
    ("cpu", "CPU of both processes over time"),
]
# Resident bytes of the gateway that a connection may take, and what it may take without any: 250 MB for a million.
RESIDENT_MAX = 200
BASE_MAX = 50_000_000
MARK = re.compile(r"(<!-- million -->\n).*?(<!-- /million -->)", re.DOTALL)


def load(keep):
    return (json.loads((keep / name).read_text()) for name in ("loadtest.json", "gateway.json"))


def differences(load_report, gateway):
    """What does not add up, in words."""
    scale, close = load_report["scale"], load_report["close"]
    wanted, totals = load_report["connections"], gateway["totals"]
    # What the script asks for: ten echoes over each of 1 %, and a room of 10 %.
    echoes, joins = wanted // 100 * 10, wanted // 10
    expected = {
        "connected": (load_report["connect"]["connected"], wanted),
        "pings answered": (scale["ping"]["right"], wanted),
        "echoes": (scale["echo"]["right"], echoes),
        "joins": (scale["join"]["right"], joins),
        "deliveries received": (scale["broadcast"]["right"], joins),
        "closed cleanly": (close["clean"], wanted),
        "lost": (sum(load_report["hold"]["lost"].values()), 0),
        "gateway: accepted": (totals["accepted"], wanted),
        "gateway: opened": (totals["opened"], wanted),
        "gateway: closed": (totals["closed"], wanted),
        "gateway: closed by the peer": (gateway["closes"]["peer_close"], wanted),
        # One to each, and one behind the publish to each member: nothing may come after it.
        "gateway: pings": (totals["pings_in"], wanted + joins),
        "gateway: deliveries": (totals["deliveries"], joins),
        # An echo, a join and the publish are a message and an answer each.
        "gateway: messages in": (totals["messages_in"], echoes + joins + 1),
        "gateway: messages out": (totals["messages_out"], echoes + joins + 1 + joins),
        "gateway: bytes in": (totals["bytes_in"], load_report["bytes"]["sent"]),
        "gateway: bytes out": (totals["bytes_out"], load_report["bytes"]["received"]),
        "gateway: refused": (sum(gateway["refusals"].values()), 0),
        "gateway: drops": (sum(gateway["drops"].values()), 0),
        "gateway: late answers": (gateway["late_answers"], 0),
        "gateway: bytes of buffers left": (gateway["buffers"]["total_bytes"], 0),
    }
    wrong = [f"{what}: {seen:,} instead of {due:,}" for what, (seen, due) in expected.items() if seen != due]
    resident = load_report["server"]["rss_ramped"] or 0
    if not 0 < resident <= RESIDENT_MAX * wanted + BASE_MAX:
        wrong.append(f"gateway: {resident:,} B resident, over {RESIDENT_MAX} B a connection")
    return wrong


def idle_rows(report):
    """Rows of the series while all connections were open and nothing was sent: the hold, but its first seconds."""
    columns, rows = report["series"]["columns"], report["series"]["rows"]
    at = {name: columns.index(name) for name in columns}
    full = [row for row in rows if row[at["open"]] == report["connections"]]
    start = full[0][at["seconds"]] if full else 0
    hold = report["hold"]["seconds"]
    idle = [row for row in full if start + 3 <= row[at["seconds"]] <= start + max(hold, 4)]
    return at, idle or full or rows


def table(report, gateway):
    scale, connect, server = report["scale"], report["connect"], report["server"]
    at, idle = idle_rows(report)
    wanted = report["connections"]
    rss = max(row[at["server_rss"]] for row in idle)
    kernel = max((row[at["kernel_tcp"]] or 0) + (row[at["kernel_objects"]] or 0) for row in idle)
    own = max(row[at["own_rss"]] for row in idle)
    cpu = sum(row[at["server_cpu_percent"]] for row in idle) / len(idle)
    before = server["rss_before"] or 0
    lost = sum(connect["refused"].values()) + sum(report["hold"]["lost"].values())
    tables = {"private": "each with a descriptor table of its own"}.get(gateway["config"]["fd_table"], "on one descriptor table")
    mb = 1e6

    def stage(name, what):
        part = scale[name]
        latency = part["latency_us"]
        took = f"{part['right']:,} of {part['wanted']:,} {what} in {part['seconds']:.1f} s"
        return f"{took}; p50 {latency['p50'] / 1000:.1f} ms, p99 {latency['p99'] / 1000:.1f} ms"

    lines = [
        ("connections open at once", f"{max(row[at['open']] for row in idle):,}, {lost:,} refused or lost"),
        ("opened in", f"{connect['seconds']:.0f} s, {connect['per_second']:,.0f} per second"),
        ("gateway, resident, all open and idle", f"{rss / mb:.1f} MB: {(rss - before) / wanted:.0f} B a connection ({before / mb:.1f} MB before the first)"),
        ("gateway, resident, at most", f"{server['rss_peak'] / mb:.1f} MB"),
        ("gateway, CPU while idle", f"{cpu:.1f} % of one core"),
        ("`loadtest`, resident", f"{own / mb:.0f} MB"),
        ("kernel memory of both ends", f"{kernel / 1e9:.2f} GB: {kernel / wanted / 2:,.0f} B an end"),
        ("event loops", f"{gateway['config']['loops']}, {tables}"),
        ("a ping to each", stage("ping", "answered")),
        ("echoes over a random 1 %", stage("echo", "right")),
        ("joining the room", stage("join", "answered")),
        ("one publish to the room", stage("broadcast", "delivered")),
        ("closed", f"{report['close']['clean']:,} by a whole closing handshake"),
        ("the run", f"{report['total_seconds']:.0f} s, gateway's CPU {server['cpu_seconds']:.0f} s"),
    ]
    return "\n".join(["| what | seen |", "|---|---|"] + [f"| {what} | {seen} |" for what, seen in lines])


def check(keep):
    report, gateway = load(keep)
    wrong = differences(report, gateway)
    for line in wrong:
        print(f"does not add up: {line}")
    (keep / "table.md").write_text(table(report, gateway) + "\n")
    print((keep / "table.md").read_text())
    print("every counter adds up" if not wrong else f"{len(wrong)} counters do not add up")
    return 1 if wrong or not report["ok"] else 0


def write(keep, root):
    readme = root / "README.md"
    text = readme.read_text()
    if not MARK.search(text):
        sys.exit("README.md has no place for it: <!-- million --> … <!-- /million -->")
    charts = root / "docs" / "million"
    charts.mkdir(exist_ok=True)
    images = []
    for name, alt in CHARTS:
        shutil.copy(keep / "svg" / f"{name}.svg", charts / f"{name}.svg")
        images.append(f"![{alt}](docs/million/{name}.svg)")
    body = (keep / "table.md").read_text() + "\n" + "\n".join(images) + "\n"
    readme.write_text(MARK.sub(lambda m: m[1] + body + m[2], text))
    return 0


if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    sys.exit({"check": check, "write": write}[command](*map(pathlib.Path, paths)))
