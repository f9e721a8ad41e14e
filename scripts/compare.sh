#!/usr/bin/env bash
# Measures the gateway against floors and peers, in alternation on this machine. What it measures and how is in
# docs/PERFORMANCE.md; the work is done by compare.py beside it, which stops all it started when it is ended.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

build=true
arguments=()
for argument in "$@"; do
  case $argument in
    --no-build) build=false ;;
    -h | --help | --render) build=false && arguments+=("$argument") ;;
    *) arguments+=("$argument") ;;
  esac
done
have taskset || die "no taskset: install util-linux"
export TIDEGATE_NODE="$cache/node"
[ "$build" = false ] || cargo build --release --locked -p tidegate -p loadtest -p peers >&2
exec python3 scripts/compare.py --bin "$(target_dir)/release" --results "$(target_dir)/compare" "${arguments[@]}"
