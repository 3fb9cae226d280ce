#!/bin/bash
# Runs the example against a daemon; it must print example_output.txt, twice,
# since it leaves nothing behind:
#
#   example_test.sh WITH_DAEMON TDPD
#
# Calls itself again, below a daemon, with "run" as the only argument.
set -eu

if [[ $1 != run ]]; then
  exec "$1" "$2" "$0" run
fi

for _ in 1 2; do
  client/python/python_test.sh client/python/example.py \
    "unix:$TDPD_SOCKET" >"$TEST_TMPDIR/output"
  diff client/python/example_output.txt "$TEST_TMPDIR/output"
done
