# shellcheck shell=bash
# The daemon with a demo VM: until Ctrl-C (run), or as a story that ends (demo).

readonly BIN_DIR="$CACHE/bin"
readonly START_SECONDS=10
readonly STOP_SECONDS=15
daemon_pid=""
helper_pids=()

# Builds both binaries and puts them where their paths are short and no later
# build replaces them under a running daemon.
build_binaries() {
  setup_build
  say "building tdpd and tdpctl"
  run_bazel build //:tdpd //:tdpctl
  local tdpd tdpctl
  tdpd="$(built_file //:tdpd)"
  tdpctl="$(built_file //:tdpctl)"
  stop_bazel
  mkdir -p "$BIN_DIR"
  install "$tdpd" "$tdpctl" "$BIN_DIR/"
}

# start_daemon [FLAG...]: on a Unix socket of its own, until the script ends.
start_daemon() {
  make_scratch
  mkdir "$SCRATCH/images"
  SOCKET="$SCRATCH/tdpd.sock"
  # Ctrl-C must not end tee before the daemon.
  "$BIN_DIR/tdpd" --listen="unix:$SOCKET" --image_dir="$SCRATCH/images" "$@" \
    2> >(exec tee -i "$SCRATCH/tdpd.log" >&2) &
  daemon_pid=$!
  at_exit stop_daemon
  local deadline=$((SECONDS + START_SECONDS))
  until tdpctl info >/dev/null 2>&1; do
    kill -0 "$daemon_pid" 2>/dev/null || die "the daemon ended at once"
    ((SECONDS < deadline)) || die "no answer within $START_SECONDS s"
    sleep 0.1
  done
}

# Lets the daemon drain; returns its exit status.
stop_daemon() {
  [[ -n "$daemon_pid" ]] || return 0
  local pid="$daemon_pid" status=0
  daemon_pid=""
  kill -TERM "$pid" 2>/dev/null
  local deadline=$((SECONDS + STOP_SECONDS))
  while kill -0 "$pid" 2>/dev/null && ((SECONDS < deadline)); do
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null
  wait "$pid" 2>/dev/null || status=$?
  return "$status"
}

# Where the daemon says that its web page is, HOST:PORT.
web_address() {
  local deadline=$((SECONDS + START_SECONDS)) address=""
  until [[ -n "$address" ]]; do
    ((SECONDS < deadline)) || die "no web page within $START_SECONDS s"
    sleep 0.1
    address="$(sed -nE 's|.*web page on http://([^/]+)/.*|\1|p' \
      "$SCRATCH/tdpd.log")"
  done
  echo "$address"
}

tdpctl() { "$BIN_DIR/tdpctl" --target="unix:$SOCKET" "$@"; }

verb_run() {
  build_binaries
  say "starting the daemon; Ctrl-C stops it"
  make_scratch
  local http token="$SCRATCH/web_token"
  start_daemon --http=127.0.0.1:0 --web --web_token_file="$token"
  http="$(web_address)"
  say "a VM that writes to its 64 MiB, a hot tenth of them most of the time"
  tdpctl vm create demo --vcpus=1 >/dev/null
  tdpctl slot create demo ram --base=0 --size=64M >/dev/null
  tdpctl guest touch demo --range=0..64M --write --pattern=hot-tenth \
    --passes=-1 >/dev/null
  tdpctl vm start demo
  stir_memory &
  helper_pids+=($!)
  tdpctl ws watch demo >/dev/null 2>&1 &
  helper_pids+=($!)
  at_exit stop_helpers
  print_commands
  say "the web page: $(tdpctl web --http="$http" --token-file="$token")"
  trap 'exit 0' INT TERM
  local status=0
  wait "$daemon_pid" || status=$?
  daemon_pid=""
  die "the daemon ended by itself with status $status"
}

# What somebody who manages the memory of the demo VM could do, so that there is
# something to see.
stir_memory() {
  local mib
  while true; do
    for ((mib = 0; mib < 64; mib += 4)); do
      sleep 1
      {
        tdpctl zap demo "${mib}M..$((mib + 2))M" &&
          tdpctl collapse demo "$(((mib + 32) % 64))M+4M" &&
          tdpctl write-protect demo "$(((mib + 16) % 64))M+4M"
      } >/dev/null 2>&1 || return 0
    done
  done
}

stop_helpers() {
  kill "${helper_pids[@]}" 2>/dev/null
  wait "${helper_pids[@]}" 2>/dev/null
}

print_commands() {
  local buf="$CACHE/npm/node_modules/.bin/buf"
  [[ -x "$buf" ]] || buf="buf"
  cat <<EOF

Try, in another terminal (./deploy/dev.sh setup installs buf; grpcurl is yours):

  $BIN_DIR/tdpctl --target=unix:$SOCKET walk demo 0..64M

  $buf curl --unix-socket=$SOCKET --http2-prior-knowledge --protocol=grpc \\
    --data='{"vm": "vms/demo", "gfn": 256}' \\
    http://localhost/tdp.v1.MmuService/WalkGfn

  grpcurl -plaintext -unix -authority=localhost -d '{"vm": "vms/demo"}' \\
    $SOCKET tdp.v1.StatsService/GetVmStats

EOF
}

verb_demo() {
  build_binaries
  start_daemon

  step "a VM with one vCPU and 64 MiB, that is 16384 frames, none mapped"
  show vm create demo --vcpus=1
  show slot create demo ram --base=0 --size=64M
  show guest touch demo --range=0..64M --write
  expect "frames mapped" 0 "$(mapped_frames)"

  step "map the first 16 MiB before the guest runs"
  show map demo 0..16M --write
  expect "frames mapped" 4096 "$(mapped_frames)"

  step "run: the guest writes to every frame; only the other 12288 fault"
  run_guest
  expect "faults fixed" 12288 "$(stat faultFixedCount)"
  expect "frames touched" 16384 \
    "$(tdpctl --json vcpu get demo 0 | json_number touchedFrameCount)"
  expect "frames mapped" 16384 "$(mapped_frames)"

  step "walk to a frame that was mapped, and to one that faulted"
  show walk demo 0x100000
  show walk demo 0x1000000
  expect "leaf entries on the path" 1 "$(tdpctl --json walk demo 0x1000000 |
    grep -o '"leaf":true' | wc -l)"

  step "zap 1 MiB: 256 frames lose their mapping, their bytes stay"
  show zap demo 16M..17M
  expect "frames mapped" 16128 "$(mapped_frames)"

  step "run again: exactly the zapped frames fault"
  run_guest
  expect "faults fixed since the start" 12544 "$(stat faultFixedCount)"
  expect "frames mapped" 16384 "$(mapped_frames)"

  step "audit: does the host enforce what the tables say?"
  show audit demo 0..64M
  local audit
  audit="$(tdpctl --json audit demo 0..64M)"
  expect "frames compared" 16384 "$(json_number comparedFrameCount <<<"$audit")"
  expect "divergent frames" 0 "$(json_number divergentFrameCount <<<"$audit")"

  step "collapse: 24 tables of small mappings become huge ones, in place"
  show collapse demo 0..64M
  expect "2M mappings" 32 "$(stat leaf2mCount)"
  expect "frames mapped" 16384 "$(mapped_frames)"

  step "split them all: no frame loses its mapping, no host call is made"
  show split demo 0..64M --to=4K
  expect "4K mappings" 16384 "$(stat leaf4kCount)"

  step "age: clear what was accessed, let the guest touch 4 MiB, look again"
  tdpctl age demo 0..64M >/dev/null
  show guest touch demo --range=8M..12M
  run_guest
  show age demo 0..64M --test-only
  expect "young frames" 1024 \
    "$(tdpctl --json age demo 0..64M --test-only | json_number youngFrameCount)"

  step "limit 8 frames to reading: a write to them waits"
  show protect demo 0x1000000..0x1008000 --access=read
  show guest touch demo --range=0..64M --write
  show vm start demo
  await "the vCPU waits" vcpu_waits
  show vcpu get demo 0

  step "lift the limit: the write is made, and the guest runs to its end"
  show protect demo 0x1000000..0x1008000 --access=read-write
  show vcpu wait demo 0
  expect "frames touched" 16384 \
    "$(tdpctl --json vcpu get demo 0 | json_number touchedFrameCount)"
  await "the VM stops" vm_stopped

  step "dirty log: the guest writes 4 MiB, and exactly that is dirty"
  show slot update demo ram --dirty-log=on
  show guest touch demo --range=8M..12M --write
  run_guest
  show dirty read demo ram
  expect "dirty frames cleared" 1024 \
    "$(tdpctl --json dirty clear demo ram | json_number clearedFrameCount)"

  step "the working set, and memory as a map of characters"
  show ws estimate demo
  show heatmap demo/ram --range=7M..13M

  step "discard 4 MiB: the host has its memory back"
  expect "bytes freed" 4194304 \
    "$(tdpctl --json discard demo 8M..12M | json_number freedBytes)"
  show heatmap demo/ram --range=7M..13M

  step "a memslot whose faults wait for a verdict"
  show slot update demo ram --fault-policy=wait
  show guest touch demo --range=8M..0x801000 --write
  show vm start demo
  await "the vCPU waits" vcpu_waits
  show waiting list demo
  show resolve demo "$(tdpctl --json waiting list demo |
    json_number accessId)" grant
  show vcpu wait demo 0
  await "the VM stops" vm_stopped

  step "zap everything and leave"
  show zap-all demo --wait
  expect "frames mapped" 0 "$(mapped_frames)"
  show vm delete demo
  stop_daemon || die "the daemon ended with status $?"
  say "every figure is as it should be"
}

step() {
  echo
  say "$1"
}

# Shows a command of tdpctl and what it prints.
show() {
  echo "\$ tdpctl $*"
  tdpctl "$@"
}

# Runs the guest of the demo VM once, to its end.
run_guest() {
  show vm start demo
  show vcpu wait demo 0
  await "the VM stops" vm_stopped
}

vm_stopped() { tdpctl --json vm get demo | grep -q '"state":"STATE_STOPPED"'; }
vcpu_waits() {
  tdpctl --json vcpu get demo 0 | grep -q '"state":"STATE_WAITING"'
}

# await WHAT COMMAND: until the command succeeds.
await() {
  local deadline=$((SECONDS + START_SECONDS))
  until "$2"; do
    ((SECONDS < deadline)) || die "$1: not within $START_SECONDS s"
    sleep 0.1
  done
}

# stat FIELD: a statistic of the demo VM now.
stat() { tdpctl --json stats demo | json_number "$1"; }

# Frames that leaf entries map.
mapped_frames() {
  local stats
  stats="$(tdpctl --json stats demo)"
  local small large
  small="$(json_number leaf4kCount <<<"$stats")"
  large="$(json_number leaf2mCount <<<"$stats")"
  echo $((small + 512 * large))
}

# json_number FIELD: its value in the JSON object on stdin.
json_number() {
  sed -nE "s/.*\"$1\":\"?(-?[0-9]+).*/\\1/p"
}

# expect WHAT WANTED ACTUAL
expect() {
  [[ "$3" == "$2" ]] || die "$1: $3, but it should be $2"
  echo "   $1: $3, as it should be"
}

# Remakes the pictures in deploy/README.md.
verb_screenshots() {
  setup_test
  say "building tdpd"
  run_bazel build //:tdpd
  local tdpd
  tdpd="$(built_file //:tdpd)"
  stop_bazel
  (cd "$REPO" && TDPD_NPM="$NPM_DIR" TDPD_SCREENSHOTS=deploy/screenshots \
    server/web/page_test/page_test.sh "$tdpd")
}
