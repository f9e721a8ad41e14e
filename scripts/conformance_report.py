"""The Autobahn|Testsuite's input and output: writes its specification, judges its index.

    conformance_report.py spec URL CASES DIR      > spec.json    to test the server at URL
    conformance_report.py listen URL CASES DIR    > spec.json    to be at URL and test its clients
    conformance_report.py check INDEX EXPECTED LEAST
"""

import json
import sys
from collections import Counter

# Cases of behaviour that the RFC leaves open; the suite reports what it saw and never says OK: data after a
# Close (7.1.6) and the close codes 5000 and 65535 (7.13.1, 7.13.2).
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}


def spec(url, cases, out_dir):
    """The suite's specification for one server."""
    return {
        "outdir": out_dir,
        # A violation by the server is answered with a Close, so that its answer to that is judged too.
        "options": {"failByDrop": False},
        "servers": [{"agent": "server", "url": url}],
        "cases": cases.split(","),
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }


def listen(url, cases, out_dir):
    """Its specification as a server, for whatever clients come."""
    whole = spec(url, cases, out_dir)
    del whole["servers"]
    return dict(whole, url=url)


def order(case):
    return [int(part) for part in case.split(".")]


def verdict(case, result):
    """'OK', 'INFORMATIONAL' where that is allowed, or what is wrong."""
    behaviors = (result["behavior"], result["behaviorClose"])
    if behaviors == ("OK", "OK"):
        return "OK"
    if case in INFORMATIONAL and set(behaviors) <= {"OK", "INFORMATIONAL"}:
        return "INFORMATIONAL"
    return "%s, close %s (code %s)" % (*behaviors, result["remoteCloseCode"])


def check(results, expected, least):
    """Prints the table by group; returns whether all is well."""
    problems = {case: "did not run" for case in expected if case not in results}
    groups = {}
    for case, result in results.items():
        said = verdict(case, result)
        groups.setdefault(order(case)[0], Counter())[
            said if said in ("OK", "INFORMATIONAL") else "not OK"
        ] += 1
        if said not in ("OK", "INFORMATIONAL"):
            problems[case] = said
    print("%5s %6s %14s %7s" % ("group", "OK", "INFORMATIONAL", "not OK"))
    for group in sorted(groups):
        row = groups[group]
        print("%5d %6d %14d %7d" % (group, row["OK"], row["INFORMATIONAL"], row["not OK"]))
    for case in sorted(problems, key=order):
        print("case %s: %s" % (case, problems[case]))
    if len(results) < least:
        print("only %d cases ran; there should be at least %d" % (len(results), least))
        return False
    passed = sum(row["OK"] + row["INFORMATIONAL"] for row in groups.values())
    print("conformance: %d passed, %d failed" % (passed, len(problems)))
    return not problems


def main(args):
    if len(args) == 4 and args[0] in ("spec", "listen"):
        json.dump((spec if args[0] == "spec" else listen)(*args[1:]), sys.stdout, indent=1)
        return 0
    if len(args) == 4 and args[0] == "check":
        with open(args[1]) as index, open(args[2]) as expected:
            # By agent, of which there is one; none if no connection came about.
            results = next(iter(json.load(index).values()), {})
            return 0 if check(results, expected.read().split(), int(args[3])) else 1
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
