#!/bin/bash
# Runs as a service inside the system that boot_test.sh boots; $1 is the package.
# Writes what it finds to /root/result, whose last line is "passed" or not, and
# ends the system.
set -uo pipefail
exec >/root/result 2>&1
trap 'systemctl poweroff >/dev/null 2>&1' EXIT

fail() {
  echo "failed: $*"
  journalctl --no-pager --unit=tdpd | tail -40
  exit 1
}

# await WHAT COMMAND...: until it succeeds.
await() {
  local what="$1" deadline=$((SECONDS + 60))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || fail "not within 60 s: $what"
    sleep 0.1
  done
}

answers() { tdpctl --target=unix:/run/tdpd/tdpd.sock info >/dev/null 2>&1; }
main_pid() { systemctl show --value --property=MainPID tdpd; }
restarts() { systemctl show --value --property=NRestarts tdpd; }
restarted() { [[ "$(restarts)" -ge "$1" ]] && systemctl -q is-active tdpd; }

run_guest() {
  local ctl=(tdpctl --target=unix:/run/tdpd/tdpd.sock) words
  for words in "vm create a --vcpus=1" "slot create a ram --base=0 --size=16M" \
    "guest touch a --range=0..16M --write" "vm start a" "vcpu wait a 0"; do
    # shellcheck disable=SC2086  # words
    "${ctl[@]}" $words || fail "$words"
  done
  "${ctl[@]}" audit a 0..16M | grep "4096 frames: 0 divergent" ||
    fail "the audit says otherwise"
}

# No udev runs in a container: what its rules would do is done by hand, once the
# package has made the groups. The watchdog is quicker than for users.
mkdir -p /etc/systemd/system/tdpd.service.d
printf '[Service]\nWatchdogSec=4\n' >/etc/systemd/system/tdpd.service.d/test.conf
dpkg --install "$1" || fail "the package is not installed"
chown root:tdpd /dev/userfaultfd
chmod 660 /dev/userfaultfd
if [[ -e /dev/kvm ]]; then
  chown root:kvm /dev/kvm
  chmod 660 /dev/kvm
fi
systemctl -q is-enabled tdpd || fail "the service is not enabled"
systemctl reset-failed tdpd
systemctl restart tdpd || fail "the service does not start"
answers || fail "the unit is up, but the daemon does not serve"
systemctl show --value --property=StatusText tdpd | grep "serving on" ||
  fail "the daemon has not said that it serves"
status="/proc/$(main_pid)/status"
grep -qE '^CapEff:\s0+$' "$status" || fail "the daemon has capabilities"
grep -qE '^NoNewPrivs:\s1$' "$status" || fail "it could get privileges"
run_guest

echo "a daemon that is killed is followed by another"
before="$(restarts)"
systemctl kill --signal=KILL tdpd
await "a restart" restarted $((before + 1))
await "an answer" answers
run_guest

echo "a daemon that is stuck is killed by the watchdog"
before="$(restarts)"
kill -STOP "$(main_pid)"
await "the watchdog" restarted $((before + 1))
await "an answer" answers

echo "it stops, and its removal leaves nothing behind"
systemctl stop tdpd || fail "the service does not stop"
[[ "$(systemctl show --value --property=Result tdpd)" == success ]] ||
  fail "it did not end well"
systemctl start tdpd || fail "the service does not start again"
dpkg --purge tdpd || fail "the package is not purged"
systemctl -q is-active tdpd && fail "the daemon still runs"
id tdpd 2>/dev/null && fail "the user is still there"
for path in /run/tdpd /var/lib/tdpd /var/log/tdpd /etc/tdpd /usr/bin/tdpd; do
  [[ ! -e "$path" ]] || fail "$path is still there"
done
echo passed
