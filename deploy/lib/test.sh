# shellcheck shell=bash
# All checks and tests. A failure hides nothing: every step runs, its results
# are kept, and deploy/checks/count_tests.py counts them at the end.

# Results: $RESULTS/NAME.json is a Bazel run's event file, $RESULTS/NAME.status
# the exit status of a run or of a check.
verb_test() {
  local long="$1"
  setup_test
  [[ "$long" == no ]] || setup_long_test
  make_scratch
  RESULTS="$SCRATCH/results"
  mkdir "$RESULTS"
  export TDPD_NPM="$NPM_DIR" BUF_CACHE_DIR="$CACHE/buf"

  check buf-lint check_protos
  check clang-format check_format
  check shellcheck check_scripts
  check mutants check_mutants

  local filters=-manual,-hooks
  [[ "$long" == yes ]] || filters+=,-long-mode
  test_targets default "$filters" //...
  test_targets asan "$filters,-no-asan" //engine/... \
    --config=asan --config=ubsan --build_tests_only
  local tsan=(--config=tsan --build_tests_only)
  # g++ 12's thread sanitizer knows no layout with more random bits.
  if [[ "$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null)" -gt 28 ]]; then
    tsan+=("--run_under=/usr/bin/setarch -R")
  fi
  test_targets tsan "$filters,-no-tsan" //engine/... "${tsan[@]}"
  local seeds=1
  [[ "$long" == yes ]] && seeds=20
  test_targets hooks hooks //engine/... --config=hooks \
    "--test_env=TDPD_MORE_SEEDS=$seeds"
  check analyze analyze
  [[ "$long" == yes ]] && test_fuzzers
  stop_bazel

  /usr/bin/python3 "$REPO/deploy/checks/count_tests.py" "$RESULTS"
}

# check NAME COMMAND: runs a check and notes how it went.
check() {
  local name="$1" status=0
  say "$name"
  "$2" || status=$?
  echo "$status" >"$RESULTS/$name.status"
}

check_protos() {
  (cd "$REPO/proto" && "$NPM_DIR/node_modules/.bin/buf" lint)
}

check_format() {
  local files
  mapfile -t files < <(find "$REPO"/{client,deploy,engine,server} \
    -name '*.h' -o -name '*.cc')
  clang-format-19 --dry-run --Werror "${files[@]}"
}

check_scripts() {
  shellcheck -x "$REPO"/.ci/run "$REPO"/deploy/*.sh "$REPO"/deploy/*/*.sh \
    "$REPO"/deploy/debian/scripts/*
}

# Each mutant of deploy/dev.sh mutate must have its line.
check_mutants() {
  /usr/bin/python3 -B "$REPO/deploy/checks/mutate.py" --verify "$REPO"
}

# test_targets NAME TAG_FILTERS PATTERN OPTION...
test_targets() {
  local name="$1" filters="$2" pattern="$3" status=0
  shift 3
  say "tests: $name"
  # Results are not taken from a cache: they depend on the kernel as well.
  run_bazel test --keep_going --test_output=summary \
    --test_tag_filters="$filters" --cache_test_results=no \
    --test_env=TDPD_NPM --test_env=BUF_CACHE_DIR \
    --build_event_json_file="$RESULTS/$name.json" "$@" -- "$pattern" ||
    status=$?
  echo "$status" >"$RESULTS/$name.status"
}

# clang's thread-safety analysis: all of the engine, and what runs in the daemon.
analyze() {
  local targets="$SCRATCH/analyze.targets"
  query_bazel "kind('cc_(library|binary|test)', //engine/...) +
    kind('cc_(library|binary)', //server/...)" >"$targets" &&
    run_bazel build --keep_going --config=analyze \
      --output_groups=compilation_outputs \
      --target_pattern_file="$targets"
}
