#!/usr/bin/env bash
# Says what is missing on this machine and how to get it.
set -u
missing=0
say() { printf 'setup: %s\n' "$1" >&2; missing=1; }
version_of() { "$@" 2>/dev/null | grep -oE '[0-9]+(\.[0-9]+)*' | head -n 1; }

node_version=$(version_of node --version)
if [ -z "$node_version" ]; then
  say "Node.js is missing. Install Node 20 or newer: https://nodejs.org/en/download, or your system's package 'nodejs'."
elif [ "${node_version%%.*}" -lt 20 ]; then
  say "Node.js is $node_version; 20 or newer is needed: https://nodejs.org/en/download"
fi
command -v npm >/dev/null || say "npm is missing. It comes with Node.js; on Debian: apt-get install npm"
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null; then
  say "Python is missing. Install Python 3.10 or newer: https://www.python.org/downloads, or your system's package 'python3'."
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
  say "$python is $(version_of "$python" --version); 3.10 or newer is needed. Point PYTHON at another one: make setup PYTHON=python3.12"
elif ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
  say "$python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"
fi
# Only the tests of the Redis store need it, so that its absence stops no set-up; in CI those tests then fail.
if ! command -v redis-server >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing redis-server for the tests of the Redis store"
    { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server ||
      { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server; }; } >/dev/null 2>&1
  fi
  command -v redis-server >/dev/null ||
    echo "setup: redis-server is missing, so the tests of the Redis store are skipped. On Debian and Ubuntu: sudo apt-get install redis-server" >&2
fi
command -v git >/dev/null || say "git is missing: https://git-scm.com/downloads"
exit $missing
