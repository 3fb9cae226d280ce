#!/bin/bash
# Replays the calls of proto/README.md: proto_readme_test.sh WITH_DAEMON TDPD
set -eu
source client/interop/npm_modules.sh
export HOME=$home
exec "$1" "$2" /usr/bin/python3 client/interop/proto_readme_test.py \
  proto/README.md proto/tdp/v1/error.proto "$npm_modules/.bin/buf"
