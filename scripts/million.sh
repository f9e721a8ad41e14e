#!/usr/bin/env bash
# A million connections on this machine: one gateway process, one loadtest process, every counter held against the other.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
self=$root/scripts/million.sh

usage() {
  cat <<'END'
usage: scripts/million.sh [--connections N] [--write] [--keep DIR] [-- FLAG…]

  --connections N  how many [1000000]
  --write          put the table and the charts into README.md and docs/million/
  --keep DIR       put the reports (JSON, HTML, SVG) and logs there [a new directory in /tmp]
  -- FLAG…         further flags for the gateway

Opens N WebSocket connections, has each answer a ping, echoes over a random 1 % of them, publishes once to a room of a
tenth of them, closes all, and fails unless the counters of both ends say that nothing was lost.

Needs root: it runs in a network namespace of its own, in which settings are changed as below and which ends with it, so
that the host's own stay as they are. One setting of the host, the size of the next namespace's table of connections,
is changed until the namespace is made, and put back. Takes some minutes, and about 9 GB of memory per million.
END
}

connections=1000000 write=false keep='' inside=false
flags=()
while [ $# -gt 0 ]; do
  case $1 in
    --connections) connections=${2:?--connections needs a number} && shift ;;
    --write) write=true ;;
    --keep) keep=$(realpath -m "${2:?--keep needs a directory}") && shift ;;
    --inside) inside=true ;;
    --) shift && flags=("$@") && break ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done
cd "$root"
[[ $connections =~ ^[1-9][0-9]*$ ]] || die "--connections $connections is not a number of connections"

# Kernel memory of both ends, what both processes take for each connection, and some to spare.
check_memory() {
  local needed available
  needed=$((connections * (2 * 3960 + 1000) / 1024 + 1048576))
  available=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
  [ "$available" -ge "$needed" ] ||
    die "$connections connections need about $((needed / 1024)) MiB for both ends; $((available / 1024)) MiB are available"
  say "memory: $((needed / 1024)) MiB needed, $((available / 1024)) MiB available"
}

setting=/proc/sys/net/ipv4/tcp_child_ehash_entries

child='' before=''
restore() {
  [ -z "$before" ] || echo "$before" >"$setting"
  before=''
}

# Runs this script again in a namespace of its own, whose table of connections is large enough: in one made for 262,144
# sockets each packet's socket is looked for in a chain of eight.
enter_namespace() {
  local status=0
  trap restore EXIT
  trap '[ -z "$child" ] || { kill "$child" && wait "$child"; } || true; exit 143' INT TERM HUP
  if [ -w "$setting" ]; then
    before=$(cat "$setting")
    # The kernel rounds up to a power of two, and takes 16 million at most.
    echo $((connections * 4 < 16777216 ? connections * 4 : 16777216)) >"$setting"
  else
    say "this kernel has no net.ipv4.tcp_child_ehash_entries (Linux 6.1): slower, but it works"
  fi
  rm -f "$keep/inside"
  unshare --net "$self" --inside --connections "$connections" --keep "$keep" -- "${flags[@]}" &
  child=$!
  while [ ! -e "$keep/inside" ] && kill -0 "$child" 2>/dev/null; do sleep 0.05; done
  restore
  wait "$child" || status=$?
  return "$status"
}

prepare_namespace() {
  ip link set lo up
  sysctl -qw net.ipv4.ip_local_port_range='1024 65535' net.core.somaxconn=65535 net.ipv4.tcp_max_syn_backlog=65535
  sysctl -qw net.ipv4.tcp_max_tw_buckets=2000000 || true
}

if ! $inside; then
  [ "$(id -u)" -eq 0 ] || die "not root: a network namespace cannot be made"
  for tool in unshare ip sysctl python3; do have "$tool" || die "$tool is not installed"; done
  ! $write || grep -q '<!-- million -->' README.md || die "--write: README.md has no <!-- million --> to write behind"
  check_memory
  cargo build -p tidegate -p loadtest --release --locked
  [ -n "$keep" ] || keep=$(mktemp -d)
  mkdir -p "$keep"
  say "reports: $keep"
  enter_namespace
  ! $write || python3 scripts/million.py write "$keep" "$root"
  exit 0
fi

client=
cleanup() {
  [ -z "$client" ] || { kill "$client" && wait "$client"; } 2>/dev/null || true
  stop_gateway || true
}
trap cleanup EXIT
trap 'exit 143' INT TERM HUP
touch "$keep/inside"
prepare_namespace
bin=$(target_dir)/release
# Clients that have nothing to say are asked for a sign of life twice a minute by default; 30,000 pings a second would be
# measured as part of everything here.
start_gateway "$bin/tidegate" "$keep/gateway.log" --max-connections $((connections + 1000)) --stats-out "$keep/gateway.json" \
  --ping-interval 1h --idle-timeout 0 --drain-timeout 5m "${flags[@]}"
failed=0
"$bin/loadtest" scale --url "ws://$gateway_address/ws" --connections "$connections" --hold 20s --timeout 60s \
  --echo-sample 1% --room-members 10% --server-pid "$gateway" \
  --json "$keep/loadtest.json" --html "$keep/loadtest.html" --svg "$keep/svg" &
client=$!
wait "$client" || failed=$?
client=
stop_gateway || { failed=$? && say "the gateway ended with $failed"; }
cat "$keep/gateway.log" >&2
python3 scripts/million.py check "$keep" || failed=1
exit "$failed"
