# shellcheck shell=bash
# Whether the tests notice when a line that matters is broken.

# verb_mutate ID...: the named mutants, or all of deploy/checks/mutants.py.
verb_mutate() {
  setup_test
  make_scratch
  # A copy is built, with an output folder of its own.
  MUTATE_BAZEL=(env -u JAVA_HOME bazel "--output_base=$SCRATCH/bazel"
    --server_javabase=/usr/lib/jvm/default-java --max_idle_secs=600)
  at_exit stop_mutate_bazel
  local only
  only="$(IFS=, && echo "$*")"
  /usr/bin/python3 "$REPO/deploy/checks/mutate.py" --only="$only" \
    --disk-cache="$CACHE/bazel" -- "$REPO" "$SCRATCH" "${MUTATE_BAZEL[@]}"
}

stop_mutate_bazel() {
  [[ -d "$SCRATCH/mutated" ]] || return 0
  (cd "$SCRATCH/mutated" && "${MUTATE_BAZEL[@]}" shutdown >/dev/null 2>&1)
}
