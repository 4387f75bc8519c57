#!/usr/bin/env bash
# Whether this machine can run a node, as the tests do; if not, says why, and ends with 1.
set -uo pipefail

cannot() {
	echo "$1"
	exit 1
}

[ "$(id -u)" = 0 ] || cannot "the user is not root"
for program in ip mount setpriv tar unshare; do
	command -v "$program" >/dev/null || cannot "the program $program is missing"
done

if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
	controllers=(/sys/fs/cgroup)
else
	controllers=(/sys/fs/cgroup/{cpu,cpuset,devices,memory,pids})
fi
for controller in "${controllers[@]}"; do
	probe="$controller/bulkhead-node-able-$$"
	mkdir "$probe" 2>/dev/null || cannot "no cgroup can be made below $controller"
	rmdir "$probe"
done

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
mkdir "$folder"/{lower,upper,work,merged}
said="$(unshare --mount --net --pid --fork --mount-proc sh -c "
	mount --make-rshared / &&
	mount -t overlay overlay -o lowerdir=$folder/lower,upperdir=$folder/upper,workdir=$folder/work $folder/merged &&
	ip link set lo up" 2>&1)" || cannot "no namespaces with an overlay file system: $said"
