#!/usr/bin/env bash
# Moves the functions of the daemon that run side by side together, which saves every node some MiB of program
# pages: instruments the binary, has it do what it does on a node, and lays it out by what was counted.
#
#   deploy/layout.sh [--strip] BINARY OUT   takes minutes and up to 11 GiB of memory, on Linux 5.4 or later; --strip
#                                           leaves no symbols
#   deploy/layout.sh --check                whether there is all that it needs
#
# BINARY has its relocations and symbols (-Clink-arg=-Wl,--emit-relocs). A static one has neither DT_INIT nor DT_FINI
# besides (-Wl,-init=none,-fini=none): the first misleads the instrumentation, and the second, which such a binary
# does not use, keeps it from writing what it counted.
set -euo pipefail
fail() { echo "layout.sh: $*" >&2; exit 1; }

# By this path: the links in /usr/bin do not find the instrumentation's library.
tools=/usr/lib/llvm-19/bin
[ -x "$tools/llvm-bolt" ] && [ -e "$tools/../lib/libbolt_rt_instr.a" ] ||
	fail "needs llvm-bolt 19: apt-get install bolt-19 libbolt-19-dev"
for tool in curl nm openssl prlimit python3 setpriv; do
	command -v "$tool" >/dev/null || fail "needs $tool: apt-get install binutils curl openssl python3 util-linux"
done
[ "$*" != --check ] || exit 0

strip=()
[ "${1-}" != --strip ] || { strip=(-remove-symtab); shift; }
[ "$#" = 2 ] || fail "usage: layout.sh [--strip] BINARY OUT"
[ -x "$1" ] || fail "there is no program $1"
binary="$(realpath "$1")"
out="$(realpath "$2")"
[[ "$(readelf --sections --wide "$binary")" == *" .rela.text "* ]] ||
	fail "$1 has no relocations: link it with -Clink-arg=-Wl,--emit-relocs"

source="$(dirname "$(realpath "${BASH_SOURCE[0]}")")"
folder="$(mktemp -d "${TMPDIR:-/tmp}/bulkhead-layout.XXXXXX")"
daemon= peers=
clean() {
	[ -z "$daemon$peers" ] || { kill -KILL $daemon $peers; wait; } 2>/dev/null || true
	rm -rf "$folder"
}
trap clean EXIT
say() { printf '%s  %s\n' "$(date +%T)" "$*"; }

# What BOLT says is shown if it fails.
bolt() {
	"$tools/llvm-bolt" "$@" >"$folder/bolt.log" 2>&1 || { cat "$folder/bolt.log" >&2; fail "llvm-bolt failed"; }
}

# until_true SECONDS WHAT COMMAND...
until_true() {
	local end=$((SECONDS + $1)) what="$2"
	shift 2
	until "$@" >"$folder/said" 2>&1; do
		[ "$SECONDS" -lt "$end" ] || {
			grep -v '"level":"INFO"' "$folder/daemon.log" >&2 || true
			cat "$folder/said" >&2
			fail "waited in vain for $what"
		}
		sleep 0.2
	done
}

get() { curl --silent --fail --noproxy "*" --max-time 60 --header "Authorization: Bearer token" "http://$address$1" "${@:2}"; }

# start PROGRAM OPTIONS: until the daemon has loaded everything. Of the environment nothing is to change what it does.
start() {
	: >"$folder/daemon.log" # Of the daemon before, with its address.
	env --ignore-environment PATH="$PATH" HOME="$folder" "$1" run "${@:2}" --status 127.0.0.1:0 --log-format json \
		2>>"$folder/daemon.log" &
	daemon=$!
	address=
	until_true 60 "the daemon's address" grep -q '"status":"http' "$folder/daemon.log"
	address="$(sed -n 's#.*"status":"http://\([^/"]*\).*#\1#p' "$folder/daemon.log")"
	until_true 120 "the daemon to be ready" get /readyz
}

ended() { ! kill -0 "$daemon"; }
stop() {
	kill -TERM "$daemon"
	until_true 60 "the daemon to end" ended
	wait "$daemon" || fail "the daemon failed: $(tail -n 5 "$folder/daemon.log")"
	daemon=
}

# counted NAME: keeps what was counted, which is written when the daemon ends. Not what its children did.
counted() {
	local pid="$daemon"
	stop
	mv "$folder/profile.$pid.fdata" "$folder/$1.counted" || fail "the daemon wrote no profile"
	rm -f "$folder"/profile.*
}

# running COUNT: so many plugins run, as declared, and have never been restarted.
running() {
	get /v1/plugins | python3 -c '
import json, sys
plugins = json.load(sys.stdin)["items"]
bad = [it for it in plugins if it["phase"] != "Running" or it["restarts"] or it["rollbacks"] or any(c["status"] != "True" for c in it["conditions"])]
for it in bad:
    print(it["name"], it["phase"], "restarts:", it["restarts"], *(c["message"] for c in it["conditions"]))
sys.exit(bool(bad) or len(plugins) != int(sys.argv[1]))' "$1"
}

. "$source/layout/training.sh"
local=(--manifests "$folder/manifests" --policy "$source/layout/policy.yaml" --state "$folder/state")

say "instrumenting"
strip --strip-debug -o "$folder/plain" "$binary"
# The instrumentation cannot write down longer names than some kilobytes, and then ends the daemon.
nm "$folder/plain" |
	awk 'length($3) > 4000 { name = substr($3, 1, 60); gsub(/[$.]/, ".", name); print name ".*" }' >"$folder/left-out"
# It takes jumps to computed places for calls at the end of functions (-strict), or it would not count in those that have
# one, such as wakers. What is laid out is not built on that guess.
bolt "$folder/plain" -instrument -strict -instrumentation-file="$folder/profile" -instrumentation-file-append-pid \
	-skip-funcs-file="$folder/left-out" -o "$folder/instrumented"

# Compiling the plugins' code is left out: it is done by a child, and its pages are gone with it.
say "compiling the plugins"
prepare "${kinds[@]}"
start "$folder/plain" "${local[@]}"
until_true 120 "all plugins to run" running "$(declared)"
stop

say "training"
prepare "${kinds[@]}"
start "$folder/instrumented" "${local[@]}"
until_true 120 "all plugins to run" running "$(declared)"
counted once
start "$folder/instrumented" --manifests "$folder/none" --state "$folder/fresh"
idle
counted idle
start "$folder/instrumented" --kubernetes --kubeconfig "$folder/kubeconfig" --node-name node --status-auth kubernetes \
	--state "$folder/state"
until_true 120 "the cluster's plugin to run" running 1
for _ in {1..20}; do
	ask
	sleep 0.5
done
counted cluster
for kind in "${kinds[@]}"; do
	prepare "$kind"
	start "$folder/instrumented" "${local[@]}"
	until_true 120 "the plugins of $kind to run" running "$(declared)"
	work "$kind"
	counted "$kind"
done

# By calls, as BOLT would have them; but what every daemon runs again and again comes first, then what several kinds of
# plugins do, and each of them, then what is run once. All code is moved, into the place of the old; what was never run
# comes last.
say "laying out"
profiles=()
for name in once idle cluster "${kinds[@]}"; do
	profiles+=("$folder/$name.counted")
done
"$tools/merge-fdata" "${profiles[@]}" >"$folder/merged" 2>"$folder/bolt.log" || fail "$(cat "$folder/bolt.log")"
options=(-data="$folder/merged" -reorder-blocks=ext-tsp -split-functions -split-all-cold -split-eh
	-lite=0 -use-old-text -no-huge-pages "${strip[@]}")
bolt "$folder/plain" "${options[@]}" -reorder-functions=cdsort -generate-function-order="$folder/by-calls" -o "$folder/laid-out"
python3 "$source/layout/order.py" "$folder/by-calls" "${profiles[@]}" >"$folder/order"
bolt "$folder/plain" "${options[@]}" -reorder-functions=user -function-order="$folder/order" -o "$folder/laid-out"
python3 "$source/layout/tables.py" "$folder/laid-out"

say "checking"
[[ "$(readelf --program-headers --wide "$folder/laid-out")" =~ GNU_STACK\ .*\ RW\  ]] || fail "its stack can be executed"
# A panic whose backtrace goes to the end of the stack: a child that compiles may not start threads.
chmod 755 "$folder"
cp "$folder/laid-out" "$folder/panics"
as=()
[ "$(id --user)" != 0 ] || as=(setpriv --reuid=65534 --clear-groups)
code=0
RUST_BACKTRACE=1 "${as[@]}" prlimit --nproc=1 "$folder/panics" compile-module \
	</dev/null >"$folder/said" 2>&1 || code=$?
[ "$code" = 101 ] && grep -q '^stack backtrace' "$folder/said" || {
	cat "$folder/said" >&2
	fail "a panic ended the program with $code instead of 101 and a backtrace"
}
prepare "${kinds[@]}"
start "$folder/laid-out" "${local[@]}"
until_true 120 "all plugins to run" running "$(declared)"
work "${kinds[@]}"
stop
mv "$folder/laid-out" "$out"
say "$out"
