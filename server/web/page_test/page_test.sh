#!/bin/bash
# Tests the web page in Chromium: page_test.sh TDPD
#
# With TDPD_SCREENSHOTS=FOLDER it makes the pictures of deploy/README.md there
# instead.
set -eu
# shellcheck source=client/interop/npm_modules.sh
source client/interop/npm_modules.sh
script=page_test.js
[[ -z "${TDPD_SCREENSHOTS:-}" ]] || script=screenshots.js
NODE_PATH=$npm_modules exec node "server/web/page_test/$script" "$1"
