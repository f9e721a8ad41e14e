# Shared by the scripts beside it; sourced, never run. Callers have `set -euo pipefail`.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Everything the tests install for themselves. One cache may serve several checkouts.
cache=${TIDEGATE_CACHE:-$root/.cache}
# Exact: a test run must not change because somebody published something.
websockets_version=17.4
hdrhistogram_version=0.10.8
sslyze_version=6.3.1
ws_version=8.23.0
playwright_version=1.65.1
virtualenv_version=20.21.1

say() { printf '%s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Where cargo puts what it builds, also when a configuration file moves it.
target_dir() {
  cargo metadata --format-version 1 --no-deps --manifest-path "$root/Cargo.toml" |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# A CPython 2.7, which Debian 12 has no package for: named, on the path, or one of pyenv's.
find_python27() {
  local candidate
  for candidate in "${TIDEGATE_PYTHON27:-}" python2.7 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7*/bin/python2.7; do
    # A pyenv shim exists for versions that are not selected, and fails: only an answer counts.
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return 0
    fi
  done
  return 1
}

# Whether the environment in directory $1 was finished for exactly the contents $2.
is_stamped() { [ -f "$1/.stamp" ] && [ "$(cat "$1/.stamp")" = "$2" ]; }
stamp() { printf '%s\n' "$2" >"$1/.stamp"; }

# Makes the environment that wstest runs in, unless it stands. $1: a CPython 2.7.
#
# The last release of the Autobahn|Testsuite runs on nothing newer, and what it needs no longer resolves by itself:
# each step installs what the next one's setup.py imports, at the last versions that know Python 2.
make_autobahn() {
  local python27=$1 env=$cache/autobahn tools=$cache/virtualenv
  local foundation="setuptools==44.0.0 incremental==16.10.1"
  local libraries="six==1.16.0 txaio==2.1.0 zope.interface==4.6.0 Twisted==19.10.0 jinja2==2.11.3 markupsafe==1.1.1
    Werkzeug==1.0.1 klein==17.10.0 unittest2==1.1.0 cryptography==3.3.2 pyOpenSSL==19.1.0 service_identity==18.1.0"
  local protocol="autobahn==0.10.9 wsaccel==0.6.2 ujson==2.0.3"
  local suite="autobahntestsuite==25.10.1"
  local contents="$foundation $libraries $protocol $suite"
  is_stamped "$env" "$contents" && return 0
  say "setup: the Autobahn|Testsuite, with $python27"
  local log=$cache/autobahn.log
  rm -rf "$env" "$tools"
  mkdir -p "$cache"
  {
    python3 -m venv "$tools" &&
      "$tools/bin/pip" install -q "virtualenv==$virtualenv_version" &&
      "$tools/bin/virtualenv" -q -p "$python27" "$env" &&
      # shellcheck disable=SC2086  # the lists are meant to split
      "$env/bin/pip" install -q $foundation &&
      "$env/bin/pip" install -q --no-build-isolation $libraries &&
      "$env/bin/pip" install -q --no-build-isolation $protocol &&
      "$env/bin/pip" install -q --no-build-isolation --no-deps $suite &&
      "$env/bin/wstest" --help
  } >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    say "the Autobahn|Testsuite could not be installed; the whole log: $log"
    return 1
  }
  stamp "$env" "$contents"
}

gateway=
gateway_address=

# Starts gateway $1 on a free port, its stderr in file $2, with the further arguments; sets `gateway` to its pid and
# `gateway_address` to HOST:PORT once it listens. Callers trap EXIT with stop_gateway.
start_gateway() {
  local bin=$1 log=$2 waited
  shift 2
  # A log of an earlier start would name that one's port.
  : >"$log"
  "$bin" --listen 127.0.0.1:0 "$@" </dev/null >/dev/null 2>"$log" &
  gateway=$!
  for ((waited = 0; waited < 100; waited++)); do
    gateway_address=$(sed -n 's/.*listening on \(127\.0\.0\.1:[0-9]*\).*/\1/p' "$log" | head -n 1)
    [ -z "$gateway_address" ] || return 0
    kill -0 "$gateway" 2>/dev/null || break
    sleep 0.1
  done
  cat "$log" >&2
  die "the gateway did not say 'listening on 127.0.0.1:PORT'"
}

# SIGTERM to what start_gateway started; its exit status. Without one, nothing.
stop_gateway() {
  [ -n "$gateway" ] || return 0
  local pid=$gateway status=0
  gateway=
  kill "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || status=$?
  return "$status"
}
