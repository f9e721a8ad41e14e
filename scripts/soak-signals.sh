#!/usr/bin/env bash
# The test of private descriptor tables with 10,000 signals, log lines and wakes, every echoed byte compared.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

case ${1:-} in
  -h | --help)
    echo "usage: scripts/soak-signals.sh [SIGNALS, default: 10000]"
    exit 0
    ;;
esac
signals=${1:-10000}
say "$signals signals"
TIDEGATE_TEST_SIGNALS=$signals cargo test --locked --test private_tables -- --exact signals_wakes_and_log_lines_beside_echoes
