# shellcheck shell=bash
# What every part of dev.sh shares: where things are kept, how it speaks, and
# what it undoes when it ends.

if [[ -z "${HOME:-}" ]]; then
  HOME="$(getent passwd "$(id -u)" | cut -d: -f6)"
  export HOME
fi
# shellcheck disable=SC2034  # the other parts use it
readonly CACHE="$HOME/.cache/tdpd"

say() { echo "==> $*"; }

die() {
  echo "dev.sh: $*" >&2
  exit 1
}

# Commands that run when the script ends, the last one first.
exit_commands=()

at_exit() { exit_commands+=("$1"); }

run_exit_commands() {
  local status=$?
  trap - EXIT
  set +e
  local i
  for ((i = ${#exit_commands[@]} - 1; i >= 0; i--)); do
    ${exit_commands[i]}
  done
  exit "$status"
}
trap run_exit_commands EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Makes the folder $SCRATCH, short enough for a Unix socket, until the end.
make_scratch() {
  [[ -n "${SCRATCH:-}" ]] && return
  SCRATCH="$(mktemp -d /tmp/tdpd.XXXXXX)"
  at_exit remove_scratch
}

remove_scratch() { rm -rf -- "$SCRATCH"; }
