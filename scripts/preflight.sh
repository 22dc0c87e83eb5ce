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
command -v git >/dev/null || say "git is missing: https://git-scm.com/downloads"
exit $missing
