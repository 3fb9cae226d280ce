#!/bin/bash
# Plays `./deploy/dev.sh demo` with programs that are built already:
#
#   demo_test.sh TDPD TDPCTL
set -euo pipefail

REPO="$(dirname "$(realpath README.md)")"
readonly TDPD="$PWD/$1" TDPCTL="$PWD/$2"
export HOME="$TEST_TMPDIR"

# shellcheck source=deploy/lib/common.sh
source "$REPO/deploy/lib/common.sh"
# shellcheck source=deploy/lib/daemon.sh
source "$REPO/deploy/lib/daemon.sh"

build_binaries() {
  mkdir -p "$BIN_DIR"
  install "$TDPD" "$TDPCTL" "$BIN_DIR/"
}

verb_demo
