#include "engine/vm/vcpu_set.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/check.h"
#include "engine/base/limits.h"
#include "engine/sync/thread.h"

namespace tdp {

VcpuSet::VcpuSet(std::vector<std::unique_ptr<VcpuRunner>> runners,
                 VcpuHost& host)
    : host_(host), vcpus_(runners.size()) {
  for (size_t i = 0; i < runners.size(); ++i) {
    vcpus_[i].runner = std::move(runners[i]);
  }
}

VcpuSet::~VcpuSet() { Stop(); }

void VcpuSet::Load(int index, LoadedGuest guest) {
  MutexLock lock(mutex_);
  vcpus_[static_cast<size_t>(index)].guest = std::move(guest);
}

bool VcpuSet::HasGuest() const {
  MutexLock lock(mutex_);
  return std::any_of(vcpus_.begin(), vcpus_.end(),
                     [](const Vcpu& vcpu) { return vcpu.guest.has_value(); });
}

absl::Status VcpuSet::Start() {
  Stop();  // joins threads that ended by themselves
  for (Vcpu& vcpu : vcpus_) {
    if (!vcpu.guest.has_value()) continue;
    if (absl::Status s = vcpu.runner->Boot(*vcpu.guest); !s.ok()) return s;
  }
  absl::Status status;
  {
    MutexLock lock(mutex_);
    status = StartThreads();
  }
  if (!status.ok()) Stop();
  return status;
}

absl::Status VcpuSet::StartThreads() {
  stop_ = false;
  paused_ = false;
  for (Vcpu& vcpu : vcpus_) {
    vcpu.running = vcpu.guest.has_value();
    vcpu.exited = false;
    vcpu.failed = false;
    vcpu.waiting.reset();
    if (!vcpu.running) continue;
    vcpu.exit_reason.clear();
    vcpu.console.clear();
  }
  for (size_t i = 0; i < vcpus_.size(); ++i) {
    if (!vcpus_[i].running) continue;
    absl::Status started = StartThread(
        absl::StrCat("tdpd-vcpu", i),
        [this, i] { RunThread(static_cast<int>(i)); }, &vcpus_[i].thread);
    if (!started.ok()) {
      for (size_t k = i; k < vcpus_.size(); ++k) vcpus_[k].running = false;
      return started;
    }
  }
  return absl::OkStatus();
}

void VcpuSet::RequestStop() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    changed_.NotifyAll();
  }
  KickAll();
}

bool VcpuSet::RequestStopIfWaiting(int64_t access_id) {
  {
    MutexLock lock(mutex_);
    const bool waits =
        std::any_of(vcpus_.begin(), vcpus_.end(), [&](const Vcpu& vcpu) {
          return vcpu.waiting.has_value() &&
                 vcpu.waiting->access_id == access_id;
        });
    if (!waits) return false;
    stop_ = true;
    changed_.NotifyAll();
  }
  KickAll();
  return true;
}

void VcpuSet::JoinIfEnded() {
  {
    MutexLock lock(mutex_);
    if (AnyRunning()) return;
  }
  JoinThreads();
}

void VcpuSet::Stop() {
  RequestStop();
  JoinThreads();
}

void VcpuSet::JoinThreads() {
  for (Vcpu& vcpu : vcpus_) {
    if (vcpu.thread.joinable()) vcpu.thread.join();
  }
}

void VcpuSet::Park() {
  {
    MutexLock lock(mutex_);
    ++park_count_;
  }
  KickAll();
  WaitUntilOutside();
}

void VcpuSet::Unpark() {
  MutexLock lock(mutex_);
  --park_count_;
  changed_.NotifyAll();
}

void VcpuSet::Pause() {
  {
    MutexLock lock(mutex_);
    paused_ = true;
  }
  KickAll();
  WaitUntilOutside();
}

void VcpuSet::Resume() {
  MutexLock lock(mutex_);
  paused_ = false;
  changed_.NotifyAll();
}

void VcpuSet::KickAll() {
  // The thread clears the kick before it reads the reason. So none is missed.
  MutexLock lock(mutex_);
  for (Vcpu& vcpu : vcpus_) {
    bool ejected = false;
    if (vcpu.inside) {
      for (const auto& [memslot, gfn] : vcpu.faults) {
        ejected |= RefuseFor(vcpu, *memslot, gfn);
      }
    }
    if (!ejected) vcpu.runner->Kick();
  }
}

void VcpuSet::WaitUntilOutside() {
  MutexLock lock(mutex_);
  const auto any_inside = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return std::any_of(vcpus_.begin(), vcpus_.end(),
                       [](const Vcpu& vcpu) { return vcpu.inside; });
  };
  while (any_inside()) changed_.Wait(mutex_);
}

bool VcpuSet::AnyRunning() const {
  return std::any_of(vcpus_.begin(), vcpus_.end(),
                     [](const Vcpu& vcpu) { return vcpu.running; });
}

void VcpuSet::RunThread(int index) {
  Vcpu& vcpu = vcpus_[static_cast<size_t>(index)];
  vcpu.runner->BindThread();
  {
    MutexLock lock(mutex_);
    vcpu.thread_id = gettid();
  }
  bool go_on = true;
  while (go_on && PassGate(vcpu)) {
    // The epoch first: a refusal that begins in between is counted.
    const uint64_t epoch = refusal_epoch_.load(std::memory_order_acquire);
    const int64_t refused = refused_count_.load(std::memory_order_acquire);
    const GuestExit exit = vcpu.runner->Run();
    const bool maybe_refused =
        refused > 0 || refusal_epoch_.load(std::memory_order_acquire) != epoch;
    go_on = HandleExit(index, exit, maybe_refused);
  }
  vcpu.runner->UnbindThread();
  bool failed = false;
  bool last = false;
  std::string reason;
  {
    MutexLock lock(mutex_);
    FinishEjection(vcpu);
    vcpu.faults.clear();
    if (!vcpu.exited) vcpu.exit_reason = "STOPPED";
    vcpu.exited = true;
    vcpu.running = false;
    vcpu.inside = false;
    vcpu.waiting.reset();
    vcpu.thread_id = 0;
    failed = vcpu.failed;
    reason = vcpu.exit_reason;
    last = !AnyRunning();
    changed_.NotifyAll();
  }
  host_.OnExited(index, reason, failed, last);
}

bool VcpuSet::PassGate(Vcpu& vcpu) {
  vcpu.runner->ClearKick();
  MutexLock lock(mutex_);
  // Nobody refuses a page for a vCPU that is outside, so a memslot that
  // changes while all are outside has no page refused.
  FinishEjection(vcpu);
  vcpu.faults.clear();
  vcpu.inside = false;
  changed_.NotifyAll();
  while (!stop_ && (WantedOutside() || vcpu.waiting.has_value())) {
    changed_.Wait(mutex_);
  }
  vcpu.inside = !stop_;
  return vcpu.inside;
}

bool VcpuSet::HandleExit(int index, const GuestExit& exit, bool maybe_refused) {
  Vcpu& vcpu = vcpus_[static_cast<size_t>(index)];
  bool ejected = false;
  {
    MutexLock lock(mutex_);
    ejected = FinishEjection(vcpu);
    vcpu.exit_reason = exit.name;
  }
  switch (exit.kind) {
    case GuestExit::Kind::kInterrupted:
    case GuestExit::Kind::kIgnored:
      return true;
    case GuestExit::Kind::kConsole:
      AppendConsole(vcpu, exit.bytes);
      return true;
    case GuestExit::Kind::kAccess:
      return ServeAccess(index, exit);
    case GuestExit::Kind::kRefused:
      // A refused page explains the exit, be it for this vCPU or for another
      // one that touched the same page: look again.
      if (ejected || maybe_refused) return true;
      break;
    case GuestExit::Kind::kDone:
    case GuestExit::Kind::kFailed:
      break;
  }
  MutexLock lock(mutex_);
  vcpu.exited = true;
  vcpu.failed = exit.kind != GuestExit::Kind::kDone;
  return false;
}

bool VcpuSet::ServeAccess(int index, const GuestExit& exit) {
  Vcpu& vcpu = vcpus_[static_cast<size_t>(index)];
  while (PassGate(vcpu)) {
    const VcpuHost::AccessAnswer answer = host_.MakeAccess(exit);
    switch (answer.kind) {
      case VcpuHost::AccessAnswer::Kind::kDone:
        vcpu.runner->CompleteAccess(absl::MakeConstSpan(
            reinterpret_cast<const uint8_t*>(answer.read_bytes.data()),
            answer.read_bytes.size()));
        return true;
      case VcpuHost::AccessAnswer::Kind::kAgain:
        // An owner is at work, or a memslot changes: then the gate closes.
        sched_yield();
        break;
      case VcpuHost::AccessAnswer::Kind::kWait:
        BeginWaiting(gettid(), GfnOf(exit.gpa), exit.is_write, answer.reason);
        break;
    }
  }
  return false;
}

bool VcpuSet::BeginWaiting(pid_t thread_id, Gfn gfn, bool write,
                           const WaitReason& reason) {
  WaitingAccess access = {.gfn = gfn,
                          .access = {.read = !write, .write = write},
                          .cause = reason.cause,
                          .detail = reason.detail};
  {
    MutexLock lock(mutex_);
    Vcpu* vcpu = FindInside(thread_id, &access.vcpu_index);
    if (vcpu == nullptr || vcpu->waiting.has_value()) return false;
    access.access_id = next_access_id_++;
    vcpu->waiting = access;
    // Who grants the access from here on sees it waiting; who did before is
    // seen here.
    if (host_.NeedNotWait(access, reason)) {
      vcpu->waiting.reset();
      return false;
    }
    // Whoever sees the access wait finds that it was told.
    host_.OnWaiting(access);
  }
  return true;
}

VcpuSet::Vcpu* VcpuSet::FindInside(pid_t thread_id, int* index) {
  for (size_t i = 0; i < vcpus_.size(); ++i) {
    if (vcpus_[i].thread_id != thread_id || !vcpus_[i].inside) continue;
    *index = static_cast<int>(i);
    return &vcpus_[i];
  }
  return nullptr;
}

bool VcpuSet::RefuseFor(Vcpu& vcpu, Memslot& memslot, Gfn gfn) {
  refused_count_.fetch_add(1, std::memory_order_acq_rel);
  refusal_epoch_.fetch_add(1, std::memory_order_acq_rel);
  if (!memslot.Refuse(gfn).ok()) {
    // Too many mappings, for instance: cutting a page out takes two more.
    refused_count_.fetch_sub(1, std::memory_order_acq_rel);
    return false;
  }
  vcpu.refused.emplace_back(&memslot, gfn);
  // Awake now, so the signal is safe. Some accesses (the real-mode vector
  // table) are tried again inside the kernel until one comes.
  vcpu.runner->Kick();
  return true;
}

bool VcpuSet::BeginFault(Memslot& memslot, const FaultEvent& event) {
  MutexLock lock(mutex_);
  int index = 0;
  Vcpu* vcpu = FindInside(event.thread, &index);
  if (vcpu == nullptr) {
    // Stale: nobody waits for an answer. Who does all the same looks again.
    memslot.Wake({event.gfn, event.gfn + 1});
    return false;
  }
  if (WantedOutside() && RefuseFor(*vcpu, memslot, event.gfn)) return false;
  vcpu->faults.emplace_back(&memslot, event.gfn);
  return true;
}

bool VcpuSet::StillFaults(Memslot& memslot, const FaultEvent& event) {
  MutexLock lock(mutex_);
  int index = 0;
  Vcpu* vcpu = FindInside(event.thread, &index);
  if (vcpu != nullptr &&
      FindFault(*vcpu, memslot, event.gfn) != vcpu->faults.end()) {
    return true;
  }
  memslot.Wake({event.gfn, event.gfn + 1});
  return false;
}

void VcpuSet::EndFault(Memslot& memslot, const FaultEvent& event) {
  MutexLock lock(mutex_);
  int index = 0;
  Vcpu* vcpu = FindInside(event.thread, &index);
  if (vcpu == nullptr) return;
  const auto found = FindFault(*vcpu, memslot, event.gfn);
  if (found != vcpu->faults.end()) vcpu->faults.erase(found);
}

std::vector<std::pair<Memslot*, Gfn>>::iterator VcpuSet::FindFault(
    Vcpu& vcpu, Memslot& memslot, Gfn gfn) {
  return std::find(vcpu.faults.begin(), vcpu.faults.end(),
                   std::pair(&memslot, gfn));
}

void VcpuSet::Eject(Memslot& memslot, const FaultEvent& event,
                    const WaitReason* reason) {
  const bool waits = reason == nullptr || BeginWaiting(event.thread, event.gfn,
                                                       event.write, *reason);
  if (waits) {
    MutexLock lock(mutex_);
    int index = 0;
    Vcpu* vcpu = FindInside(event.thread, &index);
    if (vcpu != nullptr) {
      if (RefuseFor(*vcpu, memslot, event.gfn)) return;
      vcpu->waiting.reset();
    }
  }
  // The access need not wait, or it cannot be made to: it looks again. Where
  // the host is short of something, not at once.
  if (reason != nullptr && reason->cause == WaitCause::kHostFailed) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  memslot.Wake({event.gfn, event.gfn + 1});
}

bool VcpuSet::FinishEjection(Vcpu& vcpu) {
  if (vcpu.refused.empty()) return false;
  for (const auto& [memslot, gfn] : vcpu.refused) {
    const absl::Status admitted = memslot->Admit(gfn);
    TDP_CHECK(admitted.ok(), "a window page that was refused can be admitted");
    refused_count_.fetch_sub(1, std::memory_order_acq_rel);
    refusal_epoch_.fetch_add(1, std::memory_order_acq_rel);
  }
  vcpu.refused.clear();
  return true;
}

void VcpuSet::Release(absl::FunctionRef<bool(const WaitingAccess&)> filter) {
  MutexLock lock(mutex_);
  for (Vcpu& vcpu : vcpus_) {
    if (vcpu.waiting.has_value() && filter(*vcpu.waiting)) {
      vcpu.waiting.reset();
    }
  }
  changed_.NotifyAll();
}

bool VcpuSet::Release(int64_t access_id) {
  bool found = false;
  Release([&](const WaitingAccess& access) {
    if (access.access_id != access_id) return false;
    found = true;
    return true;
  });
  return found;
}

std::vector<WaitingAccess> VcpuSet::ListWaiting() const {
  std::vector<WaitingAccess> waiting;
  {
    MutexLock lock(mutex_);
    for (const Vcpu& vcpu : vcpus_) {
      if (vcpu.waiting.has_value()) waiting.push_back(*vcpu.waiting);
    }
  }
  std::sort(waiting.begin(), waiting.end(),
            [](const WaitingAccess& a, const WaitingAccess& b) {
              return a.access_id < b.access_id;
            });
  return waiting;
}

void VcpuSet::AppendConsole(Vcpu& vcpu, const std::string& bytes) {
  MutexLock lock(mutex_);
  vcpu.console.append(bytes);
  constexpr size_t kMaxBytes = limits::kMaxConsoleBytes;
  if (vcpu.console.size() > kMaxBytes) {
    vcpu.console.erase(0, vcpu.console.size() - kMaxBytes);
  }
}

VcpuInfo VcpuSet::Describe(int index) const {
  MutexLock lock(mutex_);
  const Vcpu& vcpu = vcpus_[static_cast<size_t>(index)];
  VcpuInfo info = {.index = index};
  if (vcpu.waiting.has_value()) {
    info.state = VcpuState::kWaiting;
  } else if (vcpu.running) {
    info.state = paused_ ? VcpuState::kPaused : VcpuState::kRunning;
  } else {
    info.state = vcpu.exited ? VcpuState::kExited : VcpuState::kIdle;
  }
  info.exit_reason = vcpu.exit_reason;
  info.instruction_pointer = vcpu.runner->instruction_pointer();
  info.console = vcpu.console;
  info.touched_frame_count = vcpu.runner->touched_frame_count();
  info.waiting_access = vcpu.waiting;
  return info;
}

int64_t VcpuSet::waiting_count() const {
  MutexLock lock(mutex_);
  return std::count_if(vcpus_.begin(), vcpus_.end(), [](const Vcpu& vcpu) {
    return vcpu.waiting.has_value();
  });
}

}  // namespace tdp
