# shellcheck shell=bash
# Finds out which functions of the daemon run while it serves, so that the
# linker puts them side by side (server/link_order.txt). Scattered over the
# program they cost a small call a tenth more: each lies on a page, and in cache
# lines, of its own.

readonly LINK_ORDER="$REPO/server/link_order.txt"
readonly LINK_ORDER_PACKAGES=(linux-perf)
# What is asked for, hottest first: small calls, then all others.
readonly LINK_ORDER_MIXES=(
  "walk_gfn"
  "walk_gfn=90,map=5,zap=5"
  "walk_frames,walk_range,stream_ops,age,get_vm,get_stats,get_info"
)
readonly LINK_ORDER_SECONDS=10
readonly LINK_ORDER_HZ=15000

verb_link-order() {
  setup_build
  install_packages "${LINK_ORDER_PACKAGES[@]}"
  run_bazel build --config=release -- //:tdpd //:tdpctl //client/tdpbench
  mkdir -p "$BIN_DIR"
  install "$(built_file //:tdpd --config=release)" \
    "$(built_file //:tdpctl --config=release)" "$BIN_DIR/"
  local tdpbench
  tdpbench="$(built_file //client/tdpbench --config=release)"
  stop_bazel

  start_daemon
  tdpctl vm create order >/dev/null
  tdpctl slot create order ram --base=0 --size=64M >/dev/null
  tdpctl map order 0..64M >/dev/null
  local mix
  for mix in "${LINK_ORDER_MIXES[@]}"; do
    say "sampling: $mix"
    # shellcheck disable=SC2154  # of daemon.sh
    perf record --quiet --event=cpu-clock --freq="$LINK_ORDER_HZ" \
      --pid="$daemon_pid" --output="$SCRATCH/perf.data" -- \
      "$tdpbench" order --target="unix:$SOCKET" --mix="$mix" \
      --duration="${LINK_ORDER_SECONDS}s" >/dev/null
    sampled_functions "$SCRATCH/perf.data" >>"$SCRATCH/functions"
  done
  {
    echo "# Functions in the order in which the linker lays them out: the"
    echo "# hottest first. Made by deploy/dev.sh link-order."
    section_names <"$SCRATCH/functions" | awk '!seen[$0]++'
  } >"$SCRATCH/link_order.txt"
  mv "$SCRATCH/link_order.txt" "$LINK_ORDER"
  say "$(grep -c '^\.text' "$LINK_ORDER") functions: $LINK_ORDER"
}

# section_names: a pattern for the section of each function. gRPC's generated
# names have a thousand letters, of which the ends tell them apart.
section_names() {
  awk '{
    if (length($0) > 160) $0 = substr($0, 1, 60) "*" substr($0, length($0) - 89)
    print ".text." $0
  }'
}

# sampled_functions DATA: prints the linker's names of the daemon's functions
# that were seen, hottest first.
sampled_functions() {
  perf report --input="$1" --no-demangle --no-children --call-graph=none \
    --dsos=tdpd --sort=symbol --stdio 2>/dev/null |
    awk '/^ +[0-9.]+%/ && $2 == "[.]" && $3 !~ /^0x/ {print $3}'
}
