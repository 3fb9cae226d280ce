#!/bin/bash
# The daemon and its probe under seccomp.json: seccomp_test.sh TDPD TDPCTL
set -euo pipefail
tdpd="$PWD/$1"
tdpctl="$PWD/$2"
confined=(deploy/kubernetes/seccomp_exec.py deploy/kubernetes/seccomp.json)

# Not TEST_TMPDIR: a socket's path holds 107 bytes.
folder="$(mktemp -d /tmp/tdpd_seccomp_XXXXXX)"
"${confined[@]}" "$tdpd" --insecure_loopback \
  --listen="unix:$folder/s,127.0.0.1:0" >"$folder/log" 2>&1 &
pid=$!
finish() {
  kill -KILL "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  rm -rf -- "$folder"
}
trap finish EXIT

ctl() { "${confined[@]}" "$tdpctl" --target="unix:$folder/s" "$@"; }

for ((i = 0; i < 600; i++)); do
  ctl info >/dev/null 2>&1 && break
  kill -0 "$pid" || {
    cat "$folder/log"
    exit 1
  }
  sleep 0.1
done

ctl vm create a --vcpus=1
ctl slot create a ram --base=0 --size=16M
ctl guest touch a --range=0..16M --write
ctl vm start a
ctl vcpu wait a 0
ctl vcpu get a 0 | grep -w 4096
ctl collapse a 0..16M
ctl audit a 0..16M | grep "4096 frames: 0 divergent"

kill -TERM "$pid"
wait "$pid" || {
  cat "$folder/log"
  exit 1
}

echo "and what the daemon does not need is refused:"
for attempt in "unshare --mount true" "unshare --user true" \
  "mount -t tmpfs none $folder" "chroot / true"; do
  # shellcheck disable=SC2086  # words
  if "${confined[@]}" /usr/bin/env $attempt 2>/dev/null; then
    echo "allowed: $attempt"
    exit 1
  fi
done
