#!/usr/bin/env bash
# All the tests, in the order in which they are cheapest to fail. About a quarter of an hour on two cores from nothing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

usage() {
  cat <<'END'
usage: scripts/test.sh [--list] [STEP…]

Runs every step, or only those named, in the order of --list, and stops at the first that fails.

environment:
  CI=true         conformance may not be skipped
  FUZZ_SECONDS    seconds of fuzzing, shared by the targets [default: 120]
  TIDEGATE_CACHE  where setup installs [default: .cache]
  TIDEGATE_BIN, LOADTEST_BIN
                  programs for conformance and loadtest [default: built here]
END
}

# Each step's function is `step_NAME`.
steps=(setup fmt clippy doc deny build nextest doctest loom corpus conformance loadtest fuzz)

step_setup() { scripts/setup.sh; }

step_fmt() {
  cargo fmt --all --check
  [ ! -f fuzz/Cargo.toml ] || cargo fmt --manifest-path fuzz/Cargo.toml --check
}

step_clippy() { cargo clippy --workspace --all-targets --locked -- -D warnings; }

step_doc() { RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items --locked; }

# Only what can be told without asking anybody: known vulnerabilities would have to be fetched.
step_deny() {
  have cargo-deny || skip "cargo-deny is not installed"
  cargo deny --offline check bans licenses sources
}

# Not the peers: they are optimised when scripts/compare.sh wants them, and clippy and nextest build them anyway.
step_build() { cargo build --release --locked -p tidegate -p loadtest; }

step_nextest() {
  local profile=default
  [ "${CI:-}" != true ] || profile=ci
  cargo nextest run --workspace --locked --profile "$profile"
}

step_doctest() { cargo test --workspace --doc --locked; }

# Every interleaving of the lock-free parts. A target directory of its own, or all else would be built anew after it.
step_loom() {
  local tests=() file
  for file in tests/loom_*.rs; do
    [ ! -e "$file" ] || tests+=(--test "$(basename "$file" .rs)")
  done
  [ ${#tests[@]} -gt 0 ] || skip "no tests/loom_*.rs"
  RUSTFLAGS='--cfg loom' CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    cargo test --release --locked --target-dir target/loom "${tests[@]}"
}

# What fuzzing has kept, through the same checks, with no fuzzer.
step_corpus() {
  [ -f fuzz/Cargo.toml ] || skip "no fuzz/"
  cargo test --manifest-path fuzz/Cargo.toml --target-dir target/corpus
}

step_conformance() {
  local require=()
  [ "${CI:-}" != true ] || require=(--require)
  local bin
  bin=$(release_binary tidegate)
  TIDEGATE_BIN=$bin scripts/conformance.sh "${require[@]}"
}

step_loadtest() {
  local tidegate loadtest workers known='broadcast churn compare connect echo scale slow-handshake stall storm ' commands
  tidegate=$(release_binary tidegate)
  loadtest=$(release_binary loadtest)
  # A command that is added and not run here fails the step.
  commands=$("$loadtest" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p' | { grep -vx help || true; } | sort | tr '\n' ' ')
  [ "$commands" = "$known" ] || die "loadtest has the commands '$commands'; run here are '$known'"
  trap stop_gateway EXIT
  for workers in 0 2; do
    start_gateway "$tidegate" "$root/target/loadtest-gateway.log" --workers "$workers" --tcp-listen 127.0.0.1:0
    local url=ws://$gateway_address/echo tcp
    "$loadtest" connect --url "$url" --connections 2000 --rate 2000 --hold 2s
    "$loadtest" echo --url "$url" --connections 100 --duration 3s --server-pid "$gateway" --fail-if 'p99>10s' \
      --json "$root/target/echo-$workers.json" --html "$root/target/echo.html" --hgrm "$root/target/echo.hgrm"
    "$loadtest" echo --url "$url" --connections 20 --pipeline 16 --size 4KiB --text --duration 3s
    "$loadtest" echo --url "$url" --connections 50 --rate 2000 --duration 3s
    "$loadtest" churn --url "$url" --connections 1000 --rate 500 --duration 3s --abort 10%
    "$loadtest" storm --url "$url" --connections 2000 --times 2 --pause 1s
    "$loadtest" slow-handshake --url "$url" --connections 500 --drip 200ms --duration 3s
    url=ws://$gateway_address/ws
    "$loadtest" broadcast --url "$url" --connections 1000 --rooms 10 --publishers 20 --rate 200 --duration 3s
    "$loadtest" broadcast --url "$url" --connections 500 --rooms 2 --publishers 4 --in-flight 4 --threads 2 --duration 3s
    tcp=$(sed -n 's/.*listening on \(127\.0\.0\.1:[0-9]*\) for .* over plain TCP.*/\1/p' "$root/target/loadtest-gateway.log")
    [ -n "$tcp" ] || die "the gateway did not say where it listens for plain TCP"
    "$loadtest" broadcast --url "$url" --dialect "json,mef,action,event,kim,hub,kim=tcp://$tcp" --connections 70 \
      --rooms 2 --publishers 14 --rate 200 --duration 2s
    "$loadtest" stall --url "$url" --connections 500 --rooms 2 --stalled 2% --rate 100 --size 4KiB --duration 3s
    "$loadtest" scale --url "$url" --connections 3000 --rate 3000 --hold 1s --threads 2 --room-members 1000
    stop_gateway || die "the gateway left with status $?; its log: target/loadtest-gateway.log"
  done
  TIDEGATE_BIN=$tidegate LOADTEST_BIN=$loadtest scripts/storm_sessions.sh --connections 2000 --times 2
  "$loadtest" compare "$root/target/echo-0.json" "$root/target/echo-2.json"
}

step_fuzz() {
  [ -f fuzz/Cargo.toml ] || skip "no fuzz/"
  local cargo=(cargo) targets target shares=0 seconds found
  # libFuzzer needs flags that are not stable; a stable compiler can be told to take them all the same.
  if cargo +nightly --version >/dev/null 2>&1; then
    cargo=(cargo +nightly)
  else
    export RUSTC_BOOTSTRAP=1
  fi
  targets=$("${cargo[@]}" fuzz list)
  [ -n "$targets" ] || die "no fuzz targets"
  for target in $targets; do "${cargo[@]}" fuzz build "$target"; done
  for target in $targets; do shares=$((shares + $(fuzz_share "$target"))); done
  for target in $targets; do
    seconds=$((${FUZZ_SECONDS:-120} * $(fuzz_share "$target") / shares))
    # 0 would be without end.
    [ "$seconds" -gt 0 ] || seconds=1
    # The kept corpus is read; what is found goes where git does not look, unless somebody keeps it.
    found=$root/target/fuzz-found/$target
    mkdir -p "$found" "fuzz/corpus/$target"
    "${cargo[@]}" fuzz run "$target" "$found" "fuzz/corpus/$target" -- \
      -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 -verbosity=0
  done
}

# How much of the time target $1 gets: dialects are many and small.
fuzz_share() {
  case $1 in
    dialect_*) echo 1 ;;
    *) echo 8 ;;
  esac
}

# The path of program $1, built now if it must be, or named in the environment.
release_binary() {
  local given
  case $1 in
    tidegate) given=${TIDEGATE_BIN:-} ;;
    loadtest) given=${LOADTEST_BIN:-} ;;
  esac
  [ -z "$given" ] || { echo "$given" && return; }
  cargo build --release --locked -p tidegate -p loadtest >&2
  echo "$(target_dir)/release/$1"
}

# Ends a step, which then counts as skipped.
skip() {
  echo "skipped: $*"
  exit 77
}

run_steps() {
  local step began status passed=0 skipped=0
  for step in "$@"; do
    say "=== $step"
    began=$SECONDS
    # A shell of its own, so that `set -e` holds inside it: in a condition it would not.
    status=0
    set +e
    (
      set -e
      "step_$step"
    )
    status=$?
    set -e
    say "=== $step: $((SECONDS - began)) s, status $status"
    case $status in
      0) passed=$((passed + 1)) ;;
      77) skipped=$((skipped + 1)) ;;
      *)
        say "=== failed: $step"
        echo "steps: $passed passed, 1 failed, $skipped skipped"
        exit 1
        ;;
    esac
  done
  echo "steps: $passed passed, 0 failed, $skipped skipped"
}

case ${1:-} in
  --list) printf '%s\n' "${steps[@]}" && exit 0 ;;
  -h | --help) usage && exit 0 ;;
esac
for step in "$@"; do
  [[ " ${steps[*]} " == *" $step "* ]] || die "no step '$step'; there are: ${steps[*]}"
done
wanted=("${steps[@]}")
if [ $# -gt 0 ]; then
  wanted=()
  for step in "${steps[@]}"; do
    if [[ " $* " == *" $step "* ]]; then wanted+=("$step"); fi
  done
fi
run_steps "${wanted[@]}"
