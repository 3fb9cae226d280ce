#!/bin/bash
# Runs the example against a daemon and compares what it prints:
#
#   example_test.sh WITH_DAEMON TDPD EXAMPLE
#
# Calls itself again, below a daemon, with "run EXAMPLE".
set -eu

if [[ $1 != run ]]; then
  exec "$1" "$2" "$0" run "$3"
fi

expected="mapped 4096 frames
the guest touched 16384 frames
12288 of them faulted
16384 frames are mapped
event N: WHAT
zapped 16384 frames
RESOURCE_NOT_FOUND"

# Twice: it leaves nothing behind.
for _ in 1 2; do
  actual=$("$2" "unix:$TDPD_SOCKET" | sed 's/^event [0-9]*: .*/event N: WHAT/' |
    uniq)
  if [[ $actual != "$expected" ]]; then
    echo "got:"
    echo "$actual"
    echo "want:"
    echo "$expected"
    exit 1
  fi
done
