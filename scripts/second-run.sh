# Sourced by test.sh. What failed is run once more, alone, with the same seed (docs/decisions/0019-the-second-run.md).
# $work is a folder of this run. A file of $work holds a line `FILE<tab>TEST` for each test that failed.
FILES_MAX=5
flaky=$work/flaky
: >"$flaky"

# Vitest on a project, as `npm run test:unit` and `test:e2e` have it, which also says what failed.
first_vitest() {
  rm -f "$work/$1"
  FAILED_TESTS="$work/$1" bash scripts/vitest.sh --project "$1" --reporter=default --reporter=./scripts/failed-tests.ts
}

# Pytest beside other things; its cache is new, so that it remembers what failed in this run and nothing else.
first_pytest() {
  rm -rf "$work/python" "$work/pytest"
  local code=0
  .venv/bin/python -m pytest -q -o cache_dir="$work/pytest" "$@" || code=$?
  # 1: tests failed. Anything else is pytest's own failure.
  if [ "$code" -eq 1 ]; then
    .venv/bin/python - "$work/pytest/v/cache/lastfailed" >"$work/python" <<'PYTHON'
import json, os, sys
for test in json.load(open(sys.argv[1])):
    # Pytest counts from where its settings are.
    file, _, name = test.partition("::")
    print(os.path.normpath(os.path.join("python", file)), name, sep="\t")
PYTHON
  fi
  return "$code"
}

# The files that failed, a line each; not where the run itself broke, or so much failed that it cannot be the machine.
failed_files() {
  if [ ! -s "$work/$1" ]; then
    echo "test: the run itself broke; it is not run again" >&2
    return 1
  fi
  local files
  files=$(cut -f 1 "$work/$1" | sort -u)
  if [ "$(wc -l <<<"$files")" -gt "$FILES_MAX" ]; then
    echo "test: more than $FILES_MAX files failed; they are not run again" >&2
    return 1
  fi
  printf '%s\n' "$files"
}

second_vitest() {
  local files
  files=$(failed_files "$1") || return 1
  step "$1 tests, once more and alone: $(tr '\n' ' ' <<<"$files")"
  # shellcheck disable=SC2086 # No file of ours has a space in its name.
  bash scripts/vitest.sh --project "$1" --no-file-parallelism $files || return 1
  cat "$work/$1" >>"$flaky"
}

second_pytest() {
  local files
  files=$(failed_files python) || return 1
  step "Python tests, once more and alone: $(tr '\n' ' ' <<<"$files")"
  .venv/bin/python -m pytest -q -o cache_dir="$work/pytest" --last-failed --last-failed-no-failures none "$@" || return 1
  cat "$work/python" >>"$flaky"
}

# The last words of the gate.
tell_flaky() {
  [ -s "$flaky" ] || return 0
  printf '\n'
  sed 's/^\([^\t]*\)\t/FLAKY, passed when run alone: \1 > /' "$flaky"
  printf 'A flaky test is a fault, of the test or of what it tests. Please mend it (CONTRIBUTING.md).\n'
}
