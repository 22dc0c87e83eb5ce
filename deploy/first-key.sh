#!/bin/sh
# Makes the first API key of a store and prints its secret, once. A server that others can reach does not start without
# one, and a server on loopback takes the first key from anyone on its machine: this one runs for a moment, by itself.
set -eu
sluice serve --role ingress --host 127.0.0.1 --port 0 --health-port 0 --ingress-threads 1 >/tmp/first-key.log 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true' EXIT
until url=$(grep -om1 'listens on http://[0-9.:]*' /tmp/first-key.log); do
  kill -0 "$server" 2>/dev/null || { cat /tmp/first-key.log >&2; exit 1; }
  sleep 0.1
done
export SLUICE_URL="${url#listens on }"
if sluice keys create "${1:-operator}" --scope call --scope deploy --scope admin 2>/tmp/why; then
  echo "This is the secret of the API key; it is shown this once."
elif grep -qi 'authorization' /tmp/why; then
  echo "The store has API keys already."
else
  cat /tmp/why >&2
  exit 1
fi
