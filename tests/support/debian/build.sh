#!/usr/bin/env bash
# A root file system of Debian for the tests to change copies of. Prints its folder.
#
# Made once, in the user's cache, by debootstrap (root, and a Debian mirror: BULKHEAD_DEBIAN_MIRROR names
# another one). BULKHEAD_DEBIAN_ROOT, where it is set, is one that is there already.
set -euo pipefail

fail() {
	echo "debian: $1" >&2
	exit 1
}
complete() { [ -e "$1/etc/ssh/sshd_config" ] && [ -e "$1/etc/security/limits.conf" ] && [ -e "$1/etc/crontab" ]; }

if [ -n "${BULKHEAD_DEBIAN_ROOT:-}" ]; then
	complete "$BULKHEAD_DEBIAN_ROOT" || fail "BULKHEAD_DEBIAN_ROOT=$BULKHEAD_DEBIAN_ROOT lacks what openssh-server, cron or libpam-modules bring"
	echo "$BULKHEAD_DEBIAN_ROOT"
	exit 0
fi

cache="${XDG_CACHE_HOME:-$HOME/.cache}/bulkhead/debian"
if complete "$cache/root"; then
	echo "$cache/root"
	exit 0
fi
command -v debootstrap >/dev/null || fail "there is no debootstrap: run 'apt-get install debootstrap' as root"

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9 # Another may be at it.
if ! complete "$cache/root"; then
	rm -rf --one-file-system "$cache/new"
	# What it mounts in there goes with the namespace.
	unshare --mount --propagation private debootstrap --variant=minbase \
		--include=openssh-server,sudo,cron,procps bookworm "$cache/new" \
		${BULKHEAD_DEBIAN_MIRROR:+"$BULKHEAD_DEBIAN_MIRROR"} >"$cache/build.log" 2>&1 ||
		fail "debootstrap failed: see $cache/build.log; name a mirror in BULKHEAD_DEBIAN_MIRROR, or a tree in BULKHEAD_DEBIAN_ROOT"
	# Nothing is run in it, and copies of it are made.
	rm -rf "$cache/new"/usr/share/{doc,man,locale,info} "$cache/new"/var/cache/apt "$cache/new"/var/lib/apt/lists
	mv "$cache/new" "$cache/root"
fi
echo "$cache/root"
