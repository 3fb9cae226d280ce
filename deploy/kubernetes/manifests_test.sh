#!/bin/bash
# Checks the manifests with Node.
set -eu
source client/interop/npm_modules.sh
NODE_PATH=$npm_modules exec node deploy/kubernetes/manifests_test.js \
  deploy/kubernetes "$npm_modules"
