"""The tables of what compare.py beside it has kept."""

import statistics

# Cores that other programs may have kept busy before a table says so in bold.
DISTURBING_CORES = 0.15


def count_of(sample):
    return next(sample[name] for name in ("messages", "upgrades", "deliveries") if name in sample)


def cost_us(sample):
    """Microseconds of the server's CPU for one of what is counted, or seconds for a million."""
    count = count_of(sample)
    return sample["server_cpu_seconds"] / count * 1e6 if count else float("nan")


def per_second(sample):
    return count_of(sample) / sample["seconds"]


def busy_share(row):
    """The median share of the cores the server is bound to that it used."""
    cores = len(row["commands"]["cores"].split(","))
    shares = [s["server_cpu_seconds"] / s["seconds"] / cores for s in row["samples"]]
    return statistics.median(shares)


def render(group, cases):
    table = idle_table(cases) if group == "idle" else cost_table(group, cases)
    return "\n".join([table, "", provenance(group, cases)])


def cost_table(group, cases):
    unit = cases[0]["unit"]
    row_of = "dialect, path" if group == "dialects" else "server"
    head = [*cases[0]["columns"], row_of, f"CPU µs/{unit}", "least", f"{plural(unit)}/s", "busy"]
    head += ["× by minima", "× by medians", "of"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for case in cases:
        columns = [thousands(value) for value in case["columns"].values()]
        by_name = {row["name"]: row for row in case["rows"]}
        for row in case["rows"]:
            cells = cost_cells(row, by_name) if row["samples"] else ["–"] * 7
            lines.append("| " + " | ".join([*columns, row["name"] + mark(row), *cells]) + " |")
    return "\n".join(lines)


def cost_cells(row, by_name):
    own = [cost_us(sample) for sample in row["samples"]]
    rate = statistics.median(per_second(sample) for sample in row["samples"])
    cells = [f"{statistics.median(own):.2f}", f"{min(own):.2f}", f"{rate:,.0f}"]
    cells.append(f"{busy_share(row) * 100:.0f} %")
    if row["baseline"] == row["name"]:
        return cells + ["1", "1", "itself"]
    samples = row.get("baseline_samples") or by_name.get(row["baseline"], {}).get("samples")
    if not samples:
        return cells + ["–", "–", row["baseline"]]
    base = [cost_us(sample) for sample in samples]
    medians = statistics.median(own) / statistics.median(base)
    return cells + [f"{min(own) / min(base):.2f}", f"{medians:.2f}", row["baseline"]]


def mark(row):
    """What stands behind the name of a row that was not measured as often as it should have been."""
    return f" (**failed after {len(row['samples'])}**)" if row["failure"] else ""


def idle_table(cases):
    lines = ["| server | connections | resident bytes each |", "|---|---|---|"]
    for case in cases:
        connections = case["columns"]["connections"]
        for row in case["rows"]:
            grown = [sample["after_kib"] - sample["before_kib"] for sample in row["samples"]]
            each = f"{statistics.median(grown) * 1024 / connections:,.0f}" if grown else "–"
            lines.append(f"| {row['name']}{mark(row)} | {connections:,} | {each} |")
    return "\n".join(lines)


def provenance(group, cases):
    """When, where and how often the rows were measured: one line, or one for each way."""
    ways = {}
    for case in cases:
        for row in case["rows"]:
            ways.setdefault(way_of(group, row), []).append((case, row))
    if len(ways) == 1:
        [(way, found)] = ways.items()
        return f"`scripts/compare.sh --only {group}`: {way}{elsewhere(found)}."
    lines = [f"`scripts/compare.sh --only {group}`, in parts:", ""]
    for way, found in ways.items():
        lines.append(f"- {which_of(found)}: {way}{elsewhere(found)}")
    return "\n".join(lines)


def way_of(group, row):
    of, options = row["machine"], row["options"]
    dirty = " with changes" if of["dirty"] else ""
    rounds = "1 round" if options["rounds"] == 1 else f"{options['rounds']} rounds"
    times = f"{rounds} of {options['seconds']:g} s" if group != "idle" else "medians"
    return (
        f"{times}, {of['date']}, commit {of['commit']}{dirty}, "
        f"{of['cores']} × {of['cpu']}, Linux {of['kernel']}"
    )


def which_of(found):
    """Names the rows: by their case, where all of it was measured the same way."""
    cases = {}
    for case, row in found:
        cases.setdefault(id(case), (case, []))[1].append(row["name"])
    parts = []
    for case, names in cases.values():
        part = ", ".join(f"{thousands(value)} {name}" for name, value in case["columns"].items())
        if len(names) < len(case["rows"]):
            part = f"{part} ({', '.join(names)})" if part else ", ".join(names)
        parts.append(part)
    return "; ".join(parts)


def elsewhere(found):
    samples = [sample for _, row in found for sample in row["samples"]]
    cores = [sample["elsewhere_cores"] for sample in samples if "elsewhere_cores" in sample]
    if not cores:
        return ""
    median = statistics.median(cores)
    text = f"{median:.2f} cores busy with other things"
    return f"; **{text}**" if median > DISTURBING_CORES else f"; {text}"


def plural(unit):
    return unit[:-1] + "ies" if unit.endswith("y") else unit + "s"


def thousands(value):
    return f"{value:,}" if isinstance(value, int) else str(value)
