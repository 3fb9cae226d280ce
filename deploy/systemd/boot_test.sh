#!/bin/bash
# A Debian system with systemd is made and booted in a container; the service is
# installed there and lives through what services live through:
# boot_test.sh TDPD TDPCTL TDPBENCH
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin"
if [[ "$(id -u)" -ne 0 ]]; then
  echo "skipped: needs root, to boot a container"
  exit 0
fi

# Not TEST_TMPDIR: the container must not be below another mount's options.
folder="$(mktemp -d /tmp/tdpd_boot_XXXXXX)"
trap 'rm -rf -- "$folder"' EXIT
root="$folder/root"
package="$(deploy/debian/build_package.sh "$folder" "$@")"
libraries="$(dpkg-deb --field "$package" Depends |
  sed -e 's/([^)]*)//g' -e 's/[^,]*|[^,]*//g' | tr -d ' ' | tr -s ',' |
  sed 's/,$//')"
from=()
sources=/etc/apt/sources.list.d/debian.sources
[[ -e "$sources" ]] && from=("$sources")
mmdebstrap --quiet --variant=minbase --mode=root \
  --include="systemd,systemd-sysv,udev,$libraries" bookworm "$root" "${from[@]}"

cp "$package" "$root/root/"
install --mode=755 deploy/systemd/boot_checks.sh "$root/root/checks"
cat >"$root/etc/systemd/system/checks.service" <<END
[Unit]
After=multi-user.target
[Service]
ExecStart=/root/checks /root/$(basename "$package")
END
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../checks.service "$root/etc/systemd/system/multi-user.target.wants/"

# The device files are the container's own: their owners change inside.
devices=()
for device in kvm userfaultfd; do
  [[ -e "/dev/$device" ]] || continue
  numbers="$(stat --format='%Hr %Lr' "/dev/$device")"
  # shellcheck disable=SC2086  # two numbers
  mknod --mode=600 "$folder/$device" c $numbers
  devices+=(--bind="$folder/$device:/dev/$device")
done
SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 timeout 300 systemd-nspawn --quiet \
  --register=no --keep-unit --directory="$root" --boot --private-network \
  --capability=all --system-call-filter="@memlock userfaultfd" \
  "${devices[@]}" >"$folder/console" 2>&1 </dev/null || true

cat "$root/root/result" || tail -30 "$folder/console"
[[ "$(tail -1 "$root/root/result")" == passed ]]
