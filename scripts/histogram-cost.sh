#!/usr/bin/env bash
# What the latency histograms cost of the CPU that a message takes, in instructions counted by callgrind.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'END'
usage: scripts/histogram-cost.sh [--top N] [DURATION]

Runs the release gateway under callgrind, with `loadtest echo` at 100 connections and 20 B for DURATION (default 6s), once
with inline routing and once with two workers. Prints instructions per message, those of the histograms among them, and
their share; with --top, also the N functions that take the most. Fails where the share is over 1 %.

The share is an upper bound: callgrind sees no kernel time, and of an echo's CPU time most is spent in its two system calls.
Counted are instructions whose source line is in telemetry/stages.rs or in hdrhistogram, also where they are inlined.
END
}

# Prints the figures of a profile: $1 its name, $2 the callgrind file, $3 the statistics, $4 how many functions to list.
figures() {
  local total messages histogram
  messages=$(sed 's/.*"totals":{\([^}]*\)}.*/\1/' "$3" | grep -o '"messages_in":[0-9]*' | cut -d: -f2)
  local lines
  lines=$(callgrind_annotate --auto=no --threshold=100 "$2")
  total=$(awk '/PROGRAM TOTALS/ { gsub(",", "", $1); print $1 }' <<<"$lines")
  histogram=$(awk '/telemetry\/stages\.rs:|hdrhistogram/ && !/PROGRAM/ { gsub(",", "", $1); sum += $1 } END { print sum + 0 }' <<<"$lines")
  awk -v name="$1" -v total="$total" -v n="$messages" -v histogram="$histogram" 'BEGIN {
    share = 100 * histogram / total
    printf "%s: %d messages, %.0f instructions per message in user space, %.2f of them histograms: %.3f %%\n", name, n, total / n, histogram / n, share
    exit share > 1
  }'
  local status=$?
  if [ "$4" -gt 0 ]; then
    # Lines of all files that are inlined into one function, added up.
    awk -v n="$messages" '/^ *[0-9,]+ \(/ && !/PROGRAM/ { gsub(",", "", $1); line = $0; sub(/^[^)]*\) */, "", line); sub(/ \[.*/, "", line)
      sub(/^[^ ]*\.(rs|c|S|h):/, "", line); sum[line] += $1 }
      END { for (f in sum) printf "%8.1f  %s\n", sum[f] / n, f }' <<<"$lines" | sort -rn | head -"$4"
  fi
  return $status
}

top=0 duration=6s
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --top) top=$2 && shift ;;
    *) duration=$1 ;;
  esac
  shift
done
have callgrind_annotate || die "valgrind is not installed"
cd "$root"
bin=${TIDEGATE_BIN:-$(target_dir)/release/tidegate}
loadtest=$(target_dir)/release/loadtest
[ -x "$bin" ] && [ -x "$loadtest" ] || cargo build -p tidegate -p loadtest --release --locked >&2
work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
failed=0
for workers in 0 2; do
  valgrind --tool=callgrind --dump-instr=no --callgrind-out-file="$work/out" "$bin" --listen 127.0.0.1:0 --loops 1 \
    --workers "$workers" --stats-out "$work/stats" >"$work/log" 2>&1 &
  pid=$!
  for _ in $(seq 200); do
    address=$(grep -o '127\.0\.0\.1:[1-9][0-9]*' "$work/log" | head -1) || true
    [ -z "$address" ] || break
    sleep 0.1
  done
  [ -n "$address" ] || die "the gateway did not start: $(cat "$work/log")"
  "$loadtest" echo --url "ws://$address/echo" --connections 100 --size 20 --duration "$duration" >/dev/null 2>&1
  kill -TERM "$pid"
  wait "$pid" || die "the gateway left with status $?"
  pid=
  figures "--workers $workers" "$work/out" "$work/stats" "$top" || failed=1
done
exit $failed
