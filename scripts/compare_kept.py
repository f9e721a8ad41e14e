"""What compare.py beside it keeps of its measurements: a file for each group."""

import json
import os
import platform
import re
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Of the files of results: others are not read.
FORMAT = 2


class Kept:
    """What is kept of a group. A part of it that is measured alone takes the place of what was kept
    of that part before, and the rest stays; a group that is measured whole begins anew."""

    def __init__(self, group, options):
        self.path = options.results / f"{group}.json"
        self.run = {"machine": machine(), "options": shown(options)}
        self.by_row = bool(options.servers)
        partial = self.by_row or group == "echo" and (options.sizes or options.connections)
        self.cases = kept_cases(group, options) if partial else []
        self.failure, self.measured = None, False

    def add(self, columns, unit, rows, order, failure):
        """A case that was measured; `order` is that of all its rows."""
        rows = [{**row, **self.run, "failure": failure} for row in rows]
        self.measured |= any(row["samples"] for row in rows)
        found = next((case for case in self.cases if case["columns"] == columns), None)
        if found is None:
            found = {"columns": columns, "unit": unit, "rows": []}
            self.cases.append(found)
        elif self.by_row or unit is None:
            rows = with_others(rows, found["rows"])
        found["rows"] = sorted(rows, key=lambda row: order.index(row["name"]))
        self.write()

    def fail(self, text):
        self.failure = text
        self.write()

    def write(self):
        result = {"format": FORMAT, "cases": self.cases, "failure": self.failure}
        self.path.write_text(json.dumps(result, indent=1) + "\n")


def with_others(rows, others):
    """New rows and the others kept before, which stay compared with what alternated with them."""
    new = {row["name"] for row in rows}
    kept = {row["name"]: row for row in others}
    stay = [row for row in others if row["name"] not in new]
    for row in stay:
        if row["baseline"] in new and row["baseline"] in kept:
            row.setdefault("baseline_samples", kept[row["baseline"]]["samples"])
    return rows + stay


def kept_cases(group, options):
    path = options.results / f"{group}.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    return result["cases"] if result.get("format") == FORMAT else []


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
        "date": time.strftime("%Y-%m-%d"),
    }


def shown(options):
    return {"rounds": options.rounds, "seconds": options.seconds, "warmup": options.warmup}
