#!/bin/bash
# Starts a daemon on a Unix socket of its own, runs a command with its path in
# TDPD_SOCKET, and stops the daemon, which must exit with 0.
#
#   with_daemon.sh TDPD COMMAND [ARGUMENT...]
set -u

daemon=$1
shift

# Not TEST_TMPDIR: a socket's path holds 107 bytes.
folder=$(mktemp -d /tmp/tdpd_interop_XXXXXX)
export TDPD_SOCKET=$folder/socket
mkdir "$folder/images"
# The limit: what VMs get by default would depend on the host's memory.
"$daemon" --listen="unix:$TDPD_SOCKET" --image_dir="$folder/images" \
  --max_page_table_bytes=$((4 << 30)) >"$folder/log" 2>&1 &
pid=$!

fail() {
  echo "$*"
  echo "--- log of the daemon:"
  cat "$folder/log"
}

finish() {
  kill -KILL "$pid" 2>/dev/null
  wait "$pid" 2>/dev/null
  rm -rf "$folder"
}
trap finish EXIT

for ((i = 0; i < 300; i++)); do
  [[ -S $TDPD_SOCKET ]] && break
  if ! kill -0 "$pid" 2>/dev/null; then
    fail "the daemon did not start"
    exit 1
  fi
  sleep 0.1
done
if [[ ! -S $TDPD_SOCKET ]]; then
  fail "the daemon does not listen after 30 s"
  exit 1
fi

"$@"
result=$?

kill -TERM "$pid"
wait "$pid"
stopped=$?
if [[ $result -ne 0 ]]; then
  fail "the client failed with $result"
  exit 1
fi
if [[ $stopped -ne 0 ]]; then
  fail "the daemon ended with $stopped after SIGTERM"
  exit 1
fi
