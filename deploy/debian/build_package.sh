#!/bin/bash
# Builds tdpd_VERSION_ARCHITECTURE.deb and prints its path. Runs in the root of
# the repository; the same inputs make the same bytes.
#
#   build_package.sh FOLDER TDPD TDPCTL TDPBENCH
set -euo pipefail

readonly FOLDER="$1"
readonly BINARIES=("${@:2}")
readonly HERE=deploy/debian

# Times in the package: the commit's, and outside of a repository a fixed one.
if [[ -z "${SOURCE_DATE_EPOCH:-}" ]]; then
  SOURCE_DATE_EPOCH="$(git log -1 --format=%ct 2>/dev/null ||
    date --date=2026-01-01 --utc +%s)"
fi
export SOURCE_DATE_EPOCH

version="$(sed -nE 's/.*kVersion\[\] = "(.*)".*/\1/p' server/base/version.h)"
[[ -n "$version" ]] || {
  echo "build_package.sh: no version in server/base/version.h" >&2
  exit 1
}
architecture="$(dpkg --print-architecture)"
work="$(mktemp -d)"
trap 'rm -rf -- "$work"' EXIT
root="$work/root"
umask 022

# put MODE FROM TO
put() { install -D --mode="$1" "$2" "$root/$3"; }

# put_zipped FROM TO.gz
put_zipped() {
  mkdir -p "$(dirname "$root/$2")"
  gzip -9n <"$1" >"$root/$2"
}

binary_paths=()
for binary in "${BINARIES[@]}"; do
  name="usr/bin/$(basename "$binary")"
  put 755 "$binary" "$name"
  binary_paths+=("$root/$name")
done
chmod u+w "${binary_paths[@]}"
# Function names stay, for what a crash writes; others have no use for them.
strip --strip-debug "${binary_paths[0]}"
strip --strip-unneeded "${binary_paths[@]:1}"

put 644 deploy/systemd/tdpd.service lib/systemd/system/tdpd.service
put 644 deploy/systemd/sysusers.conf usr/lib/sysusers.d/tdpd.conf
put 644 deploy/systemd/tmpfiles.conf usr/lib/tmpfiles.d/tdpd.conf
put 644 deploy/udev/60-tdpd.rules lib/udev/rules.d/60-tdpd.rules
put 644 deploy/systemd/tdpd.conf etc/tdpd/tdpd.conf
put 644 deploy/systemd/policy etc/tdpd/policy
put 644 "$HERE/lintian-overrides" usr/share/lintian/overrides/tdpd

doc=usr/share/doc/tdpd
put 644 "$HERE/copyright" "$doc/copyright"
put 644 deploy/README.md "$doc/README.md"
put 644 deploy/systemd/http.conf "$doc/examples/http.conf"
put 644 deploy/systemd/tls.conf "$doc/examples/tls.conf"
put 644 deploy/prometheus/alerts.yaml "$doc/examples/alerts.yaml"
put 644 deploy/grafana/tdpd.json "$doc/examples/grafana.json"
put_zipped "$HERE/tdpd.8" usr/share/man/man8/tdpd.8.gz
# What tdpctl says of itself. tdpbench has its help as a manual page.
readonly TDPCTL="${BINARIES[1]}" TDPBENCH="${BINARIES[2]}"
"$TDPCTL" man >"$work/tdpctl.1"
{
  cat <<'END'
.TH TDPBENCH 1 "" tdpd "User commands"
.SH NAME
tdpbench \- puts load on a running tdpd and measures its answers
.SH SYNOPSIS
.B tdpbench
[\fIoptions\fR] \fIvm\fR
.SH DESCRIPTION
.nf
END
  # Text as roff takes it.
  env -u TDPD_TARGET COLUMNS=80 "$TDPBENCH" --help |
    sed -e 's/\\/\\e/g' -e 's/-/\\-/g' -e "s/^[.']/\\\\\&&/"
  printf '.fi\n.SH SEE ALSO\n.BR tdpctl (1),\n.BR tdpd (8)\n'
} >"$work/tdpbench.1"
for page in tdpctl tdpbench; do
  put_zipped "$work/$page.1" "usr/share/man/man1/$page.1.gz"
done
while read -r shell path; do
  "$TDPCTL" completion "$shell" >"$work/completion"
  put 644 "$work/completion" "$path"
done <<'END'
bash usr/share/bash-completion/completions/tdpctl
fish usr/share/fish/vendor_completions.d/tdpctl.fish
zsh usr/share/zsh/vendor-completions/_tdpctl
END

cat >"$work/changelog" <<END
tdpd ($version) stable; urgency=medium

  * Built from the sources of this version.

 -- The tdpd authors <packages@tdpd.invalid>  $(date -uRd "@$SOURCE_DATE_EPOCH")
END
put_zipped "$work/changelog" "$doc/changelog.gz"

# Libraries: what the binaries are linked with, in the versions of this machine.
mkdir -p "$work/debian" "$root/DEBIAN"
echo "Source: tdpd" >"$work/debian/control"
depends="$(cd "$work" && dpkg-shlibdeps -O "${binary_paths[@]}" |
  sed -n 's/^shlibs:Depends=//p')"
[[ -n "$depends" ]] || {
  echo "build_package.sh: dpkg-shlibdeps found no library" >&2
  exit 1
}

installed_size="$(du --apparent-size -ks "$root" | cut -f1)"
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" \
  -e "s/@INSTALLED_SIZE@/$installed_size/" -e "s/@DEPENDS@/$depends/" \
  "$HERE/control.in" >"$root/DEBIAN/control"
install --mode=755 "$HERE"/scripts/* "$root/DEBIAN/"
printf '%s\n' /etc/tdpd/policy /etc/tdpd/tdpd.conf >"$root/DEBIAN/conffiles"
(cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z |
  xargs -0 md5sum) >"$root/DEBIAN/md5sums"

package="$FOLDER/tdpd_${version}_$architecture.deb"
dpkg-deb --root-owner-group -Zxz -z"${TDPD_PACK_LEVEL:-6}" --build "$root" \
  "$package" >/dev/null
echo "$package"
