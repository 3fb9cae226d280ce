# shellcheck shell=bash
# Measures the page tables against what they replace: one program, built twice.
# Lock hold times come from the second build, which has hooks in the locks; all
# others from a build without them. Verdicts are results, not errors.

readonly BENCH=//engine/bench:tdp_bench
readonly BENCH_SECONDS=1080
readonly BENCH_HOOK_ROWS=E9
readonly BENCH_HOOKED=--config=lock-hooks

verb_bench() {
  setup_build
  make_scratch
  local plain hooked
  run_bazel build --config=release -- "$BENCH"
  run_bazel build "$BENCH_HOOKED" -- "$BENCH"
  plain="$(built_file "$BENCH" --config=release)"
  hooked="$(built_file "$BENCH" "$BENCH_HOOKED")"
  stop_bazel

  local deadline=$((SECONDS + BENCH_SECONDS))
  measure "$hooked" "$SCRATCH/hooks.json" --rows "$BENCH_HOOK_ROWS"
  measure "$plain" "$SCRATCH/plain.json"
  merge_results "$SCRATCH/plain.json" "$SCRATCH/hooks.json" \
    >"$SCRATCH/bench.json"
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

# merge_results PLAIN HOOKS: prints PLAIN with the rows of HOOKS added.
merge_results() {
  /usr/bin/python3 - "$@" <<'PYTHON'
import json
import sys

plain, hooks = (json.load(open(path)) for path in sys.argv[1:])
for row in hooks["rows"]:
    row["note"] = "build with hooks in the locks; " + row["note"]
plain["rows"] += hooks["rows"]
json.dump(plain, sys.stdout, indent=1)
print()
PYTHON
}
