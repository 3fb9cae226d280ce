# shellcheck shell=bash
# Installs what is missing, and says so. Quick when nothing is.

# What a build needs.
readonly BUILD_PACKAGES=(
  bazel-bootstrap
  g++
  grpc-proto
  libabsl-dev
  libbenchmark-dev
  libcli11-dev
  libgmock-dev
  libgrpc++-dev
  libgtest-dev
  libprotobuf-dev
  libspdlog-dev
  libssl-dev
  libsystemd-dev
  liburcu-dev
  prometheus-cpp-dev
  protobuf-compiler
  protobuf-compiler-grpc
  systemtap-sdt-dev
)

# What the checks and tests need besides.
readonly TEST_PACKAGES=(
  bubblewrap
  chromium
  clang-19
  clang-format-19
  curl
  fonts-dejavu-core
  libclang-rt-19-dev
  openssl
  prometheus
  python3
  python3-grpcio
  python3-protobuf
  python3-seccomp
  shellcheck
  systemd
)

# What a Debian package is built with.
readonly PACKAGE_PACKAGES=(
  binutils
  dpkg-dev
)

# What the tests need that take minutes.
readonly LONG_TEST_PACKAGES=(
  lintian
  mmdebstrap
  systemd-container
)

readonly NPM_DIR="$CACHE/npm"

verb_setup() {
  setup_test
  say "nothing is missing"
}

setup_build() { install_packages "${BUILD_PACKAGES[@]}"; }

setup_test() {
  local packages=("${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
    "${PACKAGE_PACKAGES[@]}")
  # Node.js may come from elsewhere; then npm comes with it.
  command -v node >/dev/null || packages+=(nodejs)
  command -v npm >/dev/null || packages+=(npm)
  install_packages "${packages[@]}"
  install_npm_packages
}

setup_long_test() { install_packages "${LONG_TEST_PACKAGES[@]}"; }

setup_package() {
  install_packages "${BUILD_PACKAGES[@]}" "${PACKAGE_PACKAGES[@]}"
}

# Installs those of the named Debian packages that are not installed.
install_packages() {
  command -v dpkg-query >/dev/null ||
    die "this machine has no dpkg; tdpd is built on Debian 12"
  local package missing=()
  for package in "$@"; do
    is_installed "$package" || missing+=("$package")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0

  say "installing Debian packages: ${missing[*]}"
  local as_root=()
  if [[ "$(id -u)" -ne 0 ]]; then
    command -v sudo >/dev/null ||
      die "needs root: run apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y)
  if [[ " ${missing[*]} " == *" prometheus "* && -d /run/systemd/system ]]; then
    # The package starts a server on port 9090 and enables it; the tests want
    # promtool alone. A policy-rc.d would hold for the installation only, a mask
    # holds for the next boot, too. Who wants the server unmasks it.
    "${as_root[@]}" systemctl mask prometheus.service
  fi
  "${apt[@]}" update || say "apt-get update failed; trying with what is known"
  "${apt[@]}" install --no-install-recommends "${missing[@]}"
}

is_installed() {
  [[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" == installed ]]
}

# Installs what deploy/npm/package-lock.json pins, if it has changed.
install_npm_packages() {
  local wanted="$REPO/deploy/npm"
  cmp -s "$wanted/package-lock.json" "$NPM_DIR/installed-lock.json" && return
  say "installing npm packages into $NPM_DIR"
  mkdir -p "$NPM_DIR"
  cp "$wanted/package.json" "$wanted/package-lock.json" "$NPM_DIR/"
  (cd "$NPM_DIR" && npm ci --ignore-scripts --no-audit --no-fund)
  cp "$wanted/package-lock.json" "$NPM_DIR/installed-lock.json"
}
