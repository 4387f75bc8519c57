#!/usr/bin/env bash
# What the tests need of Kubernetes: etcd and kube-apiserver. Prints the folder that holds both.
#
# KUBEBUILDER_ASSETS, where it is set, is that folder. Otherwise they are made once, in the user's cache:
# etcd from Debian's package, kube-apiserver built from Debian's source package (some minutes).
set -euo pipefail

complete() { [ -x "$1/etcd" ] && [ -x "$1/kube-apiserver" ]; }
fail() {
	echo "control plane: $1" >&2
	exit 1
}

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
	complete "$KUBEBUILDER_ASSETS" || fail "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS has no etcd or no kube-apiserver"
	echo "$KUBEBUILDER_ASSETS"
	exit 0
fi

cache="${XDG_CACHE_HOME:-$HOME/.cache}/bulkhead/control-plane"
if complete "$cache"; then
	echo "$cache"
	exit 0
fi

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9 # Another may be at it.
if complete "$cache"; then
	echo "$cache"
	exit 0
fi

: >"$cache/build.log"
exec 3>&1 1>&2 # Only the folder goes to standard output.
work="$cache/work"
rm -rf "$work"
mkdir -p "$work"
cd "$work"

echo "control plane: fetching etcd"
apt-get update -qq
apt-get download -qq etcd-server 2>/dev/null
dpkg-deb -x etcd-server_*.deb etcd
install -m 0755 etcd/usr/bin/etcd "$cache/etcd"

echo "control plane: building kube-apiserver, which takes some minutes (log: $cache/build.log)"
# 1.20 builds with Go 1.19 at most, and only by its own make: part of its code is generated.
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	golang-1.19-go make rsync jq dpkg-dev >>"$cache/build.log" 2>&1 ||
	fail "installing golang-1.19-go make rsync jq dpkg-dev failed; see $cache/build.log"
# The sources of the machine's own mirror, in lists of their own: the system's stay as they are.
mkdir -p apt/parts apt/lists/partial apt/cache
sed 's/^Types:.*/Types: deb-src/' /etc/apt/sources.list.d/debian.sources >apt/parts/debian.sources ||
	fail "this machine has no /etc/apt/sources.list.d/debian.sources; set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver"
own=(-o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$work/apt/parts"
	-o "Dir::State::Lists=$work/apt/lists" -o "Dir::Cache=$work/apt/cache")
apt-get "${own[@]}" update -qq 2>>"$cache/build.log"
apt-get "${own[@]}" source -qq kubernetes >>"$cache/build.log" 2>&1 ||
	fail "fetching the source package kubernetes failed; see $cache/build.log"
# Its copy of reflect2 corrupts memory when built with Go 1.18 or later; Debian has a newer one.
apt-get download -qq golang-github-modern-go-reflect2-dev 2>/dev/null
dpkg-deb -x golang-github-modern-go-reflect2-dev_*.deb reflect2
mkdir -p gopath/src/k8s.io
mv kubernetes-*/ gopath/src/k8s.io/kubernetes
rm -rf gopath/src/k8s.io/kubernetes/vendor/github.com/modern-go/reflect2
mv reflect2/usr/share/gocode/src/github.com/modern-go/reflect2 gopath/src/k8s.io/kubernetes/vendor/github.com/modern-go/
cd gopath/src/k8s.io/kubernetes
PATH="/usr/lib/go-1.19/bin:$PATH" GOPATH="$work/gopath" GOCACHE="$work/gocache" GO111MODULE=off CGO_ENABLED=0 \
	make WHAT=cmd/kube-apiserver GOLDFLAGS="-s -w" >>"$cache/build.log" 2>&1 ||
	fail "the build failed; see $cache/build.log"
built="$(find _output/local -type f -name kube-apiserver -print -quit)"
# By rename, so that what is there is whole.
install -m 0755 "$built" "$cache/kube-apiserver.new"
mv "$cache/kube-apiserver.new" "$cache/kube-apiserver"
cd "$cache"
rm -rf "$work"
echo "$cache" >&3
