#!/usr/bin/env bash
# Deploys a function, submits rows, polls and reads the results, with curl alone. The server is at SLUICE_URL.
set -euo pipefail
cd "$(dirname "$0")"
url=${SLUICE_URL:-http://127.0.0.1:7700}
call() { curl --silent --show-error --fail-with-body ${SLUICE_API_KEY:+-H "Authorization: Bearer $SLUICE_API_KEY"} "$@"; }
field() { sed -E "s/.*\"$1\": ?\"([^\"]*)\".*/\1/"; }

echo "== deploy"
source=$(base64 < words.mjs | tr -d '\n')
call "$url/v1/functions" -H 'Content-Type: application/json' -o /dev/null -d @- <<JSON
{"function": {"name": "words", "runtime": "node", "handler": {"file": "words.mjs", "attribute": "words"},
 "inputs": [{"name": "text", "type": "utf8", "nullable": false}], "output": {"type": "int32", "nullable": false},
 "max_batching_size": 100, "max_buffer_duration": 10, "source": [{"path": "words.mjs", "content": "$source"}]}}
JSON

echo "== submit three rows; the same Idempotency-Key again attaches to the same call"
key="example-$$-$RANDOM"
body='{"columns": {"text": ["one", "one two", "one two three"]}}'
accepted=$(call "$url/v1/functions/words/calls" -H 'Content-Type: application/json' -H "Idempotency-Key: $key" -d "$body")
echo "$accepted"
id=$(echo "$accepted" | field call_id)
test "$id" = "$(call "$url/v1/functions/words/calls" -H 'Content-Type: application/json' -H "Idempotency-Key: $key" -d "$body" | field call_id)"

echo "== wait for it, at most 30 seconds, and read the results"
call "$url/v1/calls/$id?wait=30" -o /dev/null
call "$url/v1/calls/$id/result" -H 'Accept: application/json'
echo

echo "== or in one request"
call "$url/v1/functions/words/calls" -H 'Content-Type: application/json' -H 'Prefer: wait=30' -H 'Accept: application/json' \
  -d '{"rows": [{"text": "submit and wait"}]}'
echo
