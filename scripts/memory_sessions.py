"""Measures what a connection takes of the gateway's resident memory: bare, and logged in and in one room of a hundred.

Called by memory.sh beside it. Each figure is of a gateway of its own, at as many loops as the connections take here, against
what the same gateway takes without any.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

# Nothing is left beside the scripts.
sys.dont_write_bytecode = True
import memory_rooms  # noqa: E402
from memory_rooms import Failure, end, say, wait_for  # noqa: E402

MEMBERS = 100
# Resident bytes that a connection may take.
BARE_MAX = 200
SESSION_MAX = 600

CONFIG = """
[[endpoint]]
path = "/bare"
dialect = "json"

[[endpoint]]
path = "/session"
dialect = "json"
identity = ["query.user", "query.type", "query.device", "query.source"]
session = "displace"
"""

Seen = namedtuple("Seen", "what loops table before after")


class Gateway(memory_rooms.Gateway):
    """A gateway as anybody runs it, with endpoints for both kinds."""

    def __init__(self, options, connections):
        self.stats_file = options.work / "stats.json"
        self.log = open(options.work / "gateway.log", "w+")
        file = options.work / "gateway.toml"
        file.write_text(CONFIG)
        argv = [options.bin / "tidegate", "--config", file, "--listen", "127.0.0.1:0", "--stats-out", self.stats_file]
        argv += ["--max-connections", str(connections + 1000), "--ping-interval", "off", "--idle-timeout", "0"]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log
        )


def measure(options, what, path, flags, wanted):
    """Holds the connections that the flags make until the gateway counts what is wanted."""
    connections = options.connections
    say(f"{connections:,} connections, {what} …")
    with Gateway(options, connections) as gateway:
        url = f"ws://{gateway.address()}{path}"
        before = gateway.rest()
        argv = [options.bin / "loadtest", "connect", "--url", url, "--dialect", "json", "-c", connections]
        argv += ["--hold", "10m", *flags]
        with open(options.work / "loadtest.log", "w") as log:
            client = subprocess.Popen(
                [str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:

            def all_there():
                stats = gateway.stats()
                counted = {**stats["worker_totals"], **stats["totals"]}
                return stats if all(counted[name] == due for name, due in wanted.items()) else None

            stats = wait_for(f"{wanted}", all_there, [gateway.process, client])
            after = gateway.rest()
        finally:
            end(client)
    config = stats["config"]
    return Seen(what, config["loops"], config["fd_table"], before, after)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.connections = all_of_them = 20_000 if options.quick else 200_000
    rooms = all_of_them // MEMBERS
    bare = {"open": all_of_them, "logins": 0, "memberships": 0}
    full = {"open": all_of_them, "logins": all_of_them, "memberships": all_of_them, "rooms": rooms}
    flags = ["--login", "--rooms", rooms]
    with tempfile.TemporaryDirectory() as work:
        options.work = Path(work)
        try:
            seen = [
                measure(options, "bare", "/bare", [], bare),
                measure(options, f"logged in, in one room of {MEMBERS}", "/session", flags, full),
            ]
        except Failure as failure:
            for name in ("gateway.log", "loadtest.log"):
                say((options.work / name).read_text()[-2000:])
            sys.exit(f"memory_sessions.py: {failure}")
    print(f"{all_of_them:,} connections")
    print("| | loops | tables | resident without | with | B a connection |\n|---|---|---|---|---|---|")
    over = []
    for row, most in zip(seen, (BARE_MAX, SESSION_MAX)):
        each = (row.after - row.before) / all_of_them
        before, after = row.before / 1e6, row.after / 1e6
        print(f"| {row.what} | {row.loops} | {row.table} | {before:.1f} MB | {after:.1f} MB | {each:.0f} |")
        if each > most:
            over.append(f"{row.what}: {each:.0f} B, over {most}")
    sys.exit("; ".join(over) if over else 0)


if __name__ == "__main__":
    main()
