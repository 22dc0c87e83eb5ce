#!/usr/bin/env bash
# The main job on real input: start Sluice, deploy the model, embed the standard library's docstrings, search in them.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
server=
cleanup() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap cleanup EXIT
step() { printf '\n\033[1m== %s\033[0m\n' "$1"; }

export SLUICE_PYTHON="$PWD/.venv/bin/python"
rows=${DEMO_ROWS:-1500}

step "1. Start Sluice: npx sluice dev"
node_modules/.bin/sluice dev --port "${DEMO_PORT:-0}" --data "$work/data" --log-level warn >"$work/server.log" 2>&1 &
server=$!
for _ in $(seq 300); do
  url=$(sed -nE 's,^Sluice listens on (http://[^ ]+).*,\1,p' "$work/server.log" | head -n 1 || true)
  if [ -n "$url" ]; then break; fi
  if ! kill -0 "$server" 2>/dev/null; then cat "$work/server.log"; exit 1; fi
  sleep 0.1
done
export SLUICE_URL=$url
grep "^Sluice listens" "$work/server.log"

step "2. Deploy the model: npx sluice deploy examples/minilm/embed.py"
node_modules/.bin/sluice deploy examples/minilm/embed.py

step "3. Real text that every machine has: $rows docstrings of Python's standard library"
.venv/bin/python examples/minilm/documents.py --output docs.parquet --limit "$rows"

step "4. Embed them: npx sluice run --function embed --input docs.parquet --column text --output embeddings.parquet"
node_modules/.bin/sluice run --function embed --input docs.parquet --column text --output embeddings.parquet

step "5. Search in embeddings.parquet by meaning"
.venv/bin/python examples/minilm/search.py
printf '\nDone: docs.parquet and embeddings.parquet are here. Ask your own:\n  %s\n' \
  '.venv/bin/python examples/minilm/search.py --local "read a file line by line"'
