# shellcheck shell=bash
# Runs every benchmark: binaries tagged "bench", optimised, one after another.

readonly BENCH_SECONDS=1200

verb_bench() {
  setup_build
  local deadline=$((SECONDS + BENCH_SECONDS))
  local targets
  mapfile -t targets < <(query_bazel 'attr(tags, "\bbench\b", //...)')
  [[ ${#targets[@]} -gt 0 ]] || die "there is no benchmark yet"
  run_bazel build --config=release -- "${targets[@]}"
  local target paths=()
  for target in "${targets[@]}"; do
    paths+=("$(built_file "$target" --config=release)")
  done
  stop_bazel

  say "$(nproc) CPUs, Linux $(uname -r), $(date -u +%F)"
  local i failed=0
  for i in "${!targets[@]}"; do
    say "${targets[i]}"
    timeout $((deadline > SECONDS ? deadline - SECONDS : 1)) "${paths[i]}" ||
      failed=$((failed + 1))
  done
  [[ "$failed" -eq 0 ]] || die "$failed benchmarks failed or ran out of time"
}
