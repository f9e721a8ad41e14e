"""Runs the gateway, floors and peers alternately, and makes tables of what they cost.

Called by compare.sh beside it; docs/PERFORMANCE.md says what is measured and how.
"""

import argparse
import json
import os
import platform
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/PERFORMANCE.md"

# One server, on core 0 unless said otherwise; the generator is always on core 1.
ServerPlan = namedtuple("ServerPlan", "argv cores", defaults=("0",))
# One row: what drives which server, and the row that it is compared with.
Row = namedtuple("Row", "name server generator baseline")
# Rows that alternate, all servers alive at once. `columns` stand before each row of the table.
Case = namedtuple("Case", "columns servers rows unit holder", defaults=(None,))

# Clients are never pinged: the generators do not answer, and no peer pings.
TIDEGATE = ["tidegate", "--ping-interval", "off"]
INLINE = TIDEGATE + ["--workers", "0", "--loops", "1"]
POOL = TIDEGATE + ["--workers", "1", "--loops", "1"]
PRIVATE = ["--fd-table", "private"]


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


class Server:
    """A running server; `stop` ends it."""

    def __init__(self, plan, options):
        self.log = tempfile.TemporaryFile("w+")
        program = [str(options.bin / plan.argv[0]), "--listen", "127.0.0.1:0", *plan.argv[1:]]
        self.process = start(program, plan.cores, stdout=self.log, stderr=self.log)
        try:
            self.address = self.await_address(plan)
        except BaseException:
            kill(self.process)
            raise

    def await_address(self, plan):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"listening on (127\.0\.0\.1:\d+)", self.output())
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


def generate(argv, server, options):
    """One run of a generator; its line of JSON, and how busy the machine was with other things."""
    argv = [str(options.bin / argv[0]), "--target", server.address, *argv[1:]]
    argv += ["--server-pid", str(server.process.pid)]
    before = Clock(server)
    process = start(argv, "1", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        stdout, stderr = process.communicate()
    finally:
        kill(process)
    after = Clock(server)
    if process.returncode != 0:
        raise Failure(f"{' '.join(argv)}: {stderr.strip()}")
    elsewhere = (after.busy - before.busy) - (after.ours - before.ours)
    return {**json.loads(stdout), "elsewhere_cores": max(0, elsewhere / (after.now - before.now))}


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


# ---- what is measured


def echo(connections, size=20, raw=False, pipeline=1, rate=None):
    argv = ["echo-gen", "--connections", str(connections), "--size", str(size)]
    argv += ["--protocol", "raw"] if raw else []
    argv += ["--pipeline", str(pipeline)] if pipeline > 1 else []
    return argv + (["--rate", str(rate)] if rate else [])


def peers():
    """What is compared with the floor in every echo on one core."""
    return {
        "tidegate": ServerPlan(INLINE),
        "tidegate, private table": ServerPlan(INLINE + PRIVATE),
        "tokio-tungstenite": ServerPlan(["tokio-tungstenite-echo"]),
        "tokio-tungstenite, 4 KiB buffers": ServerPlan(
            ["tokio-tungstenite-echo", "--read-buffer", "4096"]
        ),
        "fastwebsockets": ServerPlan(["fastwebsockets-echo"]),
    }


def against_floor(columns, floor, servers, generator, unit="message"):
    """A case whose rows are all compared with `floor`, driven by `generator(raw)`."""
    name, plan = floor
    rows = [Row(name, name, generator(True), name)]
    rows += [Row(other, other, generator(False), name) for other in servers]
    return Case(columns, {name: plan, **servers}, rows, unit)


def echo_cases(options):
    floor = ("raw TCP", ServerPlan(["raw-echo"]))
    for connections in [10, 50] if options.quick else [100, 5000]:
        for size in [20, 1024, 16384]:
            columns = {"connections": connections, "bytes": size}
            yield against_floor(
                columns, floor, peers(), lambda raw: echo(connections, size, raw=raw)
            )


def pipeline_cases(options):
    corked = ["tokio-tungstenite-echo", "--read-buffer", "4096", "--flush", "drained"]
    corked = {"tokio-tungstenite, 4 KiB, corked": ServerPlan(corked)}
    floor = ("raw TCP", ServerPlan(["raw-echo"]))
    columns = {"cores of the server": 1}
    yield against_floor(
        columns, floor, {**peers(), **corked}, lambda raw: echo(100, raw=raw, pipeline=16)
    )
    floor = ("raw TCP, 2 loops", ServerPlan(["raw-echo", "--loops", "2"], "0,1"))
    pool = {"tidegate, 1 loop, 1 worker": ServerPlan(POOL, "0,1")}
    columns = {"cores of the server": 2}
    yield against_floor(columns, floor, pool, lambda raw: echo(100, raw=raw, pipeline=16))


def pool_cases(options):
    floor = ("raw TCP, 2 loops", ServerPlan(["raw-echo", "--loops", "2"], "0,1"))
    servers = {
        "tidegate, 1 loop, 1 worker": ServerPlan(POOL, "0,1"),
        "tidegate, 2 loops, 2 workers": ServerPlan(
            TIDEGATE + ["--loops", "2", "--workers", "2"], "0,1"
        ),
    }
    for connections in [10] if options.quick else [100, 5000]:
        columns = {"connections": connections, "load": "saturated"}
        yield against_floor(columns, floor, servers, lambda raw: echo(connections, raw=raw))
    columns = {"connections": 100, "load": "100 messages/s"}
    yield against_floor(
        columns,
        floor,
        {**servers, "tidegate, inline": ServerPlan(INLINE, "0,1")},
        lambda raw: echo(100, raw=raw, rate=100),
    )


def upgrade_cases(options):
    floor = ("bare accept", ServerPlan(["bare-accept"]))
    yield against_floor({}, floor, peers(), lambda raw: ["upgrade-gen"], "upgrade")


def fanout_cases(options):
    sizes = [(200, 1), (300, 3)] if options.quick else [(5000, 1), (50_000, 3)]
    for members, loops in sizes:
        gateway = TIDEGATE + ["--workers", "0", "--loops", str(loops)]
        bare = ["bare-fanout", "--loops", str(loops), "--frame-bytes", str(frame_bytes(options))]
        if loops > 1:
            gateway += PRIVATE + ["--max-connections", "53000"]
            bare += ["--private-tables"]
        drive = ["fanout-gen", "--members", str(members)]
        both = [("bare fan-out", drive + ["--protocol", "bare"]), ("tidegate", drive)]
        rows = []
        for in_flight in [1, 16]:
            for name, argv in both:
                row = f"{name}, {in_flight} in flight"
                baseline = "bare fan-out, 1 in flight" if in_flight == 1 else f"{name}, 1 in flight"
                argv = argv + ["--in-flight", str(in_flight)]
                rows.append(Row(row, name, argv, baseline))
        servers = {"bare fan-out": ServerPlan(bare), "tidegate": ServerPlan(gateway)}
        columns = {"members": members, "loops": loops}
        yield Case(columns, servers, rows, "delivery")


def frame_bytes(options):
    """How long the gateway's frame of a delivery is, so that the bare writer's is as long."""
    server = Server(ServerPlan(INLINE), options)
    try:
        argv = ["fanout-gen", "--members", "1", "--warmup", "0", "--seconds", "0.05"]
        return generate(argv, server, options)["frame_bytes"]
    finally:
        server.stop()


def open_cases(options):
    held, most = (2_000, 4_000) if options.quick else (199_000, 205_000)
    loops = ["--workers", "0", "--loops", "11", "--max-connections", str(most)]
    stats = ["--stats-out", str(options.results / "held.json")]
    few, many = "tidegate, 1,000 open", f"tidegate, {held + 1000:,} open"
    servers = {
        few: ServerPlan(TIDEGATE + PRIVATE + loops),
        many: ServerPlan(TIDEGATE + PRIVATE + loops + stats),
    }
    rows = [Row(few, few, echo(1000), few), Row(many, many, echo(1000), few)]
    yield Case({"active": 1000}, servers, rows, "message", (many, held))


CASES = {
    "echo": echo_cases,
    "pool": pool_cases,
    "pipeline": pipeline_cases,
    "upgrade": upgrade_cases,
    "fanout": fanout_cases,
    "open": open_cases,
}


# ---- measuring


def run_case(case, options):
    """The rounds of a case: the samples of each row by name, and what ended them before the last."""
    wanted = [row for row in case.rows if is_wanted(row, case, options)]
    times = ["--seconds", str(options.seconds), "--warmup", str(options.warmup)]
    samples = {row.name: [] for row in wanted}
    servers = {}
    failure = None
    with ExitStack() as running:
        try:
            for row in wanted:
                if row.server not in servers:
                    servers[row.server] = Server(case.servers[row.server], options)
                    running.callback(servers[row.server].stop)
            if case.holder and case.holder[0] in servers:
                say(f"  opening {case.holder[1]:,} idle connections")
                holder = Holder(servers[case.holder[0]], case.holder[1], options)
                running.callback(holder.stop)
            for number in range(options.rounds):
                for row in wanted:
                    sample = generate(row.generator + times, servers[row.server], options)
                    samples[row.name].append({**sample, "at": time.time()})
                    cost, rate = cost_us(sample), per_second(sample)
                    place = f"  round {number + 1}/{options.rounds}"
                    say(f"{place}  {row.name:32} {cost:9.3f} µs/{case.unit} {rate:12,.0f}/s")
        except Exception as error:
            failure = explain(error)
    return samples, failure


def explain(error):
    text = str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
    say(f"  failed: {text}")
    return text


def is_wanted(row, case, options):
    """Rows of servers that were named, and what those are compared with."""
    if not options.servers:
        return True
    named = [r for r in case.rows if any(part in r.name for part in options.servers)]
    return row in named or any(row.name == r.baseline for r in named)


def measure(group, options):
    """Runs a group, and keeps its samples in a file as they come."""
    result = {"group": group, "machine": machine(), "options": shown(options), "cases": []}
    failed = False
    for case in CASES[group](options):
        columns = ", ".join(f"{value} {name}" for name, value in case.columns.items())
        say(f"{group}: {columns}")
        entry = {"columns": case.columns, "unit": case.unit, "rows": []}
        samples, failure = run_case(case, options)
        if failure:
            entry["failure"], failed = failure, True
        for row in (row for row in case.rows if row.name in samples):
            plan = case.servers[row.server]
            commands = {"server": plan.argv, "cores": plan.cores, "generator": row.generator}
            described = {"name": row.name, "baseline": row.baseline, "commands": commands}
            entry["rows"].append({**described, "samples": samples[row.name]})
        result["cases"].append(entry)
        keep(group, result, options)
    return failed


def measure_idle(options):
    """Memory of idle connections: a fresh server each time, as what was used once stays resident."""
    connections = 500 if options.quick else 15_000
    held = 5_000 if options.quick else 200_000
    servers = peers()
    del servers["tidegate, private table"]
    result = {"group": "idle", "machine": machine(), "options": shown(options), "cases": []}
    failed = False
    for name, plan in servers.items():
        failed |= idle_row(result, name, plan, connections, echo_idle, options)
    loops = max(1, -(-held // 18_000))
    plan = TIDEGATE + ["--workers", "0", "--loops", str(loops), "--max-connections", str(held + 1000)]
    plan += ["--fd-table", "private", "--stats-out", str(options.results / "held.json")]
    failed |= idle_row(result, "tidegate", ServerPlan(plan), held, hold_idle, options)
    return failed


def idle_row(result, name, plan, connections, method, options):
    say(f"idle: {name}, {connections:,} connections")
    if options.servers and not any(part in name for part in options.servers):
        return False
    samples = []
    try:
        for _ in range(min(options.rounds, 3)):
            server = Server(plan, options)
            try:
                before, after = method(server, connections, options)
            finally:
                server.stop()
            samples.append({"before_kib": before, "after_kib": after})
            say(f"  {(after - before) * 1024 / connections:,.0f} bytes each")
    except Failure as failure:
        say(f"  failed: {failure}")
    row = {"name": name, "connections": connections, "command": plan.argv, "samples": samples}
    result["cases"].append(row)
    keep("idle", result, options)
    return not samples


def echo_idle(server, connections, options):
    """Each connection has echoed one message before it is idle."""
    argv = ["echo-gen", "--connections", str(connections), "--seconds", "0", "--settle", "2"]
    line = generate(argv, server, options)
    return line["resident_empty_kib"], line["resident_idle_kib"]


def hold_idle(server, connections, options):
    before = server.resident_kib()
    holder = Holder(server, connections, options)
    try:
        time.sleep(2)
        return before, server.resident_kib()
    finally:
        holder.stop()


def keep(group, result, options):
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"{group}.json"
    path.write_text(json.dumps(result, indent=1, default=str) + "\n")


def machine():
    def out(*argv):
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "commit": out("git", "rev-parse", "--short", "HEAD"),
        "dirty": bool(out("git", "status", "--porcelain", "--untracked-files=no")),
        "kernel": platform.release(),
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def shown(options):
    return {"rounds": options.rounds, "seconds": options.seconds, "warmup": options.warmup}


# ---- tables


def count_of(sample):
    return next(sample[name] for name in ("messages", "upgrades", "deliveries") if name in sample)


def cost_us(sample):
    """Microseconds of the server's CPU for one of what is counted, or seconds for a million."""
    count = count_of(sample)
    return sample["server_cpu_seconds"] / count * 1e6 if count else float("nan")


def per_second(sample):
    return count_of(sample) / sample["seconds"]


def render(group, options):
    path = options.results / f"{group}.json"
    if not path.exists():
        return None
    result = json.loads(path.read_text())
    table = idle_table(result) if group == "idle" else cost_table(result)
    return "\n".join([table, "", provenance(group, result)])


def provenance(group, result):
    of, options = result["machine"], result["options"]
    dirty = " with changes" if of["dirty"] else ""
    load = f"; **load of {of['load']:.1f} from elsewhere when it began**" if of["load"] > 0.5 else ""
    rounds = "1 round" if options["rounds"] == 1 else f"{options['rounds']} rounds"
    times = f"{rounds} of {options['seconds']:g} s" if group != "idle" else "medians"
    return (
        f"`scripts/compare.sh --only {group}`: {times}, {of['date']}, commit {of['commit']}{dirty}, "
        f"{of['cores']} × {of['cpu']}, Linux {of['kernel']}{load}."
    )


def cost_table(result):
    lines = []
    for case in result["cases"]:
        if not lines:
            unit = case["unit"]
            head = [*case["columns"], "server", f"CPU µs/{unit}", "least", f"{plural(unit)}/s"]
            head += ["× by minima", "× by medians", "of"]
            lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        columns = [thousands(value) for value in case["columns"].values()]
        if "failure" in case:
            lines.append("| " + " | ".join([*columns, "failed", *["–"] * 6]) + " |")
        costs = {row["name"]: [cost_us(sample) for sample in row["samples"]] for row in case["rows"]}
        for row in case["rows"]:
            own, base = costs[row["name"]], costs[row["baseline"]]
            rate = statistics.median(per_second(sample) for sample in row["samples"])
            cells = [f"{statistics.median(own):.2f}", f"{min(own):.2f}", f"{rate:,.0f}"]
            if row["baseline"] == row["name"]:
                cells += ["1", "1", "itself"]
            else:
                medians = statistics.median(own) / statistics.median(base)
                cells += [f"{min(own) / min(base):.2f}", f"{medians:.2f}", row["baseline"]]
            lines.append("| " + " | ".join([*columns, row["name"], *cells]) + " |")
    return "\n".join(lines)


def idle_table(result):
    lines = ["| server | connections | resident bytes each |", "|---|---|---|"]
    for row in result["cases"]:
        grown = [sample["after_kib"] - sample["before_kib"] for sample in row["samples"]]
        each = f"{statistics.median(grown) * 1024 / row['connections']:,.0f}" if grown else "failed"
        lines.append(f"| {row['name']} | {row['connections']:,} | {each} |")
    return "\n".join(lines)


def plural(unit):
    return unit[:-1] + "ies" if unit.endswith("y") else unit + "s"


def thousands(value):
    return f"{value:,}" if isinstance(value, int) else str(value)


def write_page(group, text):
    """Puts a table between its markers; the rest of the page is left alone."""
    page = PAGE.read_text()
    begin, end = f"<!-- compare:{group} -->", "<!-- /compare -->"
    pattern = re.compile(re.escape(begin) + r".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(page):
        raise Failure(f"{PAGE.name} has no marker {begin}")
    PAGE.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page, count=1))


# ---- arguments


def parse():
    groups = [*CASES, "idle"]
    parser = argparse.ArgumentParser(prog="scripts/compare.sh", description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="alternations [default: 8]")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement [default: 5]")
    parser.add_argument("--warmup", type=float, default=1, help="seconds before it [default: 1]")
    parser.add_argument("--only", default=",".join(groups), help=f"of {','.join(groups)}")
    parser.add_argument("--servers", help="parts of names, by commas: only these, and their floors")
    parser.add_argument("--quick", action="store_true", help="seconds in all: shows that it works, no more")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    parser.add_argument("--render", action="store_true", help="measure nothing: tables of what was kept")
    parser.add_argument("--bin", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--no-build", action="store_true", help="take the programs as they are")
    options = parser.parse_args()
    options.only = options.only.split(",")
    options.servers = options.servers.split(",") if options.servers else []
    unknown = set(options.only) - set(groups)
    if unknown:
        parser.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join(groups)}")
    if options.quick:
        # Apart from results that mean something.
        options.results /= "quick"
        options.rounds, options.seconds, options.warmup = 1, 0.3, 0.1
        if options.write:
            parser.error("--quick measures nothing worth writing down")
    return options


def main():
    options = parse()
    options.results.mkdir(parents=True, exist_ok=True)
    failed = False
    for group in options.only:
        if not options.render:
            failed |= measure_idle(options) if group == "idle" else measure(group, options)
        table = render(group, options)
        if table is None:
            say(f"{group}: nothing was kept in {options.results}")
            continue
        print(f"\n## {group}\n\n{table}\n", flush=True)
        if options.write:
            write_page(group, table)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    for ending in ENDING:
        signal.signal(ending, end)
    try:
        main()
    except Failure as failure:
        sys.exit(f"error: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        end_started()
