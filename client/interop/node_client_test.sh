#!/bin/bash
# Runs the Node client: node_client_test.sh WITH_DAEMON TDPD
set -eu
source client/interop/npm_modules.sh
NODE_PATH=$npm_modules exec "$1" "$2" \
  node client/interop/node_client.js proto "$npm_modules"
