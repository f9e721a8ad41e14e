"""Measures what an idle TLS connection takes of the gateway's resident memory.

Called by memory.sh beside it. One gateway, at as many loops as the connections take here, against what the same gateway takes
after a few connections have come and gone, so that what it makes once, at the first handshakes, is not in the figure.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# Nothing is left beside the scripts.
sys.dont_write_bytecode = True
import memory_rooms  # noqa: E402
from memory_rooms import Failure, end, say, wait_for  # noqa: E402

# Connections that come and go before.
WARM_UP = 200
# Resident bytes that a connection may take.
EACH_MAX = 4096


class Gateway(memory_rooms.Gateway):
    """A gateway as anybody runs it, with a certificate of its own."""

    def __init__(self, options):
        self.stats_file = options.work / "stats.json"
        self.log = open(options.work / "gateway.log", "w+")
        certificates = options.work / "certs"
        subprocess.run(
            [options.bin / "tidegate", "dev-cert", "--out", certificates], check=True, stdout=subprocess.DEVNULL
        )
        self.authority = certificates / "ca.pem"
        argv = [options.bin / "tidegate", "--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0"]
        argv += ["--tls-cert", certificates / "cert.pem", "--tls-key", certificates / "key.pem"]
        argv += ["--max-connections", str(options.connections + 1000)]
        argv += ["--ping-interval", "off", "--idle-timeout", "0", "--stats-out", self.stats_file]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log
        )

    def address(self):
        def listening():
            self.log.seek(0)
            return re.search(r"listening on (127\.0\.0\.1:\d+) over TLS", self.log.read())

        return wait_for("the gateway listens", listening, [self.process])[1]


def loadtest(options, gateway, *flags):
    argv = [options.bin / "loadtest", "connect", "--url", f"wss://{gateway.address()}/echo"]
    argv += ["--tls-ca", gateway.authority, "--threads", options.threads, *flags]
    with open(options.work / "loadtest.log", "w") as log:
        return subprocess.Popen(
            [str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def measure(options):
    with Gateway(options) as gateway:
        client = loadtest(options, gateway, "-c", WARM_UP, "--hold", "0")
        if client.wait(memory_rooms.PATIENCE):
            raise Failure("loadtest failed before anything was measured")
        wait_for("all are gone", lambda: gateway.stats()["totals"]["open"] == 0, [gateway.process])
        before, counted = gateway.rest(), gateway.stats()["buffers"]["tls_bytes"]
        client = loadtest(options, gateway, "-c", options.connections, "--hold", "10m")
        seen = -1

        def all_open():
            nonlocal seen
            opened = gateway.stats()["totals"]["open"]
            if opened * 10 // options.connections > seen:
                seen = opened * 10 // options.connections
                say(f"  {opened:,} of {options.connections:,} are open")
            return opened == options.connections

        try:
            wait_for("all are open", all_open, [gateway.process, client])
            after = gateway.rest()
            stats = gateway.stats()
        finally:
            end(client)
    counted = stats["buffers"]["tls_bytes"] - counted
    return stats["config"], before, after, counted


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("connections", type=int, nargs="?", default=50_000)
    options = parser.parse_args()
    if options.quick:
        options.connections //= 10
    # With a table of descriptors each.
    options.threads = -(-options.connections // 15_000)
    with tempfile.TemporaryDirectory() as work:
        options.work = Path(work)
        try:
            config, before, after, counted = measure(options)
        except Failure as failure:
            for name in ("gateway.log", "loadtest.log"):
                if (options.work / name).exists():
                    say((options.work / name).read_text()[-2000:])
            sys.exit(f"memory_tls.py: {failure}")
    count = options.connections
    each = (after - before) / count
    print("| idle TLS connections | loops | tables | resident without | with | B a connection | of these counted |")
    print("|---|---|---|---|---|---|---|")
    cells = [f"{count:,}", config["loops"], config["fd_table"], f"{before / 1e6:.1f} MB", f"{after / 1e6:.1f} MB"]
    print("| " + " | ".join(map(str, [*cells, f"{each:.0f}", f"{counted / count:.0f}"])) + " |")
    sys.exit(f"{each:.0f} B, over {EACH_MAX}" if each > EACH_MAX else 0)


if __name__ == "__main__":
    main()
