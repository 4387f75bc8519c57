#!/usr/bin/env bash
# The software bill of materials: what is compiled into the daemon and into each plugin that it bundles, as
# CycloneDX 1.5. Fails if a crate that cargo would compile in is missing.
#
#   deploy/sbom.sh FOLDER   write NAME.cdx.json for each into FOLDER
#   deploy/sbom.sh          only get the tool, into the user's cache, which takes some minutes
set -euo pipefail

version=0.5.9
target="${BULKHEAD_TARGET:-x86_64-unknown-linux-musl}" # What deploy/Containerfile builds for.
tools="${XDG_CACHE_HOME:-$HOME/.cache}/bulkhead/tools"
tool="$tools/bin/cargo-cyclonedx"

if [ "$("$tool" cyclonedx --version 2>/dev/null)" != "cargo-cyclonedx-cyclonedx $version" ]; then
	echo "building cargo-cyclonedx $version, once" >&2
	cargo install --quiet --locked --force --root "$tools" "cargo-cyclonedx@$version"
fi
[ "$#" -gt 0 ] || exit 0

mkdir -p "$1"
folder="$(cd "$1" && pwd)"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# One commit has one bill.
if epoch="$(git log -1 --format=%ct 2>/dev/null)"; then export SOURCE_DATE_EPOCH="$epoch"; fi

# The tool writes beside the manifest of every crate of the workspace.
name=".sbom-$$"
clean() { find . -path ./target -prune -o -name "$name.json" -exec rm -f {} +; }
trap clean EXIT

# bill CRATE FOLDER TARGET
bill() {
	"$tool" cyclonedx --quiet --format json --spec-version 1.5 --no-build-deps --target "$3" \
		--manifest-path "$2/Cargo.toml" --override-filename "$name"
	local written="$folder/$1.cdx.json"
	mv "$2/$name.json" "$written"
	local crates crate
	crates="$(cargo tree --locked --quiet --package "$1" --edges normal,no-proc-macro --target "$3" --prefix none --format '{p}' |
		sed -E 's/^([^ ]+) v([^ ]+).*/\1@\2/' | sort -u)"
	for crate in $crates; do
		grep -qF "\"pkg:cargo/$crate" "$written" || {
			echo "$written lacks $crate" >&2
			exit 1
		}
	done
	echo "$written: $(wc -l <<<"$crates") crates"
}

bill bulkhead runtime "$target"
for plugin in plugins/*/; do
	bill "$(basename "$plugin")" "${plugin%/}" wasm32-wasip2
done
