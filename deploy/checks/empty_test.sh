#!/bin/bash
# Fails if the file is not empty: each line is a dependency that must not be.
set -euo pipefail

if [[ -s "$1" ]]; then
  echo "dependencies across a layer that must not be:"
  cat "$1"
  exit 1
fi
