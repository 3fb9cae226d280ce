#!/bin/bash
# One command for everything that a developer does with tdpd.
set -euo pipefail

REPO="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly REPO

# shellcheck source=deploy/lib/common.sh
source "$REPO/deploy/lib/common.sh"
# shellcheck source=deploy/lib/setup.sh
source "$REPO/deploy/lib/setup.sh"
# shellcheck source=deploy/lib/bazel.sh
source "$REPO/deploy/lib/bazel.sh"
# shellcheck source=deploy/lib/daemon.sh
source "$REPO/deploy/lib/daemon.sh"
# shellcheck source=deploy/lib/fuzz.sh
source "$REPO/deploy/lib/fuzz.sh"
# shellcheck source=deploy/lib/test.sh
source "$REPO/deploy/lib/test.sh"
# shellcheck source=deploy/lib/bench.sh
source "$REPO/deploy/lib/bench.sh"
# shellcheck source=deploy/lib/link_order.sh
source "$REPO/deploy/lib/link_order.sh"
# shellcheck source=deploy/lib/mutate.sh
source "$REPO/deploy/lib/mutate.sh"
# shellcheck source=deploy/lib/package.sh
source "$REPO/deploy/lib/package.sh"

usage() {
  cat <<'EOF'
usage: deploy/dev.sh VERB

  setup          install what the other verbs need
  run            build, start the daemon with a demo VM and the web page, until
                 Ctrl-C
  demo           build, play the demo as a script that checks every figure
  test [--long]  all checks and tests; --long adds the tests that take minutes,
                 and the fuzzers
  fuzz [SECONDS [FUZZER]]
                 run all fuzzers, or one, each for 300 or as many seconds
  package        build the Debian package, tdpd_VERSION_ARCHITECTURE.deb
  bench          run the benchmarks: 40 minutes at most once they are built
  link-order     find out anew which functions the daemon needs side by side
  screenshots    take the pictures of the web page in deploy/README.md again
  mutate [ID...] break lines that matter, one at a time, and see that the tests
                 notice; hours, unless mutants are named

Every verb installs what it lacks: Debian packages, and npm packages below
~/.cache/tdpd, where everything that is built is kept too.
EOF
}

main() {
  local verb="${1:-}"
  [[ $# -gt 0 ]] && shift
  case "$verb" in
    test)
      local long=no
      if [[ "${1:-}" == --long ]]; then
        long=yes
        shift
      fi
      [[ $# -eq 0 ]] || usage_error "test takes only --long, not \"$1\""
      verb_test "$long"
      ;;
    fuzz)
      [[ $# -le 2 ]] || usage_error "fuzz takes two arguments, not \"$3\" too"
      verb_fuzz "$@"
      ;;
    mutate) verb_mutate "$@" ;;
    setup | run | demo | package | bench | link-order | screenshots)
      [[ $# -eq 0 ]] || usage_error "$verb takes no argument, not \"$1\""
      "verb_$verb"
      ;;
    help | -h | --help) usage ;;
    "") usage_error "a verb is missing" ;;
    *) usage_error "there is no verb \"$verb\"" ;;
  esac
}

usage_error() {
  echo "dev.sh: $1" >&2
  usage >&2
  exit 2
}

main "$@"
