// A first program with the client library: runs a VM on a daemon, looks at its
// memory, and leaves nothing behind.
//
//   example [TARGET]
//
// TARGET is where the daemon listens, unix:/run/tdpd/tdpd.sock by default.

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "client/lib/address.h"
#include "client/lib/call_error.h"
#include "client/lib/client.h"
#include "client/lib/event_text.h"
#include "client/lib/target.h"

namespace {

namespace v1 = tdp::v1;
using tdp::client::Client;

constexpr char kVm[] = "vms/example";
constexpr uint64_t kFrames = 16384;       // 64 MiB of 4 KiB frames
constexpr uint64_t kMappedFrames = 4096;  // 16 MiB

// What a program does with an error: the text for people, the reason for
// itself.
[[noreturn]] void Die(const char* step, const absl::Status& error) {
  fprintf(stderr, "%s: %s\n", step, tdp::client::ErrorText(error).c_str());
  if (const auto info = tdp::client::ErrorInfoOf(error)) {
    fprintf(stderr, "reason: %s\n", info->reason().c_str());
  }
  exit(1);
}

void Check(const char* step, const absl::Status& status) {
  if (!status.ok()) Die(step, status);
}

// The value of an answer, or the end.
template <typename Response>
Response Get(const char* step, absl::StatusOr<Response> response) {
  Check(step, response.status());
  return *std::move(response);
}

void Create(Client& client) {
  v1::CreateVmRequest vm;
  vm.set_vm_id("example");
  vm.mutable_vm()->set_vcpu_count(1);
  Get("create the VM", client.CreateVm(vm));
  v1::CreateMemslotRequest memslot;
  memslot.set_parent(kVm);
  memslot.set_memslot_id("ram");
  memslot.mutable_memslot()->set_frame_count(kFrames);
  Get("create its memory", client.CreateMemslot(memslot));
}

// Maps the first frames before the guest touches them.
void Map(Client& client) {
  v1::MapRangeRequest request;
  request.set_vm(kVm);
  request.mutable_range()->set_end_gfn(kMappedFrames);
  request.set_write(true);
  const auto response = client.MapRange(request);
  if (!response.ok()) Die("map", response.status());
  printf("mapped %ld frames\n", response->mapped_frame_count());
}

// Lets the daemon's built-in guest write to every frame.
void Run(Client& client) {
  v1::LoadGuestRequest load;
  load.set_name("vms/example/vcpus/0");
  v1::TouchGuest& touch = *load.mutable_guest()->mutable_touch();
  touch.mutable_range()->set_end_gfn(kFrames);
  touch.set_write(true);
  Get("load a guest", client.LoadGuest(load));
  v1::StartVmRequest start;
  start.set_name(kVm);
  Get("start", client.StartVm(start));
  v1::WaitVcpuRequest wait;
  wait.set_name("vms/example/vcpus/0");
  const v1::Vcpu vcpu = Get("wait", client.WaitVcpu(wait)).vcpu();
  printf("the guest touched %ld frames\n", vcpu.touched_frame_count());
  v1::GetVmStatsRequest stats;
  stats.set_vm(kVm);
  printf("%ld of them faulted\n",
         Get("count", client.GetVmStats(stats)).stats().fault_fixed_count());
}

// Counts frames by walking over all of them. Called for each batch of entries;
// if the stream breaks, it goes on behind the last one.
void Walk(Client& client) {
  v1::WalkRangeRequest request;
  request.set_vm(kVm);
  request.mutable_range()->set_end_gfn(kFrames);
  request.set_leaves_only(true);
  request.set_present_only(true);
  uint64_t frames = 0;
  const absl::Status status =
      client.WalkRange(request, [&](const v1::WalkRangeResponse& batch) {
        for (const v1::Spte& spte : batch.sptes()) {
          frames += spte.level() == v1::PAGE_LEVEL_4K ? 1 : 512;
        }
        return true;  // false would end the walk
      });
  Check("walk", status);
  printf("%lu frames are mapped\n", frames);
}

void Zap(Client& client) {
  v1::ZapRangeRequest request;
  request.set_vm(kVm);
  request.mutable_range()->set_end_gfn(kFrames);
  const auto zapped =
      Get("zap", client.ZapRange(request, [](uint64_t next_gfn) {
        fprintf(stderr, "zapped up to %s\n",
                tdp::client::FormatFrameAddress(next_gfn).c_str());
      }));
  printf("zapped %ld frames\n", zapped.zapped_frame_count());
}

// What happened so far, from the first event on, until the VM has stopped.
void PrintEvents(Client& client) {
  v1::WatchEventsRequest request;
  request.set_vm(kVm);
  request.set_start_sequence(1);
  Check(
      "watch",
      client.WatchEvents(request, [](const v1::WatchEventsResponse& response) {
        for (const v1::Event& event : response.events()) {
          printf("event %ld: %s\n", event.sequence(),
                 tdp::client::EventText(event).c_str());
          if (event.vm_state_changed().new_state() == v1::Vm::STATE_STOPPED) {
            return false;
          }
        }
        return true;
      }));
}

// An error that this program makes on purpose.
void AskForNothing(Client& client) {
  v1::GetVmRequest request;
  request.set_name("vms/nobody");
  const absl::Status error = client.GetVm(request).status();
  if (absl::IsNotFound(error)) {
    printf("%s\n", tdp::client::ErrorInfoOf(error)->reason().c_str());
  }
}

void Delete(Client& client) {
  v1::DeleteVmRequest request;
  request.set_name(kVm);
  Get("delete", client.DeleteVm(request));
}

}  // namespace

int main(int argc, char** argv) {
  tdp::client::Target target;
  if (argc > 1) target.address = argv[1];
  const auto connected = Client::Create(target);
  if (!connected.ok()) Die("connect", connected.status());
  // The whole of it may take five minutes, retries included.
  const std::unique_ptr<Client> client =
      (*connected)->WithDeadline(absl::Now() + absl::Minutes(5));
  Create(*client);
  Map(*client);
  Run(*client);
  Walk(*client);
  PrintEvents(*client);
  Zap(*client);
  AskForNothing(*client);
  Delete(*client);
  return 0;
}
