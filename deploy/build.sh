#!/usr/bin/env bash
# The daemon of the image: one static binary, laid out by a profile.
#
#   deploy/build.sh OUT
set -euo pipefail

out="$(realpath "${1:?usage: deploy/build.sh OUT}")"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=x86_64-unknown-linux-musl
deploy/layout.sh --check

# Symbols and relocations are what it is laid out by (deploy/layout.sh says why without init and fini); they are
# stripped then.
CARGO_PROFILE_DIST_STRIP=none cargo rustc --locked --profile dist --target "$target" -p bulkhead --bin bulkhead -- \
	-Clink-arg=-Wl,--emit-relocs,-init=none,-fini=none
folder="$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')"
deploy/layout.sh --strip "$folder/$target/dist/bulkhead" "$out"
