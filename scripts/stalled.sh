#!/usr/bin/env bash
# What the healthy members of a room feel of some that stop reading, and what becomes of those: runs without and with
# them, in turn, for each policy.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

usage() {
  cat <<'END'
usage: scripts/stalled.sh [--runs N] [--seconds N] [--members N] [--stalled N] [--rate N] [--size BYTES]
                          [--policies "close drop-oldest"]

Runs the release gateway and `loadtest stall` against it: one room of --members (1000) that read, each of --runs (8) times
without and then with --stalled (10) more that do not, for --seconds (5) each, at --rate (20) publishes of --size (4KiB) per
second, the room with a budget of 64 KiB. Prints the p99 of each run, from when a publish was due to its delivery.

Fails unless, for each policy, the median of the p99 with the stalled is within 1.25 times of that without, the healthy
members missed nothing, and every stalled member was closed (close) or had publishes dropped (the others).

About seven minutes. Both ends share the machine: leave it alone meanwhile.
END
}

runs=8 seconds=5 members=1000 stalled=10 rate=20 size=4KiB policies="close drop-oldest"
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --runs | --seconds | --members | --stalled | --rate | --size | --policies)
      [ $# -gt 1 ] || { usage >&2 && exit 2; }
      printf -v "${1#--}" '%s' "$2"
      shift
      ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done

cargo build -p tidegate -p loadtest --release --locked >&2
bin=$(target_dir)/release
work=$(mktemp -d)
cleanup() {
  stop_gateway || true
  rm -rf "$work"
}
trap cleanup EXIT

# One run under policy $1 with $2 stalled members; its reports are called $3.
measure() {
  local policy=$1 stalled=$2 name=$3
  printf '[[endpoint]]\npath = "/ws"\ndialect = "json"\n\n[[room]]\npattern = "*"\noverflow = "%s"\noutbound_budget = "64KiB"\n' \
    "$policy" >"$work/gateway.toml"
  start_gateway "$bin/tidegate" "$work/gateway.log" --config "$work/gateway.toml" --stats-out "$work/$name.gateway.json"
  "$bin/loadtest" stall --url "ws://$gateway_address/ws" --connections $((members + stalled)) --stalled "$stalled" \
    --rate "$rate" --size "$size" --duration "${seconds}s" --receive-buffer 4KiB --json "$work/$name.json" \
    </dev/null >"$work/loadtest.log" 2>&1 || {
    cat "$work/loadtest.log" >&2
    die "loadtest found something wrong"
  }
  stop_gateway || die "the gateway left with status $?"
}

failed=0
for policy in $policies; do
  for ((run = 0; run < runs; run++)); do
    measure "$policy" 0 "$policy-$run-without"
    measure "$policy" "$stalled" "$policy-$run-with"
  done
  python3 scripts/stalled.py "$work" "$policy" "$runs" "$stalled" || failed=1
done
exit $failed
