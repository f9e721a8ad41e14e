#!/usr/bin/env bash
# What the gateway's memory goes into. The measuring is done by memory_rooms.py, memory_sessions.py and memory_tls.py
# beside it; what was seen is in docs/PERFORMANCE.md.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

usage() {
  cat <<'END'
usage: scripts/memory.sh rooms [--quick] [--cold] [--write] [--no-build]
       scripts/memory.sh sessions [--quick] [--no-build]
       scripts/memory.sh tls [N] [--quick] [--no-build]

  rooms       bytes of a membership and of a room, of a million memberships in rooms of 1,000, of 100 and of 5 members;
              at two loops, and at 53 with a descriptor table each
  sessions    bytes of a connection, bare, and logged in and in one room of 100, of 200,000 at the loops that takes
  tls         bytes of an idle connection over TLS, of N [50,000], and how many of them the gateway counts itself
  --quick     a tenth of the connections and rooms, at two loops and at five, and no figure in it means anything
  --cold      without the joins of a few connections beforehand: what circulates between threads, some 20 MB, grows
              while memory is measured, and counts
  --write     put the table into docs/PERFORMANCE.md
  --no-build  with what target/release holds

Prints a table, and fails if a membership at two loops takes more than 24 bytes, a bare connection more than 200, one
logged in and in a room more than 600, or an idle one over TLS more than 4096. Some ten minutes and 1 GiB of memory;
sessions, two minutes and 2 GiB; tls, two minutes and 1 GiB.
END
}

what=${1:-} build=true
[ $# -eq 0 ] || shift
arguments=()
for argument in "$@"; do
  case $argument in
    --quick | --cold | --write) arguments+=("$argument") ;;
    --no-build) build=false ;;
    [1-9]*)
      [ "$what" = tls ] || { usage >&2 && exit 2; }
      arguments+=("$argument")
      ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
done
case $what in
  rooms | sessions | tls) ;;
  -h | --help) usage && exit 0 ;;
  *) usage >&2 && exit 2 ;;
esac
[ "$build" = false ] || cargo build -p tidegate -p loadtest --release --locked >&2
exec python3 "scripts/memory_$what.py" --bin "$(target_dir)/release" "${arguments[@]}"
