# shellcheck shell=bash
# Bazel with what dev.sh builds kept below $CACHE, and no server left behind.

OUTPUT_BASE="$CACHE/out-$(printf %s "$REPO" | sha256sum | cut -c1-12)"
readonly OUTPUT_BASE
# Debian's Bazel runs on Debian's default JDK, whatever JAVA_HOME says.
readonly BAZEL=(env -u JAVA_HOME bazel
  --output_base="$OUTPUT_BASE"
  --server_javabase=/usr/lib/jvm/default-java
  --max_idle_secs=600)
bazel_used=no

# run_bazel COMMAND ARGUMENT...: a command that builds.
run_bazel() {
  local command="$1"
  shift
  if [[ "$bazel_used" == no ]]; then
    bazel_used=yes
    at_exit stop_bazel
  fi
  local quiet=()
  [[ -t 2 ]] || quiet=(--show_progress_rate_limit=30)
  (cd "$REPO" && "${BAZEL[@]}" "$command" "${quiet[@]}" \
    --disk_cache="$CACHE/bazel" --symlink_prefix=/ "$@")
}

# query_bazel EXPRESSION: prints the labels.
query_bazel() {
  if [[ "$bazel_used" == no ]]; then
    bazel_used=yes
    at_exit stop_bazel
  fi
  (cd "$REPO" && "${BAZEL[@]}" query --noshow_progress \
    --ui_event_filters=-info "$1")
}

# built_file LABEL OPTION...: prints the path of a binary that was built with
# these options; the label may be an alias.
built_file() {
  local label bin
  label="$(query_bazel "kind('cc_(binary|test)', deps($1, 2))")"
  label="${label#//}"
  shift
  bin="$(cd "$REPO" && "${BAZEL[@]}" info --noshow_progress \
    --ui_event_filters=-info "$@" bazel-bin)"
  echo "$bin/${label/://}"
}

stop_bazel() {
  [[ "$bazel_used" == yes ]] || return 0
  bazel_used=no
  (cd "$REPO" && "${BAZEL[@]}" shutdown >/dev/null 2>&1)
}
