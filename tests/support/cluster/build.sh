#!/usr/bin/env bash
# What the tests need of Kubernetes. Prints the folder that holds it.
#
#   build.sh        etcd and kube-apiserver
#   build.sh node   and what makes a node of them: kubelet, kube-controller-manager, kube-scheduler,
#                   containerd, runc and busybox
#
# They are made once, in the user's cache: those of Kubernetes from Debian's source package (some
# minutes), the others are Debian's. KUBEBUILDER_ASSETS, where it is set, is the folder of the first two;
# a node is always of what is made here, because a kubelet may not be older than its API server by much.
set -euo pipefail

packaged=(etcd)
built=(kube-apiserver)
case "${1:-}" in
"") ;;
node)
	packaged+=(containerd containerd-shim-runc-v2 ctr runc busybox)
	built+=(kube-controller-manager kube-scheduler kubelet)
	;;
*)
	echo "usage: $0 [node]" >&2
	exit 2
	;;
esac

missing_in() {
	local folder="$1" name
	shift
	for name in "$@"; do [ -x "$folder/$name" ] || echo "$name"; done
}
complete() { [ -z "$(missing_in "$1" "${packaged[@]}" "${built[@]}")" ]; }
fail() {
	echo "control plane: $1" >&2
	exit 1
}

if [ "${1:-}" != node ] && [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
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

# By rename, so that what is there is whole.
put() {
	install -m 0755 "$1" "$cache/$(basename "$1").new"
	mv "$cache/$(basename "$1").new" "$cache/$(basename "$1")"
}

apt-get update -qq

# Programs of Debian's packages, taken out of them: nothing is installed, and no service started.
for name in $(missing_in "$cache" "${packaged[@]}"); do
	case "$name" in
	etcd) package=etcd-server ;;
	busybox) package=busybox-static ;;
	runc) package=runc ;;
	*) package=containerd ;;
	esac
	if [ ! -d "$work/$package" ]; then
		echo "control plane: fetching $package"
		apt-get download -qq "$package" 2>/dev/null || fail "Debian's package $package could not be fetched"
		dpkg-deb -x "$package"_*.deb "$package"
	fi
	put "$(find "$package" -type f -path "*bin/$name" -print -quit)"
done

mapfile -t build < <(missing_in "$cache" "${built[@]}")
if [ "${#build[@]}" -gt 0 ]; then
	echo "control plane: building ${build[*]}, which takes some minutes (log: $cache/build.log)"
	# 1.20 builds with Go 1.19 at most, and only by its own make: part of its code is generated.
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		golang-1.19-go make rsync jq dpkg-dev >>"$cache/build.log" 2>&1 ||
		fail "installing golang-1.19-go make rsync jq dpkg-dev failed; see $cache/build.log"
	# The sources of the machine's own mirror, in lists of their own: the system's stay as they are.
	mkdir -p apt/parts apt/lists/partial apt/cache
	sed 's/^Types:.*/Types: deb-src/' /etc/apt/sources.list.d/debian.sources >apt/parts/debian.sources ||
		fail "this machine has no /etc/apt/sources.list.d/debian.sources; for etcd and kube-apiserver, KUBEBUILDER_ASSETS may name a folder"
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
	# Together, so that what they share is compiled once.
	PATH="/usr/lib/go-1.19/bin:$PATH" GOPATH="$work/gopath" GO111MODULE=off CGO_ENABLED=0 \
		make WHAT="${build[*]/#/cmd/}" GOLDFLAGS="-s -w" >>"$cache/build.log" 2>&1 ||
		fail "the build failed; see $cache/build.log"
	for name in "${build[@]}"; do
		put "$(find _output/local -type f -name "$name" -print -quit)"
	done
fi
cd "$cache"
rm -rf "$work"
echo "$cache" >&3
