#!/usr/bin/env bash
# Runs the Autobahn|Testsuite's fuzzing client against the gateway's /echo, with routing inline on the loops and with
# the worker pool, and fails on every case that is not OK.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'END'
usage: scripts/conformance.sh [--require] [--cases LIST] [--workers N] [--url URL]

  --require      fail, rather than skip, where there is no CPython 2.7 to run the suite with
  --cases LIST   patterns, separated by commas, such as '1.*,7.7.*' [default: 1.*,…,7.*,9.*,10.*]
  --workers N    run once, with N workers [default: once with 0 and once with 2]
  --url URL      test this server instead of a gateway that the script starts

environment:
  TIDEGATE_BIN        the gateway to test [default: target/release/tidegate, built first]
  TIDEGATE_PYTHON27   a CPython 2.7 [default: the one on the path, or one of pyenv's]

The suite's reports, a page for each case, stay in .conformance/.
END
}

all_groups='1.*,2.*,3.*,4.*,5.*,6.*,7.*,9.*,10.*'
require=false
cases=$all_groups
workers='0 2'
url=
while [ $# -gt 0 ]; do
  case $1 in
    --require) require=true ;;
    --cases) cases=${2:?--cases needs a list}; shift ;;
    --workers) workers=${2:?--workers needs a number}; shift ;;
    --url) url=${2:?--url needs a URL}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

reports=$root/.conformance
trap stop_gateway EXIT

# Group 9 sends messages of 16 MiB, and of 4 MiB in 65,536 fragments; both leave again as one message.
limits=(--max-message 32MiB --max-frame 32MiB --max-fragments 100000 --outbound-limit 64MiB)

# Runs the suite against `url`; $1: the directory for its reports. Fails on anything but OK.
run_suite() {
  local dir=$1 wstest=$cache/autobahn/bin/wstest
  rm -rf "$dir"
  mkdir -p "$dir"
  python3 "$root/scripts/conformance_report.py" spec "$url" "$cases" "$dir" >"$dir/spec.json" ||
    die "no specification"
  # What must have run, said by the suite itself, so that a run that did nothing does not pass.
  "$cache/autobahn/bin/python" - "$dir/spec.json" >"$dir/expected" <<'END' || die "the suite did not name its cases"
import json, sys
from autobahntestsuite.case import Cases, CaseCategories, CaseSubCategories
from autobahntestsuite.caseset import CaseSet
suite = CaseSet("WebSocket", "Case", Cases, CaseCategories, CaseSubCategories)
for case in suite.parseSpecCases(json.load(open(sys.argv[1]))):
    print(case)
END
  if ! timeout 600 "$wstest" -m fuzzingclient -s "$dir/spec.json" >"$dir/wstest.log" 2>&1 </dev/null; then
    tail -n 20 "$dir/wstest.log" >&2
    die "wstest failed; its log: $dir/wstest.log"
  fi
  local least=1
  # All groups, counted once by hand: 16 + 11 + 7 + 10 + 20 + 145 + 37 + 54 + 1.
  [ "$cases" != "$all_groups" ] || least=301
  python3 "$root/scripts/conformance_report.py" check "$dir/index.json" "$dir/expected" "$least"
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
  run_suite "$reports/url"
  exit 0
fi

bin=${TIDEGATE_BIN:-}
if [ -z "$bin" ]; then
  cargo build --manifest-path "$root/Cargo.toml" --release --bin tidegate
  bin=$(target_dir)/release/tidegate
fi
mkdir -p "$reports"
failed=false
for count in $workers; do
  start_gateway "$bin" "$reports/gateway-$count.log" --workers "$count" "${limits[@]}"
  url=ws://$gateway_address/echo
  echo "conformance: $url with --workers $count"
  run_suite "$reports/workers-$count" || failed=true
  # It must have lived until now, and left in order.
  stop_gateway || die "the gateway left with status $?; its log: $reports/gateway-$count.log"
done
! $failed
