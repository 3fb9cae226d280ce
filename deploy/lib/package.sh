# shellcheck shell=bash
# The Debian package, of an optimised build.

verb_package() {
  setup_package
  make_scratch
  say "building tdpd, tdpctl and tdpbench, optimised"
  local label binaries=()
  for label in tdpd tdpctl tdpbench; do
    run_bazel build --config=release "//:$label"
    binaries+=("$(built_file "//:$label" --config=release)")
  done
  stop_bazel

  local package
  package="$(cd "$REPO" && deploy/debian/build_package.sh "$SCRATCH" \
    "${binaries[@]}")"
  mv "$package" "$REPO/"
  say "$REPO/$(basename "$package")"
  say "install it: sudo apt-get install ./$(basename "$package")"
}
