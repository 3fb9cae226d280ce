# shellcheck shell=bash
# Measures the page tables against what they replace, by a program that is built
# twice: lock hold times come from the second build, which has hooks in the
# locks. Then the daemon against bare gRPC servers. Verdicts are results, not
# errors.

readonly BENCH=//engine/bench:tdp_bench
readonly RPC_BENCH=//server/bench:rpc_bench
readonly ECHO_SERVER=//server/bench:echo_server
readonly BENCH_SECONDS=2400
readonly BENCH_HOOK_ROWS=E9
readonly BENCH_HOOKED=--config=lock-hooks

verb_bench() {
  setup_build
  make_scratch
  local plain hooked rpc tdpd echo_server
  run_bazel build --config=release -- "$BENCH" "$RPC_BENCH" //server:tdpd \
    "$ECHO_SERVER"
  run_bazel build "$BENCH_HOOKED" -- "$BENCH"
  plain="$(built_file "$BENCH" --config=release)"
  hooked="$(built_file "$BENCH" "$BENCH_HOOKED")"
  rpc="$(built_file "$RPC_BENCH" --config=release)"
  tdpd="$(built_file //server:tdpd --config=release)"
  echo_server="$(built_file "$ECHO_SERVER" --config=release)"
  stop_bazel

  local deadline=$((SECONDS + BENCH_SECONDS))
  measure "$hooked" "$SCRATCH/hooks.json" --rows "$BENCH_HOOK_ROWS"
  measure "$plain" "$SCRATCH/plain.json"
  measure "$rpc" "$SCRATCH/rpc.json" --tdpd "$tdpd" \
    --echo_server "$echo_server"
  merge_results "$SCRATCH/plain.json" "$SCRATCH/hooks.json" \
    "$SCRATCH/rpc.json" >"$SCRATCH/bench.json"
  mv "$SCRATCH/bench.json" "$REPO/bench.json"
  say "results: $REPO/bench.json"
}

# measure PROGRAM RESULTS ARGUMENT...: before $deadline, or it fails.
measure() {
  local program="$1" results="$2"
  shift 2
  say "measuring with $program"
  timeout $((deadline > SECONDS ? deadline - SECONDS : 1)) "$program" \
    --json "$results" --commit "$(measured_commit)" "$@" ||
    die "the benchmark failed or ran out of time"
}

measured_commit() {
  git -C "$REPO" describe --always --dirty --abbrev=12 2>/dev/null ||
    echo unknown
}

# merge_results PLAIN HOOKS RPC: prints PLAIN with the rows of the others added.
merge_results() {
  /usr/bin/python3 - "$@" <<'PYTHON'
import json
import sys

plain, hooks, rpc = (json.load(open(path)) for path in sys.argv[1:])
for row in hooks["rows"]:
    row["note"] = "build with hooks in the locks; " + row["note"]
plain["rows"] += hooks["rows"] + rpc["rows"]
plain["machine"]["hypervisor"] = rpc["machine"]["hypervisor"]
json.dump(plain, sys.stdout, indent=1)
print()
PYTHON
}
