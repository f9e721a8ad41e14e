"""Reads an interval log as PyPI's `hdrhistogram` does and prints per tag, as JSON, what is in it:
`python read_histogram.py FILE`."""

import json
import sys

from hdrh.log import HistogramLogReader
from hdrh.histogram import HdrHistogram

LOWEST_US, HIGHEST_US, DIGITS = 1, 60_000_000, 2


def main(path):
    whole = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    reader = HistogramLogReader(path, whole)
    tags = {}
    while (interval := reader.get_next_interval_histogram()) is not None:
        name = interval.get_tag()
        entry = tags.setdefault(name, {"intervals": 0, "starts": [], "sum": HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)})
        entry["intervals"] += 1
        entry["starts"].append(interval.get_start_time_stamp())
        entry["sum"].add(interval)
    print(json.dumps({name: summed(entry) for name, entry in tags.items()}))


def summed(entry):
    histogram = entry["sum"]
    return {
        "intervals": entry["intervals"],
        "in_order": entry["starts"] == sorted(entry["starts"]),
        "count": histogram.get_total_count(),
        "p50_us": histogram.get_value_at_percentile(50),
        "p99_us": histogram.get_value_at_percentile(99),
        "max_us": histogram.get_max_value(),
    }


if __name__ == "__main__":
    main(sys.argv[1])
