"""Measures what memberships and rooms take of the gateway's resident memory.

Called by memory.sh beside it. Each figure is of one gateway that holds the same connections without rooms first and with
rooms then. Members of the smallest rooms are in the rooms' records, so that these rooms say what a record takes; what
larger ones take beside their records is their memberships.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

# Nothing is left beside the scripts.
sys.dont_write_bytecode = True
from compare_kept import machine  # noqa: E402

PAGE = Path(__file__).resolve().parent.parent / "docs/PERFORMANCE.md"
MARK = re.compile(r"(<!-- memory:rooms -->\n).*?(<!-- /memory -->)", re.DOTALL)

# Rooms that each connection is in.
EACH = 100
# What a membership may take at two loops.
MEMBERSHIP_MAX = 24
# Seconds in which nothing happens before memory is read.
REST = 5
# How long anything may take.
PATIENCE = 300

Shape = namedtuple("Shape", "rooms members")
Seen = namedtuple("Seen", "shape loops before after counted")


class Failure(Exception):
    """A program did not do what it should."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def resident(pid):
    """Resident bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024


class Gateway:
    """A running gateway; ends with the block."""

    def __init__(self, options, loops, connections):
        self.stats_file = options.work / "stats.json"
        self.log = open(options.work / "gateway.log", "w+")
        table = "private" if loops > 2 else "shared"
        argv = [options.bin / "tidegate", "--listen", "127.0.0.1:0", "--loops", str(loops)]
        argv += ["--fd-table", table, "--max-connections", str(connections + 100)]
        # Nothing but joins is to move.
        argv += ["--ping-interval", "off", "--idle-timeout", "0", "--stats-out", self.stats_file]
        # What a buffer leaves behind as it grows goes back to the system, or memberships would take it unseen.
        environment = {} if options.cold else {"MALLOC_MMAP_THRESHOLD_": "16384"}
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.log,
            env={**os.environ, **environment},
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)
        self.log.close()

    def address(self):
        def listening():
            self.log.seek(0)
            return re.search(r"listening on (127\.0\.0\.1:\d+)", self.log.read())

        return wait_for("the gateway listens", listening, [self.process])[1]

    def stats(self):
        self.stats_file.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        wait_for("statistics", self.stats_file.exists, [self.process])
        return json.loads(self.stats_file.read_text())

    def rest(self):
        """Resident bytes once nothing has happened for a while: the least that is seen."""
        time.sleep(REST)
        reads = []
        for _ in range(5):
            reads.append(resident(self.process.pid))
            time.sleep(0.2)
        return min(reads)


def wait_for(what, holds, processes):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = holds()
        if value:
            return value
        for process in processes:
            if process.poll() is not None:
                raise Failure(f"{process.args[0]} ended with {process.returncode} before this: {what}")
        time.sleep(0.1)
    raise Failure(f"not within {PATIENCE} s: {what}")


def end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def loadtest(options, gateway, *flags):
    argv = [options.bin / "loadtest", "connect", "--url", f"ws://{gateway.address()}/ws"]
    argv += ["--dialect", "json", *map(str, flags)]
    with open(options.work / "loadtest.log", "w") as log:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def warm_up(options, gateway):
    """Joins of a few connections in a few rooms, again and again: buffers that circulate between threads grow to what
    joins take, whoever comes later. What else is left of it is a fifth of a byte for each membership to come."""
    for _ in range(6 if options.quick else 60):
        client = loadtest(
            options, gateway, "-c", 1000, "--hold", "0", "--rooms", 16, "--rooms-per-connection", 16
        )
        try:
            if client.wait(PATIENCE):
                raise Failure("loadtest failed before anything was measured")
        finally:
            end(client)


def measure(options, shape, loops):
    memberships = shape.rooms * shape.members
    connections = memberships // EACH
    say(f"{shape.rooms:,} rooms × {shape.members:,} at {loops} loops …")
    with Gateway(options, loops, connections) as gateway:
        if not options.cold:
            warm_up(options, gateway)
        flags = ["-c", connections, "--hold", "10m", "--join-after", f"{2 * REST + 5}s"]
        flags += ["--rooms", shape.rooms, "--rooms-per-connection", EACH]
        client = loadtest(options, gateway, *flags)
        try:
            both = [gateway.process, client]
            wait_for(
                "all are open", lambda: gateway.stats()["totals"]["open"] == connections, both
            )
            before = gateway.rest()
            count = lambda name: gateway.stats()["worker_totals"][name]
            if count("memberships") > 0:
                raise Failure("the joins began before memory was read")
            wait_for("all have joined", lambda: count("memberships") == memberships, both)
            after = gateway.rest()
            stats = gateway.stats()
            if stats["worker_totals"]["rooms"] != shape.rooms:
                raise Failure(f"{stats['worker_totals']['rooms']:,} rooms")
        finally:
            end(client)
    return Seen(shape, loops, before, after, stats["buffers"]["room_bytes"])


def loops_of(row):
    """How many loops have members of a room, on average: members are on any of them."""
    return row.loops * (1 - (1 - 1 / row.loops) ** row.shape.members)


def records(seen):
    """What a room takes at its home, and for each loop that has members: as the smallest rooms have it, whose members
    take nothing beside the records but four bytes in a session."""
    least = min(row.shape.members for row in seen)
    one, other = [row for row in seen if row.shape.members == least]
    rooms = one.shape.rooms
    first, second = [
        (row.after - row.before - 4 * rooms * least) / rooms for row in (one, other)
    ]
    each_loop = (second - first) / (loops_of(other) - loops_of(one))
    return first - loops_of(one) * each_loop, each_loop


def table(seen):
    """The lines of the table, and what a membership takes in each of its rows."""
    at_home, each_loop = records(seen)
    lines = [
        "| loops | rooms × members | resident before | with rooms | B a membership, all in all "
        "| of it its room's records | B a membership alone | counted by the ceiling |",
        "|---|---|---|---|---|---|---|---|",
    ]
    shares = []
    for row in seen:
        memberships = row.shape.rooms * row.shape.members
        taken = row.after - row.before
        record = (at_home + loops_of(row) * each_loop) / row.shape.members
        shares.append((row, taken / memberships - record))
        cells = [
            str(row.loops),
            f"{row.shape.rooms:,} × {row.shape.members:,}",
            f"{row.before / 1e6:.1f} MB",
            f"{row.after / 1e6:.1f} MB",
            f"{taken / memberships:.1f}",
            f"{record:.1f}",
            f"{shares[-1][1]:.1f}",
            f"{row.counted / 1e6:.1f} MB",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    each = f"{at_home:.0f} B, and {each_loop:.0f} B for each loop that has members"
    return [*lines, "", f"A room's records: {each}."], shares


def provenance(options):
    of = machine()
    dirty = " with changes" if of["dirty"] else ""
    return (
        f"`scripts/memory.sh rooms{' --cold' if options.cold else ''}`: {of['date']}, commit {of['commit']}{dirty}, {of['cores']} × {of['cpu']}, "
        f"Linux {of['kernel']}."
    )


def write(lines):
    page = PAGE.read_text()
    if not MARK.search(page):
        sys.exit(f"{PAGE.name} has no place for it: <!-- memory:rooms --> … <!-- /memory -->")
    body = "\n".join(lines) + "\n"
    PAGE.write_text(MARK.sub(lambda match: match[1] + body + match[2], page))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    # What was started ends on the way out.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    scale, loops = (10, [2, 5]) if options.quick else (1, [2, 53])
    shapes = [Shape(1000, 1000), Shape(10_000, 100), Shape(200_000, 5)]
    shapes = [Shape(shape.rooms // scale, shape.members) for shape in shapes]
    with tempfile.TemporaryDirectory() as work:
        options.work = Path(work)
        try:
            seen = [measure(options, shape, count) for count in loops for shape in shapes]
        except Failure as failure:
            for name in ("gateway.log", "loadtest.log"):
                say((options.work / name).read_text()[-2000:])
            sys.exit(f"memory_rooms.py: {failure}")
    lines, shares = table(seen)
    lines += ["", provenance(options)]
    print("\n".join(lines))
    if options.write and not options.quick:
        write(lines)
    over = [
        f"{row.shape.rooms:,} × {row.shape.members:,}: {share:.1f} B"
        for row, share in shares
        if row.loops == 2 and share > MEMBERSHIP_MAX and not options.quick
    ]
    sys.exit(f"over {MEMBERSHIP_MAX} B a membership: {', '.join(over)}" if over else 0)


if __name__ == "__main__":
    main()
