// The gate and the waiting accesses, with a scripted vCPU.

#include "engine/vm/vcpu_set.h"

#include <unistd.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "engine/memory/memory_test_util.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

// Leaves the guest with the exits of a script, then stays inside until kicked.
class ScriptedRunner final : public VcpuRunner {
 public:
  explicit ScriptedRunner(std::deque<GuestExit> script)
      : script_(std::move(script)) {}

  absl::Status Boot(const LoadedGuest&) override { return boot_status; }
  void BindThread() override {}
  void UnbindThread() override {}
  GuestExit Run() override {
    MutexLock lock(mutex_);
    ++run_count_;
    if (!script_.empty()) {
      GuestExit exit = script_.front();
      script_.pop_front();
      return exit;
    }
    inside_ = true;
    thread_id_ = gettid();
    while (!kicked_) changed_.Wait(mutex_);
    inside_ = false;
    return {.kind = GuestExit::Kind::kInterrupted, .name = "INTR"};
  }
  void CompleteAccess(absl::Span<const uint8_t> read_bytes) override {
    MutexLock lock(mutex_);
    answers_.emplace_back(read_bytes.begin(), read_bytes.end());
  }
  void Kick() override {
    MutexLock lock(mutex_);
    kicked_ = true;
    changed_.NotifyAll();
  }
  void ClearKick() override {
    MutexLock lock(mutex_);
    kicked_ = false;
  }
  uint64_t instruction_pointer() const override { return 0x1000; }
  int64_t touched_frame_count() const override { return 3; }

  bool inside() {
    MutexLock lock(mutex_);
    return inside_;
  }
  pid_t thread_id() {
    MutexLock lock(mutex_);
    return thread_id_;
  }
  int run_count() {
    MutexLock lock(mutex_);
    return run_count_;
  }
  std::vector<std::string> answers() {
    MutexLock lock(mutex_);
    return answers_;
  }

  absl::Status boot_status;

 private:
  Mutex mutex_;
  CondVar changed_;
  std::deque<GuestExit> script_ ABSL_GUARDED_BY(mutex_);
  bool kicked_ ABSL_GUARDED_BY(mutex_) = false;
  bool inside_ ABSL_GUARDED_BY(mutex_) = false;
  pid_t thread_id_ ABSL_GUARDED_BY(mutex_) = 0;
  int run_count_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::string> answers_ ABSL_GUARDED_BY(mutex_);
};

class RecordingHost final : public VcpuHost {
 public:
  AccessAnswer MakeAccess(const GuestExit& exit) override {
    MutexLock lock(mutex_);
    if (!granted_) {
      return {.kind = AccessAnswer::Kind::kWait,
              .reason = {.cause = WaitCause::kProtection, .detail = "not yet"}};
    }
    AccessAnswer answer;
    if (!exit.is_write) answer.read_bytes.assign(exit.size, 'r');
    return answer;
  }
  bool NeedNotWait(const WaitingAccess&, const WaitReason&) override {
    MutexLock lock(mutex_);
    return granted_;
  }
  void OnWaiting(const WaitingAccess& access) override {
    MutexLock lock(mutex_);
    waited_.push_back(access);
  }
  void OnExited(int index, const std::string& reason, bool failed,
                bool last) override {
    MutexLock lock(mutex_);
    exits_.push_back({index, reason, failed, last});
    changed_.NotifyAll();
  }

  struct Exit {
    int index;
    std::string reason;
    bool failed;
    bool last;
  };
  std::vector<Exit> AwaitExits(size_t count) {
    MutexLock lock(mutex_);
    while (exits_.size() < count) changed_.Wait(mutex_);
    return exits_;
  }
  size_t waited_count() {
    MutexLock lock(mutex_);
    return waited_.size();
  }
  void Grant() {
    MutexLock lock(mutex_);
    granted_ = true;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool granted_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<WaitingAccess> waited_ ABSL_GUARDED_BY(mutex_);
  std::vector<Exit> exits_ ABSL_GUARDED_BY(mutex_);
};

class VcpuSetTest : public testing::Test {
 protected:
  ScriptedRunner& AddVcpu(std::deque<GuestExit> script) {
    auto runner = std::make_unique<ScriptedRunner>(std::move(script));
    ScriptedRunner& added = *runner;
    runners_.push_back(std::move(runner));
    return added;
  }
  VcpuSet& Start() {
    vcpus_ = std::make_unique<VcpuSet>(std::move(runners_), host_);
    for (int i = 0; i < vcpus_->size(); ++i) {
      vcpus_->Load(i, RealModeEntry{});
    }
    EXPECT_TRUE(vcpus_->Start().ok());
    return *vcpus_;
  }
  template <typename Condition>
  static void Await(Condition condition) {
    while (!condition()) absl::SleepFor(absl::Microseconds(100));
  }

  RecordingHost host_;
  std::vector<std::unique_ptr<VcpuRunner>> runners_;
  std::unique_ptr<VcpuSet> vcpus_;
};

constexpr GuestExit::Kind kDone = GuestExit::Kind::kDone;

TEST_F(VcpuSetTest, ExitForGoodIsReportedOnceAndTheLastOneIsTold) {
  AddVcpu({{.kind = kDone, .name = "HLT"}});
  AddVcpu({{.kind = GuestExit::Kind::kIgnored, .name = "IO"},
           {.kind = kDone, .name = "SHUTDOWN"}});
  VcpuSet& vcpus = Start();
  const auto exits = host_.AwaitExits(2);
  EXPECT_NE(exits[0].index, exits[1].index);
  EXPECT_FALSE(exits[0].last);
  EXPECT_TRUE(exits[1].last);
  EXPECT_FALSE(exits[0].failed || exits[1].failed);
  EXPECT_EQ(vcpus.Describe(0).state, VcpuState::kExited);
  EXPECT_EQ(vcpus.Describe(0).exit_reason, "HLT");
  EXPECT_EQ(vcpus.Describe(0).instruction_pointer, 0x1000u);
  EXPECT_EQ(vcpus.Describe(1).exit_reason, "SHUTDOWN");
}

TEST_F(VcpuSetTest, ParkedVcpusAreOutsideUntilEveryoneUnparks) {
  ScriptedRunner& runner = AddVcpu({});
  VcpuSet& vcpus = Start();
  Await([&] { return runner.inside(); });
  vcpus.Park();
  vcpus.Park();
  EXPECT_FALSE(runner.inside());
  const int entries = runner.run_count();
  vcpus.Unpark();
  absl::SleepFor(absl::Milliseconds(5));
  EXPECT_EQ(runner.run_count(), entries);
  vcpus.Unpark();
  Await([&] { return runner.inside(); });
  EXPECT_EQ(vcpus.Describe(0).state, VcpuState::kRunning);
  vcpus.Pause();
  EXPECT_EQ(vcpus.Describe(0).state, VcpuState::kPaused);
  vcpus.Resume();
  Await([&] { return runner.inside(); });
}

TEST_F(VcpuSetTest, StopEndsVcpusThatRunAndThatArePaused) {
  ScriptedRunner& runner = AddVcpu({});
  AddVcpu({});
  VcpuSet& vcpus = Start();
  Await([&] { return runner.inside(); });
  vcpus.Pause();
  vcpus.Stop();
  const auto exits = host_.AwaitExits(2);
  EXPECT_EQ(exits[0].reason, "STOPPED");
  EXPECT_TRUE(exits[1].last);
  vcpus.Stop();
  EXPECT_EQ(host_.AwaitExits(2).size(), 2u);
}

TEST_F(VcpuSetTest, StartsAgainAfterTheEnd) {
  ScriptedRunner& runner = AddVcpu({{.kind = kDone, .name = "HLT"}});
  VcpuSet& vcpus = Start();
  host_.AwaitExits(1);
  ASSERT_TRUE(vcpus.Start().ok());
  Await([&] { return runner.inside(); });
  vcpus.Stop();
  EXPECT_EQ(host_.AwaitExits(2)[1].reason, "STOPPED");
}

TEST_F(VcpuSetTest, BootThatFailsStartsNothing) {
  AddVcpu({});
  ScriptedRunner& second = AddVcpu({});
  second.boot_status = absl::InternalError("no");
  vcpus_ = std::make_unique<VcpuSet>(std::move(runners_), host_);
  EXPECT_FALSE(vcpus_->HasGuest());
  vcpus_->Load(0, RealModeEntry{});
  vcpus_->Load(1, RealModeEntry{});
  EXPECT_TRUE(vcpus_->HasGuest());
  EXPECT_FALSE(vcpus_->Start().ok());
  EXPECT_EQ(vcpus_->Describe(0).state, VcpuState::kIdle);
}

TEST_F(VcpuSetTest, RefusedAccessThatNobodyRefusedIsAFailure) {
  AddVcpu({{.kind = GuestExit::Kind::kRefused, .name = "INTERNAL_ERROR"}});
  Start();
  const auto exits = host_.AwaitExits(1);
  EXPECT_TRUE(exits[0].failed);
  EXPECT_EQ(exits[0].reason, "INTERNAL_ERROR");
}

TEST_F(VcpuSetTest, AccessThatMustWaitWaitsOutsideUntilReleased) {
  ScriptedRunner& runner = AddVcpu({{.kind = GuestExit::Kind::kAccess,
                                     .name = "MMIO",
                                     .gpa = Gpa(0x5000),
                                     .size = 2}});
  VcpuSet& vcpus = Start();
  Await([&] { return vcpus.waiting_count() == 1; });
  const VcpuInfo info = vcpus.Describe(0);
  EXPECT_EQ(info.state, VcpuState::kWaiting);
  EXPECT_EQ(info.waiting_access->gfn, Gfn(5));
  EXPECT_EQ(info.waiting_access->detail, "not yet");
  // A waiting vCPU counts as parked, and as paused.
  vcpus.Park();
  vcpus.Unpark();
  // Released without a grant: it waits again, under a new id.
  const int64_t first_id = info.waiting_access->access_id;
  vcpus.Release([](const WaitingAccess&) { return true; });
  Await([&] {
    const VcpuInfo now = vcpus.Describe(0);
    return now.waiting_access.has_value() &&
           now.waiting_access->access_id != first_id;
  });
  vcpus.Release([](const WaitingAccess& access) {
    return access.gfn == Gfn(6);  // another frame's
  });
  EXPECT_EQ(vcpus.waiting_count(), 1);
  host_.Grant();
  vcpus.Release([](const WaitingAccess&) { return true; });
  Await([&] { return runner.inside(); });
  EXPECT_EQ(runner.answers(), std::vector<std::string>{"rr"});
}

TEST_F(VcpuSetTest, StopLeavesAWaitingAccessUndone) {
  ScriptedRunner& runner = AddVcpu({{.kind = GuestExit::Kind::kAccess,
                                     .name = "MMIO",
                                     .bytes = "x",
                                     .gpa = Gpa(0x5000),
                                     .size = 1,
                                     .is_write = true}});
  VcpuSet& vcpus = Start();
  Await([&] { return vcpus.waiting_count() == 1; });
  vcpus.Stop();
  EXPECT_TRUE(runner.answers().empty());
  EXPECT_EQ(vcpus.waiting_count(), 0);
}

TEST_F(VcpuSetTest, ConsoleKeepsTheLastBytes) {
  std::deque<GuestExit> script;
  const std::string chunk(40 << 10, 'a');
  script.push_back({.kind = GuestExit::Kind::kConsole, .bytes = chunk});
  script.push_back({.kind = GuestExit::Kind::kConsole, .bytes = chunk});
  script.push_back({.kind = GuestExit::Kind::kConsole, .bytes = "end"});
  script.push_back({.kind = kDone, .name = "HLT"});
  AddVcpu(script);
  VcpuSet& vcpus = Start();
  host_.AwaitExits(1);
  const std::string console = vcpus.Describe(0).console;
  EXPECT_EQ(console.size(), 64u << 10);
  EXPECT_EQ(console.substr(console.size() - 4), "aend");
}

// The thread of a vCPU that has left may still have an event in the queue.
TEST_F(VcpuSetTest, AFaultOfNobodyIsNotServedAndItsThreadLooksAgain) {
  AddVcpu({});
  VcpuSet& vcpus = Start();
  absl::StatusOr<std::shared_ptr<Memslot>> created = Memslot::Create(
      {.name = "ram", .range = {Gfn(0), Gfn(4)}, .base_pfn = Pfn(0)});
  ASSERT_TRUE(created.ok()) << created.status();
  Memslot& memslot = **created;
  Runner toucher([&] { *WindowByte(memslot, Gpa(0)) = 'x'; });

  EXPECT_FALSE(vcpus.BeginFault(memslot, NextFault(memslot)));
  const FaultEvent again = NextFault(memslot);
  EXPECT_EQ(again.thread, toucher.thread_id());

  const GfnRange frame = {again.gfn, again.gfn + 1};
  EXPECT_TRUE(memslot.LoadContent(frame).ok());
  EXPECT_EQ(memslot.Map(frame, HostProtection::kReadWrite).error, 0);
  memslot.Wake(frame);
  toucher.Join();
  vcpus.Stop();
}

// An event that is stale by now is looked at beside the one that the vCPU
// sleeps in, which may wait for a disk.
TEST_F(VcpuSetTest, AFaultIsKnownUntilItIsAnsweredItself) {
  ScriptedRunner& runner = AddVcpu({});
  VcpuSet& vcpus = Start();
  Await([&] { return runner.inside(); });
  absl::StatusOr<std::shared_ptr<Memslot>> created = Memslot::Create(
      {.name = "ram", .range = {Gfn(0), Gfn(4)}, .base_pfn = Pfn(0)});
  ASSERT_TRUE(created.ok()) << created.status();
  Memslot& memslot = **created;
  const FaultEvent waits = {
      .index = 1, .gfn = Gfn(1), .thread = runner.thread_id()};
  const FaultEvent stale = {
      .index = 2, .gfn = Gfn(2), .thread = runner.thread_id()};
  ASSERT_TRUE(vcpus.BeginFault(memslot, waits));
  ASSERT_TRUE(vcpus.BeginFault(memslot, stale));
  vcpus.EndFault(memslot, stale);
  EXPECT_FALSE(vcpus.StillFaults(memslot, stale));
  EXPECT_TRUE(vcpus.StillFaults(memslot, waits));
  vcpus.Pause();
  EXPECT_FALSE(vcpus.StillFaults(memslot, waits)) << "it was ejected";
  EXPECT_EQ(memslot.RefusedCount(), 0) << "and came out";
  vcpus.Resume();
  vcpus.Stop();
}

// Parkers, pausers and a stopper at the same time: every Park() sees the vCPU
// outside, and nobody hangs.
TEST_F(VcpuSetTest, ParkersAndPausersDoNotGetInEachOthersWay) {
  ScriptedRunner& runner = AddVcpu({});
  VcpuSet& vcpus = Start();
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        if (t == 2) {
          vcpus.Pause();
          EXPECT_FALSE(runner.inside());
          vcpus.Resume();
        } else {
          vcpus.Park();
          EXPECT_FALSE(runner.inside());
          vcpus.Unpark();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  Await([&] { return runner.inside(); });
  vcpus.Stop();
}

}  // namespace
}  // namespace tdp
