#!/usr/bin/env bash
# Builds the S3 server of the tests where Go is there (half a minute of one core, once). Without Go those tests are
# skipped and say so.
set -euo pipefail
cd "$(dirname "$0")/../test/support/s3-server"
out=../../../node_modules/.cache/s3-server
if ! command -v go >/dev/null; then
  echo "s3-server: Go is missing, so the tests of large payloads in a bucket are skipped. https://go.dev/doc/install"
  exit 0
fi
if [ -x "$out" ] && [ ! main.go -nt "$out" ] && [ ! go.mod -nt "$out" ]; then exit 0; fi
mkdir -p "$(dirname "$out")"
go build -o "$out" .
