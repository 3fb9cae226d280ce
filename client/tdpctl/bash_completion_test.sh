#!/bin/bash
# The completion script in a real bash: bash_completion_test.sh TDPCTL
set -u

PATH="$(cd "$(dirname "$1")" && pwd):$PATH"
export PATH
unset TDPD_TARGET
failures=0

# completes EXPECTED WORD... : what may stand in the place of the last WORD,
# and "nospace" where no space is to follow it.
completes() {
  local expected="$1" found
  shift
  found="$(bash -c '
    source <(tdpctl completion bash)
    nospace=""
    compopt() { [[ $1 == -o && $2 == nospace ]] && nospace=" nospace"; }
    COMP_WORDS=(tdpctl "$@")
    COMP_CWORD=$#
    _tdpctl
    echo "${COMPREPLY[@]}$nospace"' bash "$@" 2>&1)"
  [[ "$found" == "$expected" ]] && return
  echo "after \"$*\": expected \"$expected\", found \"$found\""
  failures=$((failures + 1))
}

completes "write-protect" wri
completes "start stop" vm st
completes "" nonsense --zzz
# A value follows the "=" at once.
completes "--max-level= nospace" map demo 0..1M --m
completes "--json" --js
completes "4K 2M" map --max-level ""
# As bash splits words.
completes "4K 2M" map --max-level =
completes "2M" map --max-level = 2
completes "--max-level= nospace" --target = unix : /nonexistent/s map --m
completes "" --target = unix : /nonexistent/s map ""
completes "--max-level= nospace" map gfn : 0..10 --m

exit $((failures > 0))
