#!/usr/bin/env bash
# Runs vitest. The compile cache keeps the hundreds of threads of the tests from loading the type stripper, a
# WebAssembly module, each: V8 keeps one map of code pages for all threads of a process and aborts, rarely, when threads
# that start and end race in it ("Check failed: jit_page.has_value()", nodejs/node#64500). A run that such an abort
# ended is run again, once, and says so; a failed test is not.
set -uo pipefail
cd "$(dirname "$0")/.."
# The Node that everything here runs on is a development package.
export PATH="$PWD/node_modules/.bin:$PATH"
export NODE_COMPILE_CACHE="$PWD/node_modules/.cache/compile"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
node_modules/.bin/vitest run "$@" 2>&1 | tee "$log"
code=${PIPESTATUS[0]}
if [ "$code" -ne 0 ] && grep -q 'Check failed: jit_page' "$log"; then
  printf '\nvitest: V8 aborted (nodejs/node#64500); running once more\n\n'
  node_modules/.bin/vitest run "$@"
  code=$?
fi
exit "$code"
