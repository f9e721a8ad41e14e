#!/usr/bin/env bash
# What established clients feel of thousands that begin TLS: runs without and with them, in turn.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

usage() {
  cat <<'END'
usage: scripts/handshakes.sh [--runs N] [--seconds N] [--connections N] [--rate N] [--handshakes N]

Runs the release gateway with one loop that routes inline, on a core of its own, and `loadtest echo` against it: --connections (100) clients that send
--rate (2000) messages of 20 bytes per second, each of --runs (8) times without and then with --handshakes (3000) others that always have
a ClientHello waiting at the same loop, for --seconds (5) each. Prints the p99 of each run, from when a message was due to its echo, and
how many ClientHellos per second were answered beside that.

Fails unless the median of the p99 beside the handshakes is at most 10 ms: to get through all that wait takes a loop a second.

environment: TIDEGATE_BIN, LOADTEST_BIN [default: built here]
END
}

runs=8 seconds=5 connections=100 rate=2000 handshakes=3000
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --runs | --seconds | --connections | --rate | --handshakes)
      [ $# -gt 1 ] || { usage >&2 && exit 2; }
      printf -v "${1#--}" '%s' "$2"
      shift
      ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done

tidegate=${TIDEGATE_BIN:-} loadtest=${LOADTEST_BIN:-}
if [ -z "$tidegate" ] || [ -z "$loadtest" ]; then
  cargo build -p tidegate -p loadtest --release --locked >&2
  tidegate=${tidegate:-$(target_dir)/release/tidegate} loadtest=${loadtest:-$(target_dir)/release/loadtest}
fi
work=$(mktemp -d)
cleanup() {
  stop_gateway || true
  rm -rf "$work"
}
trap cleanup EXIT

"$tidegate" dev-cert --out "$work/certs" >/dev/null
start_gateway "$tidegate" "$work/gateway.log" --loops 1 --workers 0 --tls-listen 127.0.0.1:0 \
  --tls-cert "$work/certs/cert.pem" --tls-key "$work/certs/key.pem"
tls_address=$(sed -n 's/.*listening on \(127\.0\.0\.1:[0-9]*\) over TLS.*/\1/p' "$work/gateway.log")

# The loop has a core to itself, or what is measured would be who of three gets one of two; what makes the handshakes gives way to
# what measures.
beside=()
if [ "$(nproc)" -gt 1 ]; then
  have taskset || die "no taskset: install util-linux"
  taskset -acp 0 "$gateway" >/dev/null
  beside=(taskset -c 1)
fi

# One run, its report called $1.
measure() {
  "${beside[@]}" "$loadtest" echo --url "ws://$gateway_address/echo" --connections "$connections" --rate "$rate" --duration "${seconds}s" \
    --json "$work/$1.json" </dev/null >"$work/loadtest.log" 2>&1 || {
    cat "$work/loadtest.log" >&2
    die "loadtest found something wrong"
  }
}

for ((run = 0; run < runs; run++)); do
  measure "$run-without"
  # Begun before and ended after what is measured.
  "${beside[@]}" nice -n 19 python3 scripts/handshakes.py "$tls_address" $((seconds + 2)) "$handshakes" >"$work/$run-storm" &
  storm=$!
  measure "$run-with"
  wait "$storm" || die "the storm failed"
done
python3 - "$work" "$runs" <<'END'
import json, pathlib, statistics, sys

work, runs = pathlib.Path(sys.argv[1]), int(sys.argv[2])
p99s = {"without": [], "with": []}
print("p99 in ms, without and with handshakes; ClientHellos answered per second")
for run in range(runs):
    for kind, seen in p99s.items():
        report = json.loads((work / f"{run}-{kind}.json").read_text())
        seen.append(report["main"]["latency_us"]["p99"] / 1000)
    print(f"  {p99s['without'][-1]:8.2f} {p99s['with'][-1]:8.2f}   {(work / f'{run}-storm').read_text().split()[1]}")
without, beside = (statistics.median(seen) for seen in p99s.values())
print(f"  medians {without:.2f} and {beside:.2f}")
sys.exit(f"over 10 ms: {beside:.2f}" if beside > 10 else 0)
END
