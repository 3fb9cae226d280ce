#!/bin/bash
# Builds a container image without a base image: nothing but the daemon, tdpctl
# and the Debian libraries that they are linked with. No shell, no package
# manager, no set-user-id file.
#
#   build_image.sh PACKAGE.deb FOLDER
#
# FOLDER receives root/ (the tree), layer.tar.gz, and tdpd-VERSION.tar, an OCI
# archive: `skopeo copy oci-archive:FILE docker://REGISTRY/tdpd:VERSION`, or
# `podman load --input FILE`. Needs root and mmdebstrap.
set -euo pipefail

readonly PACKAGE="$1" FOLDER="$2"
PATH="$PATH:/usr/sbin:/sbin"
HERE="$(dirname "${BASH_SOURCE[0]}")"
readonly HERE ROOT="$FOLDER/root"
# Who the daemon is if nobody says otherwise.
readonly USER_ID=10910
readonly SUITE=bookworm
readonly SOURCES=/etc/apt/sources.list.d/debian.sources

# Of what the package depends on, the libraries: users and services are the
# business of whoever runs the image.
libraries="$(dpkg-deb --field "$PACKAGE" Depends |
  sed -e 's/([^)]*)//g' -e 's/[^,]*|[^,]*//g' | tr -d ' ' | tr -s ',' |
  sed 's/,$//')"
from=()
[[ -e "$SOURCES" ]] && from=("$SOURCES")
mmdebstrap --quiet --variant=extract --mode=root --include="$libraries" \
  "$SUITE" "$ROOT" "${from[@]}"
dpkg-deb --fsys-tarfile "$PACKAGE" |
  tar --extract --directory="$ROOT" ./usr/bin/tdpd ./usr/bin/tdpctl \
    ./usr/share/doc/tdpd/copyright

# What no library needs at run time; licences stay.
find "$ROOT"/usr/share -mindepth 1 -maxdepth 1 ! -name doc -exec rm -rf {} +
find "$ROOT"/usr/share/doc -type f ! -name copyright -delete
find "$ROOT"/usr/share/doc -xtype l -delete
find "$ROOT"/usr/share/doc -type d -empty -delete
rm -rf "${ROOT:?}"/{bin,dev,etc,sbin,tmp,var} \
  "${ROOT:?}"/usr/{games,include,libexec,local,sbin,src} \
  "$ROOT"/usr/lib/x86_64-linux-gnu/{gconv,perl*}
find "$ROOT"/usr/bin -mindepth 1 ! -name tdpd ! -name tdpctl -delete
find "$ROOT"/{usr/,}lib -mindepth 1 -maxdepth 1 ! -name '*-linux-gnu' \
  -exec rm -rf {} +
mkdir -p "$ROOT"/{dev,etc/tdpd,proc,run/tdpd,sys,tmp,var/lib/tdpd/images}
chmod 1777 "$ROOT/tmp"
chown "$USER_ID:$USER_ID" "$ROOT/run/tdpd"
cat >"$ROOT/etc/passwd" <<END
root:x:0:0:root:/:/usr/sbin/nologin
tdpd:x:$USER_ID:$USER_ID:tdpd:/:/usr/sbin/nologin
END
cat >"$ROOT/etc/group" <<END
root:x:0:
tdpd:x:$USER_ID:
END
find "$ROOT" -perm /6000 -type f -exec chmod ug-s {} +

/usr/bin/python3 -B "$HERE/pack_image.py" "$ROOT" "$FOLDER" \
  "$(dpkg-deb --field "$PACKAGE" Version)" "$USER_ID"
