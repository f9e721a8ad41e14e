#!/usr/bin/env bash
# Installs what the tests need on a Debian 12 machine with a stable Rust toolchain: Debian packages, cargo tools, and
# the real clients' libraries under .cache/. Takes a second when all is there. Needs root only for missing packages.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

install_debian_packages() {
  local missing=()
  # What is looked for is the program, not the package: it may have come by another way.
  have cc && have c++ || missing+=(build-essential)
  have haproxy || missing+=(haproxy)
  have systemd-socket-activate || missing+=(systemd)
  have chromium || missing+=(chromium)
  have node || missing+=(nodejs)
  have npm || missing+=(npm)
  have openssl || missing+=(openssl)
  have python3 || missing+=(python3)
  python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
  [ ${#missing[@]} -gt 0 ] || return 0
  say "setup: Debian packages: ${missing[*]}"
  [ "$(id -u)" -eq 0 ] || die "not root; install these first: apt-get install ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

check_rust() {
  have cargo || die "no cargo: install a stable Rust toolchain with rustup first"
  cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
  cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
}

install_cargo_tools() {
  local tool
  for tool in cargo-nextest cargo-fuzz; do
    have "$tool" && continue
    say "setup: $tool, built from source: a few minutes"
    # Outside the checkout, or its settings would apply to the tool.
    (cd / && cargo install --locked --quiet "$tool")
  done
}

install_python_clients() {
  local env=$cache/python
  local contents="websockets==$websockets_version hdrhistogram==$hdrhistogram_version sslyze==$sslyze_version"
  is_stamped "$env" "$contents" && return 0
  say "setup: Python environment: $contents"
  rm -rf "$env"
  mkdir -p "$cache"
  python3 -m venv "$env"
  # shellcheck disable=SC2086  # the list is meant to split
  "$env/bin/pip" install -q --disable-pip-version-check $contents
  stamp "$env" "$contents"
}

install_node_clients() {
  local env=$cache/node
  # playwright-core drives the system's Chromium; unlike playwright it brings none.
  local contents="ws@$ws_version playwright-core@$playwright_version"
  is_stamped "$env" "$contents" && return 0
  say "setup: Node modules: $contents"
  rm -rf "$env"
  mkdir -p "$env"
  echo '{"private": true}' >"$env/package.json"
  # shellcheck disable=SC2086  # the list is meant to split
  npm install --prefix "$env" --no-audit --no-fund --loglevel=error --save-exact $contents >/dev/null
  stamp "$env" "$contents"
}

install_autobahn() {
  local python27
  if python27=$(find_python27); then
    make_autobahn "$python27"
  else
    say "setup: no CPython 2.7, so no Autobahn|Testsuite (scripts/conformance.sh says more)"
  fi
}

check_rust
install_debian_packages
install_cargo_tools
install_python_clients
install_node_clients
install_autobahn
say "setup: all there"
