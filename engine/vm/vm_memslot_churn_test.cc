// Memslots that change ten thousand times while guests run: nothing fails,
// nothing is left behind, and nobody reaches what was there before.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/vm/touch_sequence.h"
#include "engine/vm/vm_test_util.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

using Random = std::mt19937_64;

constexpr int kClients = 2;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kChanges = 2'000;
#else
constexpr int kChanges = 10'000;
#endif

// Each client has frames of its own. The first kGuest of them are for its
// guest: half in a memslot that stays as it is, half in one that changes.
constexpr uint64_t kClientFrames = 1 << 16;
constexpr uint64_t kGuest = 64;
constexpr uint64_t kHalf = kGuest / 2;
// Memslots that come and go: more places than memslots.
constexpr uint64_t kPlaces = 12;
constexpr uint64_t kPlaceFrames = 600;
constexpr int kMemslots = 6;

int64_t OpenFiles() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                       std::filesystem::directory_iterator());
}
int64_t Mappings() {
  std::ifstream file("/proc/self/maps");
  return std::count(std::istreambuf_iterator<char>(file), {}, '\n');
}

// What one client changes, and what it knows of it.
class Changer {
 public:
  Changer(Vm& vm, int client)
      : vm_(vm),
        prefix_(absl::StrCat("c", client, "-")),
        base_(static_cast<uint64_t>(client + 1) * kClientFrames),
        random_(static_cast<uint64_t>(client)),
        memslots_(kMemslots) {}

  Gfn base() const { return base_; }
  TouchGuestConfig guest() const {
    return {.range = {base_, base_ + kGuest},
            .pattern = TouchPattern::kShuffled,
            .write = true,
            .pass_count = -1,
            .seed = base_.value()};
  }
  void AddGuestMemory() {
    Create(absl::StrCat(prefix_, "stays"),
           {.base_gfn = base_, .frame_count = kHalf});
    Create(absl::StrCat(prefix_, "changes"),
           {.base_gfn = base_ + kHalf, .frame_count = kHalf});
  }

  // One change of a memslot.
  void Change() {
    const size_t index = random_() % memslots_.size();
    Memslot& memslot = memslots_[index];
    const std::string id = absl::StrCat(prefix_, index);
    if (random_() % 8 == 0) return ChangeGuests();
    if (!memslot.place.has_value()) {
      memslot = {.place = FreePlace(), .mark = static_cast<char>(random_())};
      Create(id,
             {.base_gfn = GfnOfPlace(*memslot.place),
              .frame_count = static_cast<int64_t>(1 + random_() % kPlaceFrames),
              .read_only = Yes(),
              .dirty_log_enabled = Yes(),
              .fault_policy = Yes() ? FaultPolicy::kWait : FaultPolicy::kMap,
              .dirty_mode = DirtyMode::kWriteProtect});
      // Not what another memslot held here.
      ExpectByte(memslot, '\0');
      const Gpa gpa = GpaOf(GfnOfPlace(*memslot.place));
      ASSERT_OK(vm_.WriteMemory(gpa, std::string(1, memslot.mark)));
      const Gfn first = GfnOfPlace(*memslot.place);
      ASSERT_OK(vm_.MapRange({first, first + 1}, 0, true, {}).status());
      return;
    }
    switch (random_() % 5) {
      case 0:
        ExpectByte(memslot, memslot.mark);
        ASSERT_OK(vm_.DeleteMemslot(id, ""));
        memslot.place.reset();
        break;
      case 1:
        memslot.place = FreePlace();
        Update(id, {.base_gfn = GfnOfPlace(*memslot.place)});
        ExpectByte(memslot, memslot.mark);
        break;
      case 2:
        Update(id, {.read_only = Yes()});
        break;
      case 3:
        Update(id, {.dirty_log_enabled = Yes()});
        break;
      default:
        Update(id, {.fault_policy = Policy()});
    }
  }

  // Lets the guest go on.
  void OpenGuests() {
    Update(absl::StrCat(prefix_, "changes"),
           {.read_only = false, .fault_policy = FaultPolicy::kMap});
  }
  void DeleteAll() {
    for (size_t i = 0; i < memslots_.size(); ++i) {
      if (!memslots_[i].place.has_value()) continue;
      ExpectByte(memslots_[i], memslots_[i].mark);
      ASSERT_OK(vm_.DeleteMemslot(absl::StrCat(prefix_, i), ""));
      memslots_[i].place.reset();
    }
  }
  void DeleteGuestMemory() {
    for (const char* id : {"stays", "changes"}) {
      ASSERT_OK(vm_.DeleteMemslot(absl::StrCat(prefix_, id), ""));
    }
  }

 private:
  struct Memslot {
    std::optional<uint64_t> place;  // none: there is no such memslot now
    char mark = '\0';               // its first byte
  };

  bool Yes() { return random_() % 2 == 0; }
  FaultPolicy Policy() {
    return Yes() ? FaultPolicy::kWait : FaultPolicy::kMap;
  }
  Gfn GfnOfPlace(uint64_t place) const {
    return base_ + kGuest + place * kPlaceFrames;
  }
  uint64_t FreePlace() {
    for (;;) {
      const uint64_t place = random_() % kPlaces;
      bool free = true;
      for (const Memslot& memslot : memslots_) {
        free = free && memslot.place != place;
      }
      if (free) return place;
    }
  }
  void Create(const std::string& id, const MemslotConfig& config) {
    ASSERT_OK(vm_.CreateMemslot(id, config, false).status());
  }
  void Update(const std::string& id, const MemslotUpdate& update) {
    ASSERT_OK(vm_.UpdateMemslot(id, update, "").status());
  }
  // A guest that runs into it waits, and goes on at the next change or the one
  // after it.
  void ChangeGuests() {
    const std::string id = absl::StrCat(prefix_, "changes");
    switch (guest_changes_++ % 6) {
      case 0:
        return Update(id, {.read_only = true});
      case 1:
        return Update(id, {.read_only = false});
      case 2:
        return Update(id, {.fault_policy = FaultPolicy::kWait});
      case 3:
        return Update(id, {.fault_policy = FaultPolicy::kMap});
      default:
        return Update(id, {.dirty_log_enabled = guest_changes_ % 2 == 1});
    }
  }
  void ExpectByte(const Memslot& memslot, char byte) {
    const auto bytes = vm_.ReadMemory(GpaOf(GfnOfPlace(*memslot.place)), 1);
    ASSERT_OK(bytes.status());
    EXPECT_EQ((*bytes)[0], byte);
  }

  Vm& vm_;
  const std::string prefix_;
  const Gfn base_;
  Random random_;
  std::vector<Memslot> memslots_;
  int guest_changes_ = 0;
};

class MemslotChurnTest : public VmOnEachHypervisorTest {
 protected:
  static void AwaitTouched(const Vm& vm, int index, int64_t more) {
    const int64_t wanted = vm.GetVcpu(index)->touched_frame_count + more;
    const absl::Time end = absl::Now() + kPatience;
    while (vm.GetVcpu(index)->touched_frame_count < wanted) {
      ASSERT_LT(absl::Now(), end) << "guest " << index << " does not go on";
      absl::SleepFor(absl::Microseconds(200));
    }
  }
  // Deleted memslots free what they held when no reader can hold it.
  static void AwaitTables(const Vm& vm, int64_t bytes) {
    const absl::Time end = absl::Now() + kPatience;
    while (vm.Stats().page_table_bytes != bytes ||
           vm.Stats().deferred_free_count != 0) {
      ASSERT_LT(absl::Now(), end)
          << vm.Stats().page_table_bytes << " bytes of tables, "
          << vm.Stats().deferred_free_count << " retired ones";
      absl::SleepFor(absl::Milliseconds(1));
    }
  }
};

TEST_P(MemslotChurnTest, TenThousandChangesFailNowhereAndLeaveNothing) {
  Vm& vm = CreateVm(GetParam(), kClients);
  const int64_t tables_before = vm.Stats().page_table_bytes;
  std::vector<Changer> changers;
  for (int i = 0; i < kClients; ++i) {
    changers.emplace_back(vm, i);
    changers.back().AddGuestMemory();
    ASSERT_OK(vm.LoadGuest(i, changers.back().guest()));
  }
  ASSERT_OK(vm.Start().status());
  const auto change = [&](int changes) {
    std::vector<std::thread> clients;
    for (Changer& changer : changers) {
      clients.emplace_back([&changer, changes] {
        for (int i = 0; i < changes && !HasFailure(); ++i) changer.Change();
        changer.DeleteAll();
        changer.OpenGuests();
      });
    }
    for (std::thread& client : clients) client.join();
  };
  // The first ones make what stays, such as the heaps of threads.
  change(200);
  const int64_t files = OpenFiles();
  const int64_t mappings = Mappings();
  const absl::Time begin = absl::Now();
  change(kChanges / kClients);
  RecordProperty(
      "changes_ms",
      static_cast<int>(absl::ToInt64Milliseconds(absl::Now() - begin)));
  EXPECT_EQ(OpenFiles(), files);
  // A heap may be cut in pieces; a memslot that leaks one in a hundred times
  // leaves more.
  EXPECT_LE(Mappings(), mappings + 20);
  EXPECT_EQ(vm.Describe().state, VmState::kRunning);
  for (int i = 0; i < kClients; ++i) AwaitTouched(vm, i, 2 * kGuest);
  ASSERT_OK(vm.Stop().status());
  for (int i = 0; i < kClients; ++i) {
    const Gfn base = changers[static_cast<size_t>(i)].base();
    ExpectBytesOfPasses(vm, i, {base, base + kGuest});
    ExpectCleanAudit(vm, {base, base + kClientFrames});
    changers[static_cast<size_t>(i)].DeleteGuestMemory();
  }
  EXPECT_TRUE(vm.ListMemslots().empty());
  EXPECT_EQ(vm.Stats().leaf_4k_count + vm.Stats().leaf_2m_count, 0);
  ASSERT_OK(vm.ZapAll(/*wait=*/true).status());
  AwaitTables(vm, tables_before);
}

// Two memslots take turns at the place to which a guest writes. Once one has
// left, no write reaches it.
TEST_P(MemslotChurnTest, AGuestWritesToTheMemslotThatIsThereNow) {
  constexpr int kTurns = 100;
  constexpr uint64_t kFrames = 16;
  constexpr Gfn kHere(64);
  constexpr Gfn kThere[] = {Gfn(1024), Gfn(2048)};
  const char* const kIds[] = {"a", "b"};
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "a", kHere.value(), kFrames);
  AddMemslot(vm, "b", kThere[1].value(), kFrames);
  ASSERT_OK(vm.LoadGuest(0, TouchGuestConfig{.range = {kHere, kHere + kFrames},
                                             .write = true,
                                             .pass_count = -1}));
  ASSERT_OK(vm.Start().status());
  const auto bytes_at = [&](Gfn start) {
    std::string bytes;
    for (uint64_t i = 0; i < kFrames; ++i) {
      bytes += *vm.ReadMemory(GpaOf(start + i), 1);
    }
    return bytes;
  };
  for (int turn = 0; turn < kTurns && !HasFailure(); ++turn) {
    const int leaves = turn % 2;
    const int comes = 1 - leaves;
    ASSERT_OK(vm.UpdateMemslot(kIds[leaves], {.base_gfn = kThere[leaves]}, "")
                  .status());
    const std::string left = bytes_at(kThere[leaves]);
    ASSERT_OK(vm.UpdateMemslot(kIds[comes], {.base_gfn = kHere}, "").status());
    const std::string came = bytes_at(kHere);
    AwaitTouched(vm, 0, 2 * kFrames);
    EXPECT_EQ(bytes_at(kThere[leaves]), left) << "turn " << turn;
    ASSERT_OK(vm.Pause().status());
    EXPECT_NE(bytes_at(kHere), came) << "turn " << turn;
    ASSERT_OK(vm.Resume().status());
  }
  ASSERT_OK(vm.Stop().status());
  ExpectCleanAudit(vm, {Gfn(0), Gfn(4096)});
}

INSTANTIATE_ON_EACH_HYPERVISOR(MemslotChurnTest);

}  // namespace
}  // namespace tdp
