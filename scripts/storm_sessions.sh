#!/usr/bin/env bash
# Storms of identities under `session = "displace"`: however their connections vanish, or do not, each has exactly one in
# the end. loadtest says so of its sockets, and the gateway of its logins.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

usage() {
  cat <<'END'
usage: scripts/storm_sessions.sh [--connections N] [--times N] [--no-build]

  --connections N  identities [20000]
  --times N        storms [5]
  --no-build       with what target/release holds

In each storm they vanish by a reset, by the end of the stream, by half of it, by a Close or not at all, a fifth of them
each, and come back as the same, one in ten of them twice at once. Runs with messages routed on the loops and on workers,
and fails if an identity has no connection or several. Some two minutes.

environment:
  TIDEGATE_BIN, LOADTEST_BIN  programs [default: those of target/release]
END
}

connections=20000 times=5 build=true
while [ $# -gt 0 ]; do
  case $1 in
    --connections) connections=${2:?--connections needs a number} && shift ;;
    --times) times=${2:?--times needs a number} && shift ;;
    --no-build) build=false ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done

tidegate=${TIDEGATE_BIN:-} loadtest=${LOADTEST_BIN:-}
if [ -z "$tidegate" ] || [ -z "$loadtest" ]; then
  [ "$build" = false ] || cargo build -p tidegate -p loadtest --release --locked >&2
  bin=$(target_dir)/release
  tidegate=${tidegate:-$bin/tidegate} loadtest=${loadtest:-$bin/loadtest}
fi

work=$(mktemp -d)
cleanup() {
  stop_gateway || true
  rm -rf "$work"
}
trap cleanup EXIT
cat >"$work/gateway.toml" <<'END'
[[endpoint]]
path = "/ws"
dialect = "json"
identity = ["query.user", "query.type", "query.device", "query.source"]
session = "displace"
END

for workers in 0 2; do
  # Some are there twice for a while.
  start_gateway "$tidegate" "$work/gateway.log" --config "$work/gateway.toml" --workers "$workers" \
    --max-connections $((connections * 3 + 1000)) --stats-out "$work/stats.json"
  "$loadtest" storm --url "ws://$gateway_address/ws" --dialect json --login --connections "$connections" \
    --times "$times" --pause 2s --timeout 30s --vanish rst,fin,close,half,stay --twins 10% \
    --server-pid "$gateway" --server-stats "$work/stats.json" || {
    cat "$work/gateway.log" >&2
    die "with --workers $workers"
  }
  stop_gateway || die "the gateway left with status $?"
done
