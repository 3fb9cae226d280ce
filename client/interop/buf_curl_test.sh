#!/bin/bash
# Drives a daemon with `buf curl`, which learns the API by server reflection:
#
#   buf_curl_test.sh WITH_DAEMON TDPD
#
# Calls itself again, below a daemon, with "calls" as the only argument.
set -eu

if [[ $1 != calls ]]; then
  exec "$1" "$2" "$0" calls
fi

source client/interop/npm_modules.sh
buf=$npm_modules/.bin/buf
export HOME=$home

# call METHOD REQUEST: prints the response; the exit code is buf's.
call() {
  "$buf" curl --unix-socket "$TDPD_SOCKET" --http2-prior-knowledge \
    --protocol grpc --data "$2" "http://localhost/$1"
}

# expect METHOD REQUEST PATTERN: the response, without spaces, must match.
expect() {
  local response
  response=$(call "$1" "$2" | tr -d ' \n')
  if [[ ! $response =~ $3 ]]; then
    echo "$1 $2 answered $response, want $3"
    exit 1
  fi
}

# expect_error METHOD REQUEST CODE REASON: the call must fail so. buf shows the
# ErrorInfo with the reason as base64 without padding.
expect_error() {
  local answer info
  if answer=$(call "$1" "$2" 2>&1); then
    echo "$1 $2 succeeded: $answer"
    exit 1
  fi
  info=$(sed -n 's/.*"value": "\(.*\)".*/\1/p' <<<"$answer")
  if [[ $answer != *"\"code\": \"$3\""* ||
    $answer != *'"type": "google.rpc.ErrorInfo"'* ]] ||
    ! (base64 -d <<<"$info==" 2>/dev/null || true) | grep -aq "$4"; then
    echo "$1 $2 failed with $answer, want $3 and $4"
    exit 1
  fi
}

"$buf" curl --unix-socket "$TDPD_SOCKET" --http2-prior-knowledge \
  --protocol grpc --list-methods http://localhost >"$TEST_TMPDIR/methods"
for method in tdp.v1.VmService/CreateVm tdp.v1.MmuService/WalkRange \
  grpc.health.v1.Health/Check; do
  if ! grep -qx "$method" "$TEST_TMPDIR/methods"; then
    echo "reflection does not list $method:"
    cat "$TEST_TMPDIR/methods"
    exit 1
  fi
done

vm=tdp.v1.VmService
mmu=tdp.v1.MmuService
expect grpc.health.v1.Health/Check '{}' '"status":"SERVING"'
expect tdp.v1.InfoService/GetInfo '{}' '"apiVersions":\["tdp.v1"\]'
expect $vm/CreateVm '{"vmId":"curl","vm":{"vcpuCount":1}}' \
  '"name":"vms/curl".*"state":"STATE_CREATED"'
expect tdp.v1.MemslotService/CreateMemslot \
  '{"parent":"vms/curl","memslotId":"ram","memslot":{"frameCount":"1024"}}' \
  '"name":"vms/curl/memslots/ram"'
expect $mmu/MapRange \
  '{"vm":"vms/curl","range":{"endGfn":"8"},"maxLevel":"PAGE_LEVEL_4K"}' \
  '"nextGfn":"8","mappedFrameCount":"8"'
expect $mmu/WalkGfn '{"vm":"vms/curl","gfn":"7"}' \
  '"level":"PAGE_LEVEL_512G".*"level":"PAGE_LEVEL_4K","baseGfn":"7"'
expect $mmu/WalkRange \
  '{"vm":"vms/curl","range":{"endGfn":"1024"},"leavesOnly":true,"presentOnly":true}' \
  '"baseGfn":"6".*"baseGfn":"7"'
expect $mmu/ZapRange '{"vm":"vms/curl","range":{"startGfn":"4","endGfn":"6"}}' \
  '"zappedFrameCount":"2"'
expect tdp.v1.StatsService/GetVmStats '{"vm":"vms/curl"}' '"leaf4kCount":"6"'
expect $mmu/AuditRange '{"vm":"vms/curl","range":{"endGfn":"1024"}}' \
  '"comparedFrameCount":"1024"'
expect tdp.v1.GuestMemoryService/WriteGuestMemory \
  '{"vm":"vms/curl","gpa":"4096","data":"aGVsbG8="}' '"writtenBytes":"5"'
expect tdp.v1.GuestMemoryService/ReadGuestMemory \
  '{"vm":"vms/curl","gpa":"4096","sizeBytes":"5"}' '"data":"aGVsbG8="'

expect_error $vm/GetVm '{"name":"vms/none"}' not_found RESOURCE_NOT_FOUND
expect_error $mmu/MapRange \
  '{"vm":"vms/curl","range":{"startGfn":"2000","endGfn":"2001"}}' \
  out_of_range GFN_NOT_BACKED
expect $mmu/AgeRange \
  '{"vm":"vms/curl","range":{"endGfn":"1024"},"testOnly":true}' \
  '"youngFrameCount":"6"'
expect $mmu/StreamOperations \
  '{"vm":"vms/curl","operations":[{"walkGfn":"7"},{"zap":{"range":{"startGfn":"6","endGfn":"7"}}}]}' \
  '"baseGfn":"7".*"changedCount":"1"'
expect_error tdp.v1.StatsService/WatchVmStats \
  '{"vm":"vms/curl","interval":"0.001s"}' invalid_argument FIELD_INVALID
expect tdp.v1.WorkingSetService/EstimateWorkingSet '{"vm":"vms/curl"}' \
  '"buckets":\[\{"minAge":"0s","frameCount":"5"\}'
expect_error $vm/CreateVm '{"vmId":"Not A Name","vm":{"vcpuCount":1}}' \
  invalid_argument FIELD_INVALID

expect $vm/DeleteVm '{"name":"vms/curl"}' '^\{\}$'
# The events of a deleted VM are gone with it.
expect_error tdp.v1.EventService/WatchEvents \
  '{"vm":"vms/curl","startSequence":"1"}' not_found RESOURCE_NOT_FOUND
echo "buf curl: every call answered as it should"
