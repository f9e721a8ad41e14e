"""Clients that begin TLS and never end their ClientHello, against a gateway of their own for each kind.

Called by half-hello.sh beside it.
"""

import argparse
import json
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

# Nothing is left beside the scripts.
sys.dont_write_bytecode = True
from memory_rooms import Failure, end, resident, say, wait_for  # noqa: E402

# Resident bytes that one of them may take.
EACH_MAX = 20 * 1024
# Most of an unfinished handshake that is held.
CAP = 18 * 1024
# A full record, and a second one, of a ClientHello that says it has 65,000 bytes.
RECORD = 16 * 1024
HELLO = (
    bytes([22, 3, 1]) + RECORD.to_bytes(2, "big") + bytes([1]) + (65_000).to_bytes(3, "big") + bytes([3, 3])
).ljust(5 + RECORD, b"\0") + (bytes([22, 3, 1]) + RECORD.to_bytes(2, "big")).ljust(5 + RECORD, b"\0")

# What is sent in all, how much of it at a time, and whether that is too much.
Kind = namedtuple("Kind", "what bytes step is_over")
KINDS = [
    Kind("11 bytes", 11, 11, False),
    Kind(f"{CAP} bytes, all that is held", CAP, CAP, False),
    Kind(f"{CAP} bytes, 512 at a time", CAP, 512, False),
    Kind(f"{CAP + 1} bytes, 512 at a time", CAP + 1, 512, True),
]


class Gateway:
    """A running gateway; ends with the block."""

    def __init__(self, options):
        certs = options.work / "certs"
        if not certs.exists():
            subprocess.run([options.bin, "dev-cert", "--out", certs], check=True, stdout=subprocess.DEVNULL)
        self.stats_file = options.work / "stats.json"
        self.log = open(options.work / "gateway.log", "w+")
        argv = [options.bin, "--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0", "--stats-out", self.stats_file]
        argv += ["--tls-cert", certs / "cert.pem", "--tls-key", certs / "key.pem"]
        argv += ["--handshake-timeout", f"{options.timeout}s"]
        argv = [str(word) for word in argv]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)
        self.log.close()

    def address(self):
        def listening():
            self.log.seek(0)
            return re.search(r"listening on 127\.0\.0\.1:(\d+) over TLS", self.log.read())

        return "127.0.0.1", int(wait_for("the gateway listens", listening, [self.process])[1])

    def stats(self):
        self.stats_file.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        wait_for("statistics", self.stats_file.exists, [self.process])
        return json.loads(self.stats_file.read_text())

    def stats_when(self, what, holds):
        def held():
            stats = self.stats()
            return stats if holds(stats) else None

        return wait_for(what, held, [self.process])


def connect(address, count):
    sockets = []
    for _ in range(count):
        sockets.append(socket.create_connection(address))
    return sockets


def send(sockets, kind):
    """Sends it to all, a step to each in turn. Who has been closed already is passed over."""
    for at in range(0, kind.bytes, kind.step):
        piece = HELLO[at : min(at + kind.step, kind.bytes)]
        for each in sockets:
            try:
                each.sendall(piece)
            except OSError:
                if not kind.is_over:
                    raise


def wait_closed(sockets, within_s):
    """Seconds until the gateway has closed the last of them."""
    began, left = time.monotonic(), {each.fileno(): each for each in sockets}
    poll = select.poll()
    for number in left:
        poll.register(number, select.POLLIN)
    while left:
        if time.monotonic() - began > within_s:
            raise Failure(f"{len(left)} connections are still there after {within_s} s")
        for number, _ in poll.poll(500):
            try:
                # An alert may come before the end.
                ended = not left[number].recv(4096)
            except ConnectionError:
                ended = True
            if ended:
                poll.unregister(number)
                left.pop(number).close()
    return time.monotonic() - began


def measure(options, kind):
    with Gateway(options) as gateway:
        address, count = gateway.address(), options.connections
        before, began = resident(gateway.process.pid), time.monotonic()
        sockets = connect(address, count)
        send(sockets, kind)
        held = None
        if not kind.is_over:
            read_all = lambda stats: stats["totals"]["bytes_in"] == count * kind.bytes  # noqa: E731
            stats = gateway.stats_when("all is read", read_all)
            if stats["totals"]["connections"] != count:
                raise Failure("some were closed before all had sent: take a longer --timeout")
            held = (resident(gateway.process.pid) - before) / count
        wait_closed(sockets, options.timeout + 30)
        took = time.monotonic() - began
        stats = gateway.stats_when("all are gone", lambda stats: stats["totals"]["connections"] == 0)
        after = (resident(gateway.process.pid) - before) / count
    causes = {**stats["refusals"], **{f"tls: {name}": n for name, n in stats["tls_failures"].items()}}
    causes = {name: n for name, n in causes.items() if n}
    due = {"tls": count, "tls: handshake_too_long": count} if kind.is_over else {"handshake_timeout": count}
    wrong = []
    if causes != due:
        wrong.append(f"counted {causes} instead of {due}")
    if held is not None and held > EACH_MAX:
        wrong.append(f"{held:.0f} B each, over {EACH_MAX}")
    if kind.is_over != (took < options.timeout):
        wrong.append(f"closed after {took:.1f} s, with a deadline of {options.timeout} s")
    held = "" if held is None else f"{held:,.0f}"
    counted = ", ".join(f"{name} {n}" for name, n in causes.items())
    print(f"| {kind.what} | {held} | {after:,.0f} | {took:.1f} | {counted} |", flush=True)
    return [f"{kind.what}: {each}" for each in wrong]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=Path, required=True)
    parser.add_argument("--timeout", type=int, default=15)
    parser.add_argument("connections", type=int)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wrong = []
    with tempfile.TemporaryDirectory() as work:
        options.work = Path(work)
        print(f"{options.connections:,} connections of each kind, a handshake deadline of {options.timeout} s")
        print("| sent | B resident each | when all are closed | closed after, s | counted |\n|---|---|---|---|---|")
        try:
            for kind in KINDS:
                wrong += measure(options, kind)
        except (Failure, OSError) as failure:
            say((options.work / "gateway.log").read_text()[-2000:])
            sys.exit(f"half_hello.py: {failure}")
    sys.exit("\n".join(wrong) if wrong else 0)


if __name__ == "__main__":
    main()
