#!/bin/sh
# Makes the first API key of a store and prints its secret, once. A server that others can reach does not start without
# one, and a server on loopback takes the first key from anyone on its machine: this one runs for a moment, by itself.
set -eu
sluice serve --role ingress --host 127.0.0.1 --port 7700 --health-port 7701 --ingress-threads 1 >/tmp/first-key.log 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true' EXIT
until node -e 'fetch("http://127.0.0.1:7701/readyz").then((a) => process.exit(a.ok ? 0 : 1), () => process.exit(1))'; do
  kill -0 "$server" 2>/dev/null || { cat /tmp/first-key.log >&2; exit 1; }
done
if SLUICE_URL=http://127.0.0.1:7700 sluice keys create "${1:-operator}" --scope call --scope deploy --scope admin 2>/tmp/why; then
  echo "This is the secret of the API key; it is shown this once."
elif grep -qi 'key' /tmp/why; then
  echo "The store has API keys already."
else
  cat /tmp/why >&2
  exit 1
fi
