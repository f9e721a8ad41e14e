#!/usr/bin/env bash
# What clients cost that begin TLS and never end their ClientHello, and what becomes of them. The measuring is done by
# half_hello.py beside it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

usage() {
  cat <<'END'
usage: scripts/half-hello.sh [--timeout SECONDS] [CONNECTIONS]

Holds that many (5000) connections of each kind to the release gateway, each kind to one of its own: with the first bytes of a
ClientHello; with as much of one as is held; the same, a little at a time; and with a byte more. Prints what one takes of the
gateway's resident memory, when all were closed, and as what that was counted.

Fails if one takes more than 20 KiB; unless those that may wait are closed at the handshake deadline (--timeout, 15) and the
others before; or if anything is counted as something else. About a minute.

environment: TIDEGATE_BIN, the gateway [default: built here]
END
}

connections=5000 arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --timeout) [ $# -gt 1 ] && arguments+=("$1" "$2") && shift || { usage >&2 && exit 2; } ;;
    [1-9]*) connections=$1 ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done
bin=${TIDEGATE_BIN:-}
if [ -z "$bin" ]; then
  cargo build -p tidegate --release --locked >&2
  bin=$(target_dir)/release/tidegate
fi
exec python3 scripts/half_hello.py --bin "$bin" "${arguments[@]}" "$connections"
