#!/bin/bash
# Debian's own check finds no error: lintian_test.sh TDPD TDPCTL TDPBENCH
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
package="$(deploy/debian/build_package.sh "$folder" "$@")"
lintian --allow-root --fail-on=error "$package"
