#!/usr/bin/env bash
# Builds render.go, once, into the user's cache, with Debian's Go and its packages of the libraries that Helm
# has, too. Prints the program's path.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/bulkhead/helm"
program="$cache/render-$(sha256sum "$here/render.go" | cut -c1-16)"
log="$cache/build.log"
fail() {
	echo "the renderer of the Helm chart: $1; see $log" >&2
	exit 1
}

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9 # Another may be at it.
if [ -x "$program" ]; then
	echo "$program"
	exit 0
fi

# The control plane's build may have left the one, and the machine may have the other.
go() { PATH="$PATH:/usr/lib/go/bin:/usr/lib/go-1.19/bin" command go "$@"; }
libraries=(golang-github-masterminds-sprig-dev golang-k8s-sigs-yaml-dev)
missing=()
go version >/dev/null 2>&1 || missing+=(golang-go)
dpkg -s "${libraries[@]}" >/dev/null 2>&1 || missing+=("${libraries[@]}")
if [ "${#missing[@]}" -gt 0 ]; then
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}"; } \
		>"$log" 2>&1 || fail "installing ${missing[*]} failed"
fi
GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS= CGO_ENABLED=0 GOCACHE="$cache/gocache" \
	go build -trimpath -o "$program.new" "$here/render.go" >>"$log" 2>&1 || fail "the build failed"
rm -rf "$cache/gocache"
# By rename, so that what is there is whole.
mv "$program.new" "$program"
echo "$program"
