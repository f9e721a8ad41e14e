#!/usr/bin/env bash
# Runs the Autobahn|Testsuite: its fuzzing client against the gateway's /echo, with routing inline on the loops and with
# the worker pool, if asked for also over TLS and with permessage-deflate, and its fuzzing server against tidegate's
# client. Fails on every case that is not OK.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'END'
usage: scripts/conformance.sh [--require] [--full | --client | --server] [--cases LIST] [--workers N] [--url URL]

  --require      fail, rather than skip, where there is no CPython 2.7 to run the suite with
  --full         the gateway, also over wss and in groups 12 and 13 (compression), and the client in all groups
                 [default: the gateway, and the client but for group 9]
  --client       the client alone, in all groups
  --server       the gateway alone; behind --full, all that is run of it there
  --cases LIST   patterns, separated by commas, such as '1.*,7.7.*' [default: 1.*,…,7.*,9.*,10.*]
  --workers N    run the gateway once, with N workers [default: once with 0 and once with 2]
  --url URL      test this server instead of a gateway that the script starts, and no client

environment:
  TIDEGATE_BIN          the gateway to test [default: target/release/tidegate, built first]
  TIDEGATE_CLIENT_BIN   the client to test [default: target/debug/examples/client_autobahn, built first]
  TIDEGATE_PYTHON27     a CPython 2.7 [default: the one on the path, or one of pyenv's]

The suite's reports, a page for each case, stay in .conformance/.
END
}

all_groups='1.*,2.*,3.*,4.*,5.*,6.*,7.*,9.*,10.*'
# Without the large messages, which take most of the time.
short_groups='1.*,2.*,3.*,4.*,5.*,6.*,7.*,10.*'
deflate_groups='12.*,13.*'
require=false
full=false
cases=
client_cases=$short_groups
test_server=true
test_client=true
workers='0 2'
url=
while [ $# -gt 0 ]; do
  case $1 in
    --require) require=true ;;
    --full) client_cases=$all_groups full=true ;;
    --client) client_cases=$all_groups test_server=false ;;
    --server) test_client=false ;;
    --cases) cases=${2:?--cases needs a list}; shift ;;
    --workers) workers=${2:?--workers needs a number}; shift ;;
    --url) url=${2:?--url needs a URL}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
client_cases=${cases:-$client_cases}
cases=${cases:-$all_groups}

reports=$root/.conformance
trap 'stop_suite; stop_gateway' EXIT

# Group 9 sends messages of 16 MiB, and of 4 MiB in 65,536 fragments; both leave again as one message.
limits=(--max-message 32MiB --max-frame 32MiB --max-fragments 100000 --outbound-limit 64MiB)

# What must run of the specification $1/spec.json, said by the suite itself, so that a run that did nothing does not pass.
expect_cases() {
  local dir=$1
  "$cache/autobahn/bin/python" - "$dir/spec.json" >"$dir/expected" <<'END' || die "the suite did not name its cases"
import json, sys
from autobahntestsuite.case import Cases, CaseCategories, CaseSubCategories
from autobahntestsuite.caseset import CaseSet
suite = CaseSet("WebSocket", "Case", Cases, CaseCategories, CaseSubCategories)
for case in suite.parseSpecCases(json.load(open(sys.argv[1]))):
    print(case)
END
}

# Judges the reports in directory $1 of the cases $2.
judge() {
  local dir=$1 least=1
  # Counted once by hand: 16 + 11 + 7 + 10 + 20 + 145 + 37 + 1, and 54 in group 9.
  case $2 in
    "$all_groups") least=301 ;;
    "$short_groups") least=247 ;;
    # 5 and 7 times 18.
    "$deflate_groups") least=216 ;;
  esac
  python3 "$root/scripts/conformance_report.py" check "$dir/index.json" "$dir/expected" "$least"
}

# Runs cases $2 of the suite against `url`; $1: the directory for its reports. Fails on anything but OK.
run_suite() {
  local dir=$1 cases=$2 wstest=$cache/autobahn/bin/wstest
  rm -rf "$dir"
  mkdir -p "$dir"
  python3 "$root/scripts/conformance_report.py" spec "$url" "$cases" "$dir" >"$dir/spec.json" ||
    die "no specification"
  expect_cases "$dir"
  if ! timeout 1800 "$wstest" -m fuzzingclient -s "$dir/spec.json" >"$dir/wstest.log" 2>&1 </dev/null; then
    tail -n 20 "$dir/wstest.log" >&2
    die "wstest failed; its log: $dir/wstest.log"
  fi
  judge "$dir" "$cases"
}

# Runs cases $2 against a gateway started with arguments $3...; $1: what it is, which names reports and log.
run_gateway() {
  local name=$1 cases=$2 scheme=ws waited
  shift 2
  start_gateway "$bin" "$reports/gateway-$name.log" "$@" "${limits[@]}"
  case " $* " in
    *' --tls-listen '*)
      # Said behind the address that was waited for.
      for ((waited = 0; waited < 100; waited++)); do
        gateway_address=$(sed -n 's/.*listening on \(127\.0\.0\.1:[0-9]*\) over TLS.*/\1/p' "$reports/gateway-$name.log")
        [ -z "$gateway_address" ] || break
        sleep 0.1
      done
      [ -n "$gateway_address" ] || die "the gateway does not listen over TLS; its log: $reports/gateway-$name.log"
      scheme=wss
      ;;
  esac
  url=$scheme://$gateway_address/echo
  echo "conformance: $url, $name"
  run_suite "$reports/$name" "$cases" || failed=true
  # It must have lived until now, and left in order.
  stop_gateway || die "the gateway left with status $?; its log: $reports/gateway-$name.log"
}

suite=

# Ends the suite's server, if one was started.
stop_suite() {
  [ -n "$suite" ] || return 0
  kill "$suite" 2>/dev/null || true
  wait "$suite" 2>/dev/null || true
  suite=
}

# Runs client $1 against the suite; $2: the directory for its reports. Fails on anything but OK.
run_suite_on_client() {
  local bin=$1 dir=$2 port address waited
  rm -rf "$dir"
  mkdir -p "$dir"
  port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
  address=ws://127.0.0.1:$port
  python3 "$root/scripts/conformance_report.py" listen "$address" "$client_cases" "$dir" >"$dir/spec.json" ||
    die "no specification"
  expect_cases "$dir"
  "$cache/autobahn/bin/wstest" -m fuzzingserver --webport 0 -s "$dir/spec.json" >"$dir/wstest.log" 2>&1 </dev/null &
  suite=$!
  for ((waited = 0; waited < 300; waited++)); do
    # In a shell of its own, for what is redirected by `exec` stays.
    ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    kill -0 "$suite" 2>/dev/null || break
    sleep 0.1
  done
  if ! timeout 600 "$bin" "$address" >"$dir/client.log" 2>&1 </dev/null; then
    tail -n 20 "$dir/wstest.log" "$dir/client.log" >&2
    die "the client failed; its log: $dir/client.log"
  fi
  stop_suite
  judge "$dir" "$client_cases"
}

if ! python27=$(find_python27); then
  say "conformance: no CPython 2.7 here, which is all the Autobahn|Testsuite runs on; name one in TIDEGATE_PYTHON27"
  if $require; then exit 1; fi
  echo "conformance: skipped"
  exit 0
fi
make_autobahn "$python27"

if [ -n "$url" ]; then
  echo "conformance: $url"
  run_suite "$reports/url" "$cases"
  exit 0
fi

mkdir -p "$reports"
failed=false
if $test_server; then
  bin=${TIDEGATE_BIN:-}
  if [ -z "$bin" ]; then
    cargo build --manifest-path "$root/Cargo.toml" --release --bin tidegate
    bin=$(target_dir)/release/tidegate
  fi
  for count in $workers; do
    run_gateway "workers-$count" "$cases" --workers "$count"
  done
  if $full; then
    certs=$reports/certs
    rm -rf "$certs"
    "$bin" dev-cert --out "$certs" >/dev/null || die "no certificate"
    tls=(--tls-listen 127.0.0.1:0 --tls-cert "$certs/cert.pem" --tls-key "$certs/key.pem")
    run_gateway over-tls "$all_groups" --workers 2 "${tls[@]}"
    for mode in shared dedicated; do
      run_gateway "deflate-$mode" "$deflate_groups" --workers 2 --deflate "$mode"
    done
  fi
fi
if $test_client; then
  bin=${TIDEGATE_CLIENT_BIN:-}
  if [ -z "$bin" ]; then
    # As the tests have the library already.
    cargo build --manifest-path "$root/Cargo.toml" --profile test --example client_autobahn
    bin=$(target_dir)/debug/examples/client_autobahn
  fi
  echo "conformance: $bin"
  run_suite_on_client "$bin" "$reports/client" || failed=true
fi
! $failed
