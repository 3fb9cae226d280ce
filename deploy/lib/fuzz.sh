# shellcheck shell=bash
# Fuzzers: the targets of deploy/bazel/fuzz.bzl, run one after the other.

readonly FUZZ_SECONDS=300
# Below these, what ends a fuzzer is the input and not the machine.
readonly FUZZ_INPUT_SECONDS=20
readonly FUZZ_MEMORY_MB=2048
# What a fuzzer learns is kept here, and where it starts from next time.
readonly FUZZ_CORPORA="$CACHE/fuzz/corpora"
# Inputs that failed, as FUZZER-crash-HASH and the like.
readonly FUZZ_FINDINGS="$CACHE/fuzz/findings"

# verb_fuzz [SECONDS [TARGET]]: a target is a label, or a name without it.
verb_fuzz() {
  local seconds="${1:-$FUZZ_SECONDS}" wanted="${2:-}" target failed=0
  [[ "$seconds" =~ ^[1-9][0-9]*$ ]] ||
    usage_error "fuzz takes a number of seconds, not \"$seconds\""
  setup_test
  local targets
  mapfile -t targets < <(fuzz_targets "$wanted")
  [[ ${#targets[@]} -gt 0 ]] || die "there is no fuzzer \"$wanted\""
  build_fuzzers "${targets[@]}"
  for target in "${targets[@]}"; do
    run_fuzzer "$target" "$seconds" || failed=$((failed + 1))
  done
  say "${#targets[@]} fuzzers, $failed with findings"
  [[ $failed -eq 0 ]]
}

# fuzz_targets [TARGET]: prints the labels.
fuzz_targets() {
  query_bazel 'kind("cc_binary", attr("tags", "\bfuzz\b", //...))' |
    while read -r label; do
      if [[ -z "${1:-}" || "$label" == "$1" || "$label" == *":$1" ]]; then
        echo "$label"
      fi
    done
}

build_fuzzers() { run_bazel build --config=fuzz -- "$@"; }

# run_fuzzer LABEL SECONDS: fails if there was a finding, and says where it is.
run_fuzzer() {
  local label="$1" seconds="$2" program corpus learnt status=0
  local name="${label##*:}"
  program="$(built_file "$label" --config=fuzz)"
  corpus="$(fuzz_corpus "$label")"
  learnt="$FUZZ_CORPORA/$name"
  mkdir -p "$learnt" "$FUZZ_FINDINGS"
  local log="$FUZZ_FINDINGS/$name.log"

  say "fuzzing: $name, $seconds s"
  "$program" -max_total_time="$seconds" -timeout="$FUZZ_INPUT_SECONDS" \
    -rss_limit_mb="$FUZZ_MEMORY_MB" -artifact_prefix="$FUZZ_FINDINGS/$name-" \
    -print_final_stats=1 "$learnt" "$corpus" >"$log" 2>&1 || status=$?
  if [[ $status -eq 0 ]]; then
    grep -E '^stat::(number_of_executed_units|average_exec_per_sec)' "$log" ||
      true
    return 0
  fi
  tail -n 60 "$log"
  say "$name failed with status $status; its output is $log"
  return 1
}

# fuzz_corpus LABEL: prints the folder that the target has its inputs in.
fuzz_corpus() {
  local file
  file="$(query_bazel "labels(data, $1)" | head -n 1)"
  file="${file#//}"
  [[ -n "$file" ]] || die "$1 has no corpus"
  dirname "$REPO/${file/://}"
}

# A stage of the long tests: every fuzzer counts as a check.
test_fuzzers() {
  local targets target status
  mapfile -t targets < <(fuzz_targets)
  # Also what a query that fails looks like: no fuzzers, no findings.
  [[ ${#targets[@]} -gt 0 ]] || die "there is no fuzzer at all"
  check build-fuzzers build_all_fuzzers
  for target in "${targets[@]}"; do
    status=0
    run_fuzzer "$target" "$FUZZ_SECONDS" || status=$?
    echo "$status" >"$RESULTS/${target##*:}.status"
  done
}

build_all_fuzzers() { build_fuzzers "${targets[@]}"; }
