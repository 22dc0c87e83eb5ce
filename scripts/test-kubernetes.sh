#!/usr/bin/env bash
# Tests the back end `kubernetes` against a real kube-apiserver and etcd, both of this machine: what is missing of them is
# built (Go, 2.5 minutes on 4 cores, once) or unpacked. No kubelet and no controller runs: the tests play their parts.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=$PWD/node_modules/.cache
mkdir -p "$cache"
say() { printf 'test-kubernetes: %s\n' "$1"; }

if ! command -v go >/dev/null; then
  say "Go is missing, and kube-apiserver is built with it. https://go.dev/doc/install" >&2
  exit 1
fi

server=$cache/kube-apiserver
if [ ! -x "$server" ] || [ scripts/kube-apiserver/main.go -nt "$server" ] || [ scripts/kube-apiserver/go.mod -nt "$server" ]; then
  say "building kube-apiserver: some minutes, once"
  (cd scripts/kube-apiserver && nice -n 10 go build -trimpath -ldflags '-s -w' -o "$server.new" .)
  mv "$server.new" "$server"
fi

# Unpacked and not installed: the package would start a service of its own.
etcd=$(command -v etcd || echo "$cache/etcd/usr/bin/etcd")
if [ ! -x "$etcd" ]; then
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    say "etcd is missing: https://etcd.io/docs/latest/install/, or Debian's package etcd-server" >&2
    exit 1
  fi
  say "unpacking Debian's etcd-server"
  package=$(mktemp -d)
  (cd "$package" && { apt-get download -qq etcd-server || { apt-get update -qq && apt-get download -qq etcd-server; }; } 2>/dev/null)
  dpkg-deb --extract "$package"/etcd-server_*.deb "$cache/etcd"
  rm -r "$package"
fi

# KEDA's own definition of its kind, from its released Go module.
keda=$(go mod download -json github.com/kedacore/keda/v2@v2.21.0 | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')

# The package `node` among the development packages is the Node that everything here runs on.
export PATH="$PWD/node_modules/.bin:$PATH"
SLUICE_TEST_APISERVER=$server SLUICE_TEST_ETCD=$etcd SLUICE_TEST_KEDA=$keda/config/crd/bases/keda.sh_scaledobjects.yaml \
  vitest run --config test/kubernetes/vitest.config.ts "$@"
