#!/usr/bin/env bash
# How evenly connections are spread over the loops: 100,000 at as many loops as that takes here, and 19,000 at two.
# Fails if the fullest loop holds more than 1.1 times what the emptiest does, or if anybody was refused.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

usage() {
  cat <<'END'
usage: scripts/fairness.sh [--quick]

  --quick  only 19,000 connections at two loops

About two minutes and 1 GiB of memory; with --quick, some 20 s.
END
}

quick=false
case ${1:-} in
  --quick) quick=true ;;
  -h | --help) usage && exit 0 ;;
  '') ;;
  *) usage >&2 && exit 2 ;;
esac

cargo build -p tidegate -p loadtest --release --locked
bin=$(target_dir)/release
work=$(mktemp -d)
client=
cleanup() {
  [ -z "$client" ] || kill "$client" 2>/dev/null || true
  stop_gateway || true
  rm -rf "$work"
}
trap cleanup EXIT

# Asks for statistics until $1 connections are open; they stand in $work/stats.json then.
wait_until_open() {
  local wanted=$1 opened deadline=$((SECONDS + 300))
  while [ "$SECONDS" -lt "$deadline" ]; do
    kill -USR1 "$gateway"
    sleep 0.5
    opened=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["totals"]["open"])' "$work/stats.json" 2>/dev/null || echo 0)
    [ "$opened" -lt "$wanted" ] || return 0
    kill -0 "$client" 2>/dev/null || break
  done
  cat "$work/loadtest.log" "$work/gateway.log" >&2
  die "$opened of $wanted connections are open"
}

# Holds $1 connections against a gateway with the further arguments; adds a line to the table.
measure() {
  local connections=$1
  shift
  start_gateway "$bin/tidegate" "$work/gateway.log" --stats-out "$work/stats.json" "$@"
  "$bin/loadtest" connect --url "ws://$gateway_address/echo" --connections "$connections" --hold 10s \
    </dev/null >"$work/loadtest.log" 2>&1 &
  client=$!
  wait_until_open "$connections"
  python3 - "$work/stats.json" "$connections" <<'END' >>"$work/table"
import json, sys

stats, wanted = json.load(open(sys.argv[1])), int(sys.argv[2])
held = [each["connections"] for each in stats["loops"]]
ratio = max(held) / max(min(held), 1)
refused = sum(stats["refusals"].values())
totals = stats["totals"]
fair = ratio <= 1.1 and refused == 0 and totals["open"] == wanted
print(
    f"{totals['open']:>11} {len(held):>5} {stats['config']['fd_table']:>8} {max(held):>8} {min(held):>8} {ratio:>7.3f}"
    f" {totals['handed_over']:>11} {refused:>7} {totals['accept_pauses']:>6}  {'ok' if fair else 'UNFAIR'}"
)
END
  # It verifies its connections and closes them.
  wait "$client" || { cat "$work/loadtest.log" >&2 && die "loadtest found something wrong"; }
  client=
  stop_gateway || die "the gateway left with status $?"
}

[ "$quick" = true ] || measure 100000 --max-connections 101000
measure 19000 --loops 2
printf '%11s %5s %8s %8s %8s %7s %11s %7s %6s\n' connections loops tables fullest emptiest ratio handed-over refused pauses
cat "$work/table"
! grep -q UNFAIR "$work/table"
