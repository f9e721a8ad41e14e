"""Runs the gateway, floors and peers alternately, and makes tables of what they cost.

Called by compare.sh beside it; docs/PERFORMANCE.md says what is measured and how.
"""

import argparse
import re
import sys
import time
from collections import namedtuple
from contextlib import ExitStack
from pathlib import Path

# Nothing is left beside the scripts.
sys.dont_write_bytecode = True
import compare_processes as processes  # noqa: E402
from compare_kept import Kept, kept_cases  # noqa: E402
from compare_processes import Failure, Holder, Server, ServerPlan, generate, say  # noqa: E402
from compare_tables import cost_us, per_second, render  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/PERFORMANCE.md"

# One row: what drives which server, and the row that it is compared with.
Row = namedtuple("Row", "name server generator baseline")
# Rows that alternate, all servers alive at once. `columns` stand before each row of the table.
Case = namedtuple("Case", "columns servers rows unit holder", defaults=(None,))

# Clients are never pinged: the generators do not answer, and no peer pings.
TIDEGATE = ["tidegate", "--ping-interval", "off"]
INLINE = TIDEGATE + ["--workers", "0", "--loops", "1"]
POOL = TIDEGATE + ["--workers", "1", "--loops", "1"]
PRIVATE = ["--fd-table", "private"]

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


ECHO_SIZES = [20, 1024, 16384]


def echo_connections(options):
    return [10, 50] if options.quick else [100, 5000]


def echo_cases(options):
    floor = ("raw TCP", ServerPlan(["raw-echo"]))
    for connections in echo_connections(options):
        for size in ECHO_SIZES:
            if connections not in (options.connections or [connections]):
                continue
            if size not in (options.sizes or [size]):
                continue
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
        servers = {}
        if loops > 1:
            gateway += PRIVATE + ["--max-connections", "53000"]
            bare += ["--private-tables"]
        else:
            # The bare writer is one thread, and so its table is its own anyway.
            servers["tidegate, private table"] = ServerPlan(gateway + PRIVATE)
        servers = {"bare fan-out": ServerPlan(bare), "tidegate": ServerPlan(gateway), **servers}
        drive = ["fanout-gen", "--members", str(members)]
        drives = [(n, drive + (["--protocol", "bare"] if n == "bare fan-out" else [])) for n in servers]
        rows = []
        for in_flight in [1, 16]:
            for name, argv in drives:
                row = f"{name}, {in_flight} in flight"
                baseline = "bare fan-out, 1 in flight" if in_flight == 1 else f"{name}, 1 in flight"
                argv = argv + ["--in-flight", str(in_flight)]
                rows.append(Row(row, name, argv, baseline))
        columns = {"members": members, "loops": loops}
        yield Case(columns, servers, rows, "delivery")


def frame_bytes(options):
    """How long the gateway's frame of a delivery is, so that the bare writer's is as long."""
    if options.planning:
        return 0
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


# Where the gateway speaks each dialect; the first is what the others are compared with.
DIALECTS = {
    "raw": "/echo",
    "hub": "/hub",
    "kim": "/kim",
    "json": "/ws",
    "event": "/event",
    "action": "/action",
    "mef": "/mef",
}


def dialect_cases(options):
    """An echo as a request in each dialect, all of them to one process."""
    baseline = f"raw, {DIALECTS['raw']}"
    for pipeline in [1, 16]:
        drive = ["loadtest", "echo", "--threads", "1", "--connections", "100", "--size", "20"]
        drive += ["--pipeline", str(pipeline)]
        rows = [
            Row(f"{name}, {path}", "tidegate", drive + ["--dialect", name, "--url", path], baseline)
            for name, path in DIALECTS.items()
        ]
        yield Case({"in flight": pipeline}, {"tidegate": ServerPlan(INLINE)}, rows, "message")


def tls_cases(options):
    """An echo over TLS, beside the same without."""
    made = processes.certificate(options)
    keys = ["--tls-cert", str(made.chain), "--tls-key", str(made.key)]
    peer = ["tokio-tungstenite-echo", "--read-buffer", "4096"]
    plain, over_tls = "tidegate, plain", "tidegate, TLS"
    servers = {
        plain: ServerPlan(INLINE),
        over_tls: ServerPlan(INLINE + ["--tls-listen", "127.0.0.1:0"] + keys),
        "tokio-tungstenite over tokio-rustls": ServerPlan(peer + keys),
    }
    for connections in [10] if options.quick else [100, 1000]:
        for size in [20, 1024]:
            drive = drive_echo(connections, size)
            rows = [Row(name, name, drive, over_tls) for name in servers]
            rows[:2] = [Row(plain, plain, drive, plain), Row(over_tls, over_tls, drive, plain)]
            yield Case({"connections": connections, "bytes": size}, servers, rows, "message")


def deflate_cases(options):
    """An echo of compressed words, beside the same as they are."""
    plain, shared = "tidegate, not compressed", "tidegate, compressed"
    others, others_deflate = "Node's ws, not compressed", "Node's ws, compressed"
    servers = {
        plain: ServerPlan(INLINE + ["--deflate", "off"]),
        shared: ServerPlan(INLINE + ["--deflate", "shared"]),
        others: ServerPlan(["ws-echo.mjs"]),
        others_deflate: ServerPlan(["ws-echo.mjs", "--deflate"]),
    }
    for size in [1024, 16384]:
        drive = drive_echo(10 if options.quick else 100, size) + ["--words"]
        baselines = {plain: plain, shared: plain, others: plain, others_deflate: others}
        rows = [
            Row(name, name, drive + (["--deflate"] if "not" not in name else []), baseline)
            for name, baseline in baselines.items()
        ]
        yield Case({"bytes": size}, servers, rows, "message")


def drive_echo(connections, size):
    drive = ["loadtest", "echo", "--threads", "1", "--connections", str(connections)]
    return drive + ["--size", str(size), "--url", "/echo"]


CASES = {
    "echo": echo_cases,
    "pool": pool_cases,
    "pipeline": pipeline_cases,
    "upgrade": upgrade_cases,
    "fanout": fanout_cases,
    "open": open_cases,
    "dialects": dialect_cases,
    "tls": tls_cases,
    "deflate": deflate_cases,
}


# ---- measuring


def run_case(case, options):
    """The rounds of a case: the samples of each row by name, and what ended them before the last."""
    wanted = [row for row in case.rows if is_wanted(row, case, options)]
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
                    sample = generate(timed(row.generator, options), servers[row.server], options)
                    samples[row.name].append({**sample, "at": time.time()})
                    cost, rate = cost_us(sample), per_second(sample)
                    place = f"  round {number + 1}/{options.rounds}"
                    say(f"{place}  {row.name:32} {cost:9.3f} µs/{case.unit} {rate:12,.0f}/s")
        except Exception as error:
            failure = explain(error)
    return samples, failure


def timed(generator, options):
    """A generator that measures as long as it shall. `loadtest` has no warm-up."""
    if generator[0] == "loadtest":
        return [*generator, "--duration", f"{options.seconds * 1000:.0f}ms"]
    return [*generator, "--seconds", str(options.seconds), "--warmup", str(options.warmup)]


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
    """Runs a group, and keeps its samples in a file as they come; whether anything failed."""
    result = Kept(group, options)
    failed = False
    try:
        for case in CASES[group](options):
            columns = ", ".join(f"{value} {name}" for name, value in case.columns.items())
            say(f"{group}: {columns}")
            if not any(is_wanted(row, case, options) for row in case.rows):
                continue
            samples, failure = run_case(case, options)
            rows = []
            for row in (row for row in case.rows if row.name in samples):
                plan = case.servers[row.server]
                commands = {"server": plan.argv, "cores": plan.cores, "generator": row.generator}
                described = {"name": row.name, "baseline": row.baseline, "commands": commands}
                rows.append({**described, "samples": samples[row.name]})
            order = [row.name for row in case.rows]
            result.add(case.columns, case.unit, rows, order, failure)
            failed |= failure is not None
    except Exception as error:
        # A case could not even be prepared. What was measured before it stays.
        result.fail(explain(error))
        failed = True
    return result.measured, failed


def measure_idle(options):
    """Memory of idle connections: a fresh server each time, as what was used once stays resident."""
    result = Kept("idle", options)
    failed = False
    for name, plan, connections, method in idle_rows(options):
        if options.servers and not any(part in name for part in options.servers):
            continue
        say(f"idle: {name}, {connections:,} connections")
        samples, failure = idle_samples(plan, connections, method, options)
        row = {"name": name, "baseline": name, "commands": {"server": plan.argv}, "samples": samples}
        order = [row[0] for row in idle_rows(options)]
        result.add({"connections": connections}, None, [row], order, failure)
        failed |= failure is not None
    return result.measured, failed


def idle_rows(options):
    connections = 500 if options.quick else 15_000
    held = 5_000 if options.quick else 200_000
    for name, plan in peers().items():
        if name != "tidegate, private table":
            yield name, plan, connections, echo_idle
    loops = max(1, -(-held // 18_000))
    plan = TIDEGATE + ["--workers", "0", "--loops", str(loops), "--max-connections", str(held + 1000)]
    plan += ["--fd-table", "private", "--stats-out", str(options.results / "held.json")]
    yield "tidegate", ServerPlan(plan), held, hold_idle


def idle_samples(plan, connections, method, options):
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
    except Exception as error:
        return samples, explain(error)
    return samples, None


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


def missing_rows(group, options):
    """Rows of the whole group that are neither kept nor about to be measured."""
    plan = argparse.Namespace(**{**vars(options), "planning": True})
    whole = argparse.Namespace(**{**vars(plan), "servers": [], "sizes": [], "connections": []})
    kept = {
        (str(case["columns"]), row["name"])
        for case in kept_cases(group, options)
        for row in case["rows"]
        if row["samples"]
    }
    coming = set() if options.render else planned(group, plan)
    return planned(group, whole) - coming - kept


def planned(group, options):
    if group == "idle":
        rows = ((str({"connections": count}), name) for name, _, count, _ in idle_rows(options))
        return {row for row in rows if not options.servers or any(p in row[1] for p in options.servers)}
    return {
        (str(case.columns), row.name)
        for case in CASES[group](options)
        for row in case.rows
        if is_wanted(row, case, options)
    }


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
    for name in ["sizes", "connections"]:
        parser.add_argument(
            f"--{name}", type=numbers, default=[], help="by commas: only these cases of echo"
        )
    parser.add_argument("--quick", action="store_true", help="seconds in all: shows that it works, no more")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    parser.add_argument("--render", action="store_true", help="measure nothing: tables of what was kept")
    parser.add_argument("--bin", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--no-build", action="store_true", help="take the programs as they are")
    options = parser.parse_args()
    options.only = options.only.split(",")
    options.servers = options.servers.split(",") if options.servers else []
    options.planning = False
    unknown = set(options.only) - set(groups)
    if unknown:
        parser.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join(groups)}")
    for name, known in [("sizes", ECHO_SIZES), ("connections", echo_connections(options))]:
        if set(getattr(options, name)) - set(known):
            parser.error(f"--{name} are of {','.join(map(str, known))}")
    if options.quick:
        # Apart from results that mean something.
        options.results /= "quick"
        options.rounds, options.seconds, options.warmup = 1, 0.3, 0.1
        if options.write:
            parser.error("--quick measures nothing worth writing down")
    for group in options.only if options.write else []:
        missing = sorted(missing_rows(group, options))
        if missing:
            shown_missing = "; ".join(f"{columns} {name}" for columns, name in missing[:3])
            parser.error(f"--write would leave {len(missing)} rows out of {group}: {shown_missing}")
    return options


def numbers(text):
    return [int(number) for number in text.split(",")]


def main():
    options = parse()
    options.results.mkdir(parents=True, exist_ok=True)
    any_measured = any_failed = False
    for group in options.only:
        if not options.render:
            run = measure_idle if group == "idle" else lambda options: measure(group, options)
            measured, failed = run(options)
            any_measured |= measured
            any_failed |= failed
            if not measured:
                say(f"{group}: nothing was measured")
                continue
        cases = kept_cases(group, options)
        if not cases:
            say(f"{group}: nothing was kept in {options.results}")
            continue
        table = render(group, cases)
        print(f"\n## {group}\n\n{table}\n", flush=True)
        if options.write and (options.render or not failed):
            write_page(group, table)
    sys.exit(1 if any_failed or not (any_measured or options.render) else 0)


if __name__ == "__main__":
    processes.take_signals()
    try:
        main()
    except Failure as failure:
        sys.exit(f"error: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        processes.end_started()
