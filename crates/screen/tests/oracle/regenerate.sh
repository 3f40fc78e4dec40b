#!/bin/sh
# Records golden.json anew. See README.md.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cargo run -q --manifest-path "$here/../../Cargo.toml" --example oracle_cases -- "$folder"
perl "$here/oracle.pl" "$folder" > "$folder/golden.json"
mv "$folder/golden.json" "$here/golden.json"
