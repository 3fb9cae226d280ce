// VcpuSet: the vCPU threads of a VM, the gate through which they enter the
// guest, and the accesses that wait.
//
// Each vCPU that runs has a thread. Before every entry the thread passes the
// gate: it stays outside while somebody keeps the vCPUs parked, and ends when
// the set is stopped. Park(), Stop() and friends raise a flag, kick the
// threads out of the guest, and wait until all of them are outside.
//
// An access that must wait takes its vCPU out of the guest, undone
// (engine/doc/enforcement.md, "Waiting"): the pager ejects it, the thread comes
// out of KVM_RUN and waits in user space, where it can be parked and stopped
// like any other.
//
// Thread safety: all methods, from any thread; Load(), Start() and Stop() one
// at a time. Park() and Stop() BLOCK until the vCPUs are outside; pagers must
// be running meanwhile.

#ifndef ENGINE_VM_VCPU_SET_H_
#define ENGINE_VM_VCPU_SET_H_

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/memory/memslot.h"
#include "engine/sync/mutex.h"
#include "engine/vm/vcpu_runner.h"
#include "engine/vm/vm_types.h"

namespace tdp {

// Why an access has to wait.
struct WaitReason {
  WaitCause cause = WaitCause::kFaultPolicy;
  std::string detail;
  bool needs_tables = false;  // the page tables' limits stand in the way
};

// What the vCPU threads need from their VM. Called without locks.
class VcpuHost {
 public:
  // What came of an access that the hypervisor left to the daemon.
  struct AccessAnswer {
    enum class Kind { kDone, kWait, kAgain };
    Kind kind = Kind::kDone;
    std::string read_bytes;  // kDone
    WaitReason reason;       // kWait
  };

  virtual ~VcpuHost() = default;
  // Makes the access of a kAccess exit, through the tables, if they allow it.
  virtual AccessAnswer MakeAccess(const GuestExit& exit) = 0;
  // Whether an access that is about to wait for `reason` need not. Called with
  // the set's lock held: it must not use the set.
  virtual bool NeedNotWait(const WaitingAccess& access,
                           const WaitReason& reason) = 0;
  // An access begins to wait. Called as NeedNotWait() is.
  virtual void OnWaiting(const WaitingAccess& access) = 0;
  // `failed`: the guest or the host cannot go on. `last`: no vCPU runs any
  // more. Runs in the vCPU's thread, which ends afterwards. A vCPU that Stop()
  // ended has the reason "STOPPED".
  virtual void OnExited(int index, const std::string& reason, bool failed,
                        bool last) = 0;
};

class VcpuSet {
 public:
  // `host` outlives the set.
  VcpuSet(std::vector<std::unique_ptr<VcpuRunner>> runners, VcpuHost& host);
  // Stops the vCPUs.
  ~VcpuSet();
  VcpuSet(const VcpuSet&) = delete;
  VcpuSet& operator=(const VcpuSet&) = delete;

  int size() const { return static_cast<int>(vcpus_.size()); }
  // The vCPU starts this guest at the next Start().
  void Load(int index, LoadedGuest guest);
  bool HasGuest() const;

  // Boots and runs each vCPU that has a guest. REQUIRES: none runs.
  absl::Status Start();
  // Waits for threads whose vCPUs have ended by themselves, if all have.
  void JoinIfEnded();
  // Ends all vCPU threads. Accesses that wait are left undone.
  void Stop();
  // Asks the threads to end and does not wait: for vCPU threads themselves.
  void RequestStop();

  // Keeps the vCPUs outside of the guest until as many Unpark() calls.
  void Park();
  void Unpark();
  // Like Park(), and shown as PAUSED.
  void Pause();
  void Resume();

  // A pager is about to serve `event`, and has served it. BeginFault() returns
  // false if there is nothing to serve: the vCPU has come out by itself, or it
  // is wanted outside and was ejected at once. If it is
  // wanted outside meanwhile, it need not wait for the pager. The memslot is
  // pinned in between.
  bool BeginFault(Memslot& memslot, const FaultEvent& event);
  // Whether the vCPU still sleeps in a fault that was begun. If not, it is
  // woken for the case that it sleeps in a later one there.
  bool StillFaults(Memslot& memslot, const FaultEvent& event);
  void EndFault(Memslot& memslot, const FaultEvent& event);
  // Takes the vCPU of `event` out of the guest, its access undone. With a
  // `reason` it waits outside until the access is granted or released; without
  // one it looks again. For pagers.
  void Eject(Memslot& memslot, const FaultEvent& event,
             const WaitReason* reason);
  // Lets accesses look again: those that `filter` names.
  void Release(absl::FunctionRef<bool(const WaitingAccess&)> filter);

  // Lets this access look again. False if it does not wait.
  bool Release(int64_t access_id);
  // Like RequestStop(), if this access waits. False if it does not.
  bool RequestStopIfWaiting(int64_t access_id);

  VcpuInfo Describe(int index) const;
  int64_t waiting_count() const;
  // Oldest first.
  std::vector<WaitingAccess> ListWaiting() const;

 private:
  struct Vcpu {
    std::unique_ptr<VcpuRunner> runner;
    std::optional<LoadedGuest> guest;
    std::thread thread;
    // Guarded by VcpuSet::mutex_:
    pid_t thread_id = 0;
    bool running = false;  // the thread has a guest to run
    bool inside = false;   // passed the gate and may be in the guest
    bool exited = false;
    bool failed = false;
    std::string exit_reason;
    std::string console;
    std::optional<WaitingAccess> waiting;
    // The frames that were refused for this vCPU, until it comes out: more than
    // one where it was past a fault before the refusal for it. The memslots
    // stay: they change only while all vCPUs are outside.
    std::vector<std::pair<Memslot*, Gfn>> refused;
    // The frames that are served for this vCPU now. More than one while an
    // event that is stale by now is looked at.
    std::vector<std::pair<Memslot*, Gfn>> faults;
  };

  // Starts a thread for each vCPU that was booted, or some of them on an error.
  absl::Status StartThreads() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void JoinThreads() ABSL_LOCKS_EXCLUDED(mutex_);
  void RunThread(int index);
  // Waits until the vCPU may enter the guest: nobody parks it and no access of
  // it waits. False: the set is stopped.
  bool PassGate(Vcpu& vcpu) ABSL_LOCKS_EXCLUDED(mutex_);
  // True if the vCPU goes on.
  bool HandleExit(int index, const GuestExit& exit, bool maybe_refused);
  bool ServeAccess(int index, const GuestExit& exit);
  // Undoes the ejection of a vCPU that came out. True if there was one.
  bool FinishEjection(Vcpu& vcpu) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AppendConsole(Vcpu& vcpu, const std::string& bytes);
  // Makes every vCPU come outside. The reason is written before. A vCPU that
  // sleeps in a fault is ejected: a signal would make it spin.
  void KickAll() ABSL_LOCKS_EXCLUDED(mutex_);
  bool WantedOutside() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stop_ || paused_ || park_count_ > 0;
  }
  // Refuses the page for a vCPU that is inside, and kicks it. False, and
  // nothing changed, if the host does not let it.
  bool RefuseFor(Vcpu& vcpu, Memslot& memslot, Gfn gfn)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WaitUntilOutside() ABSL_LOCKS_EXCLUDED(mutex_);
  // Makes the vCPU of this thread wait on an access. False if the access need
  // not wait, or the vCPU is not inside or waits already.
  bool BeginWaiting(pid_t thread_id, Gfn gfn, bool write,
                    const WaitReason& reason) ABSL_LOCKS_EXCLUDED(mutex_);
  Vcpu* FindInside(pid_t thread_id, int* index)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static std::vector<std::pair<Memslot*, Gfn>>::iterator FindFault(
      Vcpu& vcpu, Memslot& memslot, Gfn gfn);
  bool AnyRunning() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  VcpuHost& host_;
  // Pages refused now, and how often one was refused or admitted so far: an
  // exit that a refusal may have caused is told from the guest's own by them.
  std::atomic<int64_t> refused_count_{0};
  std::atomic<uint64_t> refusal_epoch_{0};

  mutable Mutex mutex_;
  CondVar changed_;
  std::vector<Vcpu> vcpus_;  // the vector is constant; see Vcpu for the rest
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;
  int park_count_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t next_access_id_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace tdp

#endif  // ENGINE_VM_VCPU_SET_H_
