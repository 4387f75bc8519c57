#!/usr/bin/env bash
# Runs a command on a node of its own: with process ids, mounts and a network that nothing else has, and
# nothing of this machine in /run, /var/log and the folders that the kubelet and the daemon have in
# /var/lib. What it starts ends with it, however it ends.
#
#   run.sh FOLDER COMMAND...
#
# FOLDER takes what the node writes, and gives its name to the node's cgroup. Both are gone afterwards.
set -euo pipefail

# What the kubelet sets for the whole machine; here it sets copies.
settings=(vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops
	kernel/keys/root_maxkeys kernel/keys/root_maxbytes)
# The node's own address (a kubelet refuses one of 127.0.0.0/8) and that of the Service `kubernetes`.
addresses=(10.123.0.1 10.96.0.1)

inside() {
	# As systemd makes it: volumes with mountPropagation need it.
	mount --make-rshared /
	local path
	# Copied on write, so that folders can be made there that the machine does not have.
	for path in /var/lib "$(realpath /lib)"; do
		mkdir -p "$folder/written$path"/{upper,work}
		mount -t overlay overlay "$path" \
			-o "lowerdir=$path,upperdir=$folder/written$path/upper,workdir=$folder/written$path/work"
	done
	for path in /run /var/log /var/lib/bulkhead /var/lib/kubelet; do
		mkdir -p "$folder$path" "$path"
		mount --bind "$folder$path" "$path"
	done
	for path in "${settings[@]}"; do
		mkdir -p "$folder/settings/${path%/*}"
		cat "/proc/sys/$path" >"$folder/settings/$path"
		mount --bind "$folder/settings/$path" "/proc/sys/$path"
	done
	ip link set lo up
	for path in "${addresses[@]}"; do ip address add "$path/32" dev lo; done
	# Not by exec: the first process must take in the orphans.
	"$@"
}

folder="$1"
shift
if [ -n "${BULKHEAD_INSIDE_NODE:-}" ]; then
	inside "$@"
	exit
fi

if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
	hierarchies=(/sys/fs/cgroup)
else
	hierarchies=(/sys/fs/cgroup/*/)
fi
cgroup="bulkhead-${folder##*/}"
child=

leave() {
	trap '' TERM INT
	[ -z "$child" ] || kill -KILL "$child" 2>/dev/null || true
	wait || true
	local hierarchy try
	for hierarchy in "${hierarchies[@]}"; do
		# The kernel may hold on to them for a moment.
		for try in {1..50}; do
			[ -d "$hierarchy/$cgroup" ] || break
			find "$hierarchy/$cgroup" -depth -type d -exec rmdir {} \; 2>/dev/null || true
			sleep 0.1
		done
	done
	rm -rf --one-file-system "$folder"
}
trap leave EXIT
trap 'exit 1' TERM INT

for hierarchy in "${hierarchies[@]}"; do mkdir -p "$hierarchy/$cgroup"; done
BULKHEAD_INSIDE_NODE="$cgroup" unshare --mount --net --pid --ipc --uts --fork --kill-child --mount-proc \
	"$0" "$folder" "$@" &
child=$!
wait "$child"
