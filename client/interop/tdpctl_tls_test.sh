#!/bin/bash
# tdpctl and the daemon over TCP, each with a certificate of its own.
#
#   tdpctl_tls_test.sh TDPD TDPCTL
set -u

daemon=$1
tdpctl=$2

folder=$(mktemp -d /tmp/tdpd_tls_XXXXXX)
pid=""

finish() {
  if [[ -n $pid ]]; then
    kill -KILL "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
  fi
  rm -rf "$folder"
}
trap finish EXIT

fail() {
  echo "$*"
  echo "--- log of the daemon:"
  cat "$folder/log"
  exit 1
}

# make_certificate NAME SAN: NAME.pem and NAME.key, signed by ca.pem.
make_certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -days 2 -subj "/CN=$1" -addext "subjectAltName=$2" \
    -addext "basicConstraints=critical,CA:FALSE" \
    -CA "$folder/ca.pem" -CAkey "$folder/ca.key" \
    -keyout "$folder/$1.key" -out "$folder/$1.pem" 2>"$folder/openssl" ||
    fail "openssl: $(cat "$folder/openssl")"
}

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
  -days 2 -subj "/CN=test authority" \
  -keyout "$folder/ca.key" -out "$folder/ca.pem" 2>"$folder/openssl" ||
  fail "openssl: $(cat "$folder/openssl")"
make_certificate server DNS:tdpd.example
make_certificate client URI:spiffe://td/watcher
echo "observer spiffe://td/watcher" >"$folder/policy"
chmod 0644 "$folder/policy"

"$daemon" --listen=127.0.0.1:0 --policy="$folder/policy" \
  --tls_cert="$folder/server.pem" --tls_key="$folder/server.key" \
  --tls_client_ca="$folder/ca.pem" >"$folder/log" 2>&1 &
pid=$!

for ((i = 0; i < 300; i++)); do
  grep -q " serving on " "$folder/log" && break
  kill -0 "$pid" 2>/dev/null || fail "the daemon did not start"
  sleep 0.1
done
target=$(sed -nE 's/.* serving on ([0-9.]+:[0-9]+).*/\1/p' "$folder/log")
[[ -n $target ]] || fail "the daemon does not listen after 30 s"

# call NAME ARGUMENT...: tdpctl as the owner of NAME's certificate.
call() {
  local name=$1
  shift
  "$tdpctl" --target="$target" --tls-ca="$folder/ca.pem" \
    --tls-name=tdpd.example --tls-cert="$folder/$name.pem" \
    --tls-key="$folder/$name.key" "$@" 2>&1
}

call client info | grep -q max_vms || fail "an observer must see the limits"
call client vm list >/dev/null || fail "an observer must see the VMs"
denied=$(call client vm create a --vcpus=1) && fail "an observer made a VM"
grep -q "spiffe://td/watcher has observer" <<<"$denied" ||
  fail "the refusal says: $denied"

"$tdpctl" --target="$target" --tls-ca="$folder/ca.pem" \
  --tls-name=tdpd.example info >/dev/null 2>&1 &&
  fail "a client without a certificate was let in"
"$tdpctl" --target="$target" --tls-ca="$folder/ca.pem" \
  --tls-cert="$folder/client.pem" --tls-key="$folder/client.key" \
  info >/dev/null 2>&1 &&
  fail "tdpctl took a certificate that does not name the host"

kill -TERM "$pid"
wait "$pid"
status=$?
pid=""
[[ $status -eq 0 ]] || fail "the daemon ended with $status after SIGTERM"
