#!/usr/bin/env bash
# Plugins in other languages than Rust, as components.
#
#   build.sh tools               installs their toolchains, once, in the user's cache
#   build.sh python|javascript   builds one by the commands of its page in the book, unless the cache has it, and
#                                prints its path
#
# Versions are pinned (requirements.txt, package-lock.json), and nothing is installed but in the cache.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
wit="$here/../../sdk/wit"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/bulkhead/languages"
fail() {
	echo "plugins in other languages: $1; see $log" >&2
	exit 1
}
install() {
	apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends "$@"
}
# Of all files that are named, and of what is in folders.
hash_of() { find "$@" -type f -print0 | sort -z | xargs -0 cat | sha256sum | cut -c1-16; }
# What docs/python.md or docs/javascript.md tells the reader to do.
commands() { awk '/^```sh,languages/ { on = 1; next } /^```/ { on = 0 } on' "$here/../../docs/$1.md"; }

mkdir -p "$cache"
log="$cache/build.log"
exec 9>"$cache/lock"
flock 9 # Another may be at it.

python_tools() {
	tools="$cache/python-$(hash_of "$here/python/requirements.txt")"
	[ -e "$tools/done" ] && return
	rm -rf "$tools"
	python3 -m venv "$tools" >"$log" 2>&1 \
		|| { install python3-venv && python3 -m venv --clear "$tools"; } >>"$log" 2>&1 \
		|| fail "python3 has no module venv, and it could not be installed"
	"$tools/bin/pip" install -q --retries 1 --timeout 20 -r "$here/python/requirements.txt" >>"$log" 2>&1 || fail "pip failed"
	touch "$tools/done"
}

javascript_tools() {
	tools="$cache/javascript-$(hash_of "$here/javascript/package-lock.json" "$here/../../docs/javascript.md")"
	export npm_config_cache="$tools/cache" npm_config_audit=false npm_config_fund=false
	[ -e "$tools/done" ] && return
	command -v npm >/dev/null \
		|| { install nodejs npm; } >"$log" 2>&1 \
		|| fail "there is no npm, and it could not be installed"
	node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>>"$log" \
		|| fail "Node.js 20 or later is needed, and this is $(node --version)"
	rm -rf "$tools"
	mkdir -p "$tools"
	cp "$here/javascript/package.json" "$here/javascript/package-lock.json" "$tools"
	npm ci --fetch-retries=1 --fetch-timeout=30000 --silent --prefix "$tools" >>"$log" 2>&1 || fail "npm failed"
	# As the page does it: npm 11 asks the registry about what is named, even where it is installed. Kept in `cache`.
	(cd "$tools" && eval "$(commands javascript | grep '^npm install')") >>"$log" 2>&1 || fail "npm failed"
	touch "$tools/done"
}

case "${1:-}" in
tools)
	python_tools
	javascript_tools
	exit
	;;
python) sources=("$here/python") ;;
javascript) sources=("$here/javascript") ;;
*)
	echo "usage: $0 tools|python|javascript" >&2
	exit 2
	;;
esac

component="$cache/levels-$1-$(hash_of "${sources[@]}" "$here/world.wit" "$wit")-$(commands "$1" | sha256sum | cut -c1-8).wasm"
if [ ! -e "$component" ]; then
	"$1_tools"
	work="$(mktemp -d)"
	trap 'rm -rf "$work"' EXIT
	cp -r "${sources[0]}/." "$work"
	mkdir -p "$work/wit/deps/bulkhead"
	cp "$here/world.wit" "$work/wit"
	cp "$wit"/*.wit "$work/wit/deps/bulkhead"
	cd "$work"
	# The tools are installed, and the commands that install them find that.
	case "$1" in
	python) export PATH="$tools/bin:$PATH" PIP_NO_INDEX=1 ;;
	javascript)
		cp -r "$tools/node_modules" .
		export npm_config_offline=true
		;;
	esac
	bash -euo pipefail -c "$(commands "$1")" >"$log" 2>&1 || fail "the build failed"
	mv levels.wasm "$component.new"
	mv "$component.new" "$component"
fi
echo "$component"
