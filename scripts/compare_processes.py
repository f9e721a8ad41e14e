"""The processes of compare.py beside it: servers, those who hold idle connections, generators.

Whatever ends the script ends every process that was started here.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

# One server, on core 0 unless said otherwise; the generator is always on core 1.
ServerPlan = namedtuple("ServerPlan", "argv cores", defaults=("0",))


PEERS = Path(__file__).resolve().parent.parent / "benches/peers"
# What `tidegate dev-cert` writes.
Certificate = namedtuple("Certificate", "authority chain key")


class Failure(Exception):
    """A program did not do what it should; the message says which and why."""


def say(text, end="\n"):
    print(text, end=end, file=sys.stderr, flush=True)


# What ends this script, and with it every process that it started.
ENDING = [signal.SIGTERM, signal.SIGHUP]
STARTED = set()


def end(number, _frame):
    """Unwinds the script; what it started is stopped on the way, whatever comes in meanwhile."""
    for ending in ENDING:
        signal.signal(ending, signal.SIG_IGN)
    raise SystemExit(128 + number)


def take_signals():
    for ending in ENDING:
        signal.signal(ending, end)


def start(argv, cores, **files):
    """Starts a process, which `end_started` knows of before any signal can end the script."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [*ENDING, signal.SIGINT])

    def unblock():
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        argv = ["taskset", "-c", cores, *argv]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, preexec_fn=unblock, **files)
        STARTED.add(process)
    finally:
        unblock()
    return process


def kill(process):
    process.kill()
    process.wait()
    STARTED.discard(process)


def end_started():
    for process in list(STARTED):
        kill(process)


def program_of(name, options):
    """How a server is started that is one of our programs, or a script beside them."""
    return ["node", str(PEERS / name)] if name.endswith(".mjs") else [str(options.bin / name)]


class Server:
    """A running server; `stop` ends it."""

    def __init__(self, plan, options):
        self.log = tempfile.TemporaryFile("w+")
        program = [*program_of(plan.argv[0], options), "--listen", "127.0.0.1:0", *plan.argv[1:]]
        self.tls = "--tls-cert" in plan.argv
        self.process = start(program, plan.cores, stdout=self.log, stderr=self.log)
        try:
            self.address = self.await_address(plan)
        except BaseException:
            kill(self.process)
            raise

    def await_address(self, plan):
        # A server with a certificate is spoken to over TLS, though it may listen without, too.
        over = " over TLS" if self.tls else ""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(rf"listening on (127\.0\.0\.1:\d+){over}\b", self.output())
            if found:
                return found[1]
            time.sleep(0.02)
        raise Failure(f"{plan.argv[0]} did not say where it listens: {self.output()}")

    def output(self):
        self.log.seek(0)
        return self.log.read()

    def resident_kib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    def stop(self):
        try:
            self.process.terminate()
            self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            pass
        finally:
            kill(self.process)


def certificate(options):
    """One for 127.0.0.1, made once."""
    folder = options.results / "certificate"
    made = Certificate(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    if not options.planning and not made.authority.exists():
        argv = [options.bin / "tidegate", "dev-cert", "--out", folder]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return made


class Holder:
    """Idle connections, held by `loadtest connect` until `stop`; made once all are open."""

    def __init__(self, server, connections, options):
        self.log = tempfile.TemporaryFile("w+")
        argv = [str(options.bin / "loadtest"), "connect", "--url", f"ws://{server.address}/echo"]
        argv += ["--connections", str(connections), "--hold", "24h"]
        stats = options.results / "held.json"
        stats.unlink(missing_ok=True)
        self.process = start(argv, "1", stdout=self.log, stderr=self.log)
        try:
            self.await_open(server, connections, stats)
        except BaseException:
            self.stop()
            raise

    def await_open(self, server, connections, stats):
        deadline = time.monotonic() + 300
        opened = 0
        while opened < connections:
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.log.seek(0)
                raise Failure(f"{opened} of {connections} connections are open: {self.log.read()}")
            server.process.send_signal(signal.SIGUSR1)
            time.sleep(0.3)
            if stats.exists():
                opened = json.loads(stats.read_text())["totals"]["open"]

    def stop(self):
        # Its sockets go with it; there is nothing to say goodbye for.
        kill(self.process)


def generate(generator, server, options):
    """One run of a generator; what it counted, and how busy the machine was with other things."""
    finish = finish_loadtest if generator[0] == "loadtest" else finish_peer
    argv, result = finish(generator, server, options)
    argv = [str(options.bin / argv[0]), *argv[1:], "--server-pid", str(server.process.pid)]
    before = Clock(server)
    process = start(argv, "1", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        stdout, stderr = process.communicate()
    finally:
        kill(process)
    after = Clock(server)
    if process.returncode != 0:
        # What went wrong stands in the report of loadtest, which is not on stderr.
        raise Failure(f"{' '.join(argv)}: {(stderr + stdout).strip()}")
    elsewhere = (after.busy - before.busy) - (after.ours - before.ours)
    return {**result(stdout), "elsewhere_cores": max(0, elsewhere / (after.now - before.now))}


def finish_peer(generator, server, _options):
    """The arguments of a generator of benches/peers, and how to read the line of JSON that it says."""
    return [generator[0], "--target", server.address, *generator[1:]], json.loads


def finish_loadtest(generator, server, options):
    """The arguments of a run of loadtest, whose URL is only a path, and how to read its report."""
    report = options.results / "loadtest.json"
    report.unlink(missing_ok=True)
    at = generator.index("--url") + 1
    url = f"{'wss' if server.tls else 'ws'}://{server.address}{generator[at]}"
    argv = [*generator[:at], url, *generator[at + 1 :], "--json", str(report)]
    argv += ["--tls-ca", str(certificate(options).authority)] if server.tls else []
    return argv, lambda _stdout: worked(json.loads(report.read_text()))


def worked(report):
    """What the server did in the work of a `loadtest echo`: neither handshakes nor closing is in it."""
    server, seconds = report["server"], report["hold"]["seconds"]
    if not server["cpu_us_per_message"]:
        # Its watcher did not get to run between the begin and the end of the work.
        raise Failure("loadtest did not see the work begin and end")
    messages = round(report["echo"]["per_second"] * seconds)
    return {"messages": messages, "seconds": seconds, "server_cpu_seconds": server["cpu_seconds_work"]}


class Clock:
    """CPU seconds so far: of all cores, and of the server and the generators together."""

    def __init__(self, server):
        self.now = time.monotonic()
        # user nice system idle iowait irq softirq steal: what is neither idle nor waiting.
        ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        self.busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
        generators = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.ours = generators.ru_utime + generators.ru_stime
        for task in Path(f"/proc/{server.process.pid}/task").glob("*/schedstat"):
            try:
                self.ours += int(task.read_text().split()[0]) / 1e9
            except (FileNotFoundError, ProcessLookupError):
                pass  # A thread that ended between being listed and being read.
