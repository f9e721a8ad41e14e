"""Measures what memberships and rooms take of the gateway's resident memory.

Called by memory.sh beside it. Each figure is of one gateway that holds the same connections without rooms first and with
rooms then. Of a room of a few members these are in its record, so that the smallest rooms say what a record takes, and
what the larger ones take beside their records is their memberships.
"""

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

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
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log
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
    for _ in range(10):
        client = loadtest(
            options, gateway, "-c", 1000, "--hold", "0", "--rooms", 16, "--rooms-per-connection", 16
        )
        if client.wait(PATIENCE):
            raise Failure("loadtest failed before anything was measured")


def measure(options, shape, loops):
    memberships = shape.rooms * shape.members
    connections = memberships // EACH
    say(f"{shape.rooms:,} rooms × {shape.members:,} at {loops} loops …")
    with Gateway(options, loops, connections) as gateway:
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


def table(seen):
    """The rows, and what a membership takes in the larger rooms."""
    lines = [
        "| loops | rooms × members | resident before → with rooms | B a membership, rooms included "
        "| B a room | B a membership beside its room | counted by the ceiling |",
        "|---|---|---|---|---|---|---|",
    ]
    shares = []
    record = {}
    # The smallest rooms first: their records are what the others' are taken to be.
    for row in sorted(seen, key=lambda row: row.shape.members):
        memberships = row.shape.rooms * row.shape.members
        taken = row.after - row.before
        if row.loops not in record:
            # What is not in the record is four bytes in each session.
            record[row.loops] = (taken - 4 * memberships) / row.shape.rooms
            share = None
        else:
            share = (taken - record[row.loops] * row.shape.rooms) / memberships
            shares.append((row, share))
        cells = [
            str(row.loops),
            f"{row.shape.rooms:,} × {row.shape.members:,}",
            f"{row.before / 1e6:.1f} → {row.after / 1e6:.1f} MB",
            f"{taken / memberships:.1f}",
            f"{record[row.loops]:.0f}" if share is None else "",
            f"{share:.1f}" if share is not None else "",
            f"{row.counted / 1e6:.1f} of {taken / 1e6:.1f} MB",
        ]
        lines.append((row.loops, -row.shape.members, "| " + " | ".join(cells) + " |"))
    head, rows = lines[:2], sorted(lines[2:])
    return head + [row for _, _, row in rows], shares


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
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
    print("\n".join(lines))
    over = [
        f"{row.shape.rooms:,} × {row.shape.members:,}: {share:.1f} B"
        for row, share in shares
        if row.loops == 2 and share > MEMBERSHIP_MAX
    ]
    sys.exit(f"over {MEMBERSHIP_MAX} B a membership: {', '.join(over)}" if over else 0)


if __name__ == "__main__":
    main()
