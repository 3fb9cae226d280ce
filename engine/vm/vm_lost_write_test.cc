// The hunt for lost writes: guests write while clients change everything that
// may be changed without changing bytes.
//
// One memslot has a part for each writer. Two vCPUs write pass numbers to
// frames in a random order, on KVM a third one counts in random frames, one
// only reads, and the daemon writes as well. Meanwhile clients map, zap, split,
// collapse, age, protect, move memslots, and switch the dirty log off and on;
// three consumers each keep a copy of memory by the dirty log; one client
// audits. At the end every byte is what its writer wrote, which is known from
// how often it wrote, and every copy equals memory.
//
// TDPD_HUNT_SECONDS says how long it all takes.

#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/vm/touch_sequence.h"
#include "engine/vm/vm_test_util.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

using Random = std::mt19937_64;

constexpr char kRam[] = "ram";
constexpr Gfn kHome(0);
constexpr Gfn kAway((1 << 20) + 37);  // where no huge leaf is legal
constexpr Gfn kProgram(1 << 19);      // of the guest that counts
constexpr Gfn kTally = kProgram + 1;
constexpr Gfn kOther(1 << 21);  // a memslot that moves while guests run
constexpr uint64_t kPart = 1024;
constexpr GfnRange kShuffled = {Gfn(0), Gfn(kPart)};
constexpr GfnRange kUniform = {Gfn(kPart), Gfn(2 * kPart)};
// The next two writers leave out every second frame.
constexpr GfnRange kCounted = {Gfn(2 * kPart), Gfn(3 * kPart)};
constexpr GfnRange kDaemons = {Gfn(3 * kPart), Gfn(4 * kPart)};
constexpr GfnRange kOnlyRead = {Gfn(4 * kPart), Gfn(5 * kPart)};
constexpr uint64_t kFrames = 5 * kPart;
constexpr GfnRange kAll = {kHome, kHome + kFrames};
constexpr int64_t kFramesInMemslot = kFrames;

constexpr uint64_t kMultiplier = 6364136223846793005;
constexpr uint64_t kIncrement = 1442695040888963407;

constexpr int kInstances = 4;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kDefaultSeconds = 24;
#else
constexpr int64_t kDefaultSeconds = 60;
#endif

absl::Duration DurationOfInstance() {
  int64_t seconds = kDefaultSeconds;
  const char* wanted = getenv("TDPD_HUNT_SECONDS");
  if (wanted != nullptr && !absl::SimpleAtoi(wanted, &seconds)) {
    ADD_FAILURE() << "TDPD_HUNT_SECONDS is no number: " << wanted;
  }
  return absl::Seconds(seconds) / kInstances;
}

// In 64-bit mode, for ever: increments the counter at the start of a random
// frame of kCounted and, locked, the one behind it, then the tally.
std::string CountingCode() {
  std::string code;
  const auto load = [&](const char* opcode, uint64_t value) {
    code.append(opcode, 2);
    code.append(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  load("\x48\xb8", 0);                              // mov rax, 0
  load("\x49\xb8", kMultiplier);                    // mov r8, ...
  load("\x49\xb9", kIncrement);                     // mov r9, ...
  load("\x48\xbb", GpaOf(kCounted.start).value());  // mov rbx, ...
  load("\x48\xb9", GpaOf(kTally).value());          // mov rcx, ...
  code.append(
      "\x49\x0f\xaf\xc0"          // l: imul rax, r8
      "\x4c\x01\xc8"              // add rax, r9
      "\x48\x89\xc6"              // mov rsi, rax
      "\x48\xc1\xee\x37"          // shr rsi, 55
      "\x48\xc1\xe6\x0d"          // shl rsi, 13
      "\x48\xff\x04\x33"          // inc qword [rbx + rsi]
      "\xf0\x48\xff\x44\x33\x08"  // lock inc qword [rbx + rsi + 8]
      "\x48\xff\x01"              // inc qword [rcx]
      "\xeb\xdf",                 // jmp l
      33);
  return code;
}

uint64_t Word(const std::string& bytes, size_t index) {
  uint64_t word = 0;
  memcpy(&word, bytes.data() + index * sizeof(word), sizeof(word));
  return word;
}

// Of a call that may meet a memslot that is away or moves.
void ExpectDoneOrMoved(const absl::Status& status) {
  if (status.ok()) return;
  const ErrorReason reason = ReasonOf(status);
  EXPECT_TRUE(reason == ErrorReason::kOperationConflict ||
              reason == ErrorReason::kGfnNotBacked)
      << status;
}

GfnRange RandomRange(Random& random, uint64_t max_frames) {
  const Gfn start(random() % kFrames);
  return {start, std::min(kAll.end, start + 1 + random() % max_frames)};
}

// One consumer of the dirty log, and the copy that it keeps. Belongs to one
// thread at a time.
class Copier {
 public:
  // `may_be_dirty` says which frames may ever be reported, by their place in
  // the memslot.
  Copier(Vm& vm, std::string consumer,
         std::function<bool(uint64_t)> may_be_dirty)
      : vm_(vm),
        consumer_(std::move(consumer)),
        may_be_dirty_(std::move(may_be_dirty)),
        copy_(kFrames) {}

  // Reads, clears and copies in pieces. `epoch` says how often the log was
  // switched on: a log that is new knows of nothing that was written before.
  void Pass(int64_t epoch, uint64_t piece) {
    if (epoch != epoch_) {
      for (uint64_t i = 0; i < kFrames; ++i) owed_.insert(i);
      epoch_ = epoch;
    }
    for (uint64_t i = 0; i < kFrames; i += piece) {
      ReadAndClear(i, piece);
      Copy();
    }
  }

  void ExpectEqualsMemory() {
    EXPECT_TRUE(owed_.empty());
    for (uint64_t i = 0; i < kFrames; ++i) {
      ASSERT_EQ(copy_[i], *vm_.ReadMemory(GpaOf(kHome + i), kBytes))
          << "frame " << i << " of consumer " << consumer_;
    }
  }
  int64_t reported() const { return reported_; }

 private:
  static constexpr uint64_t kBytes = 64;  // written ones are among them

  Gfn Base() const { return vm_.GetMemslot(kRam)->config.base_gfn; }
  static bool IsConflict(const absl::Status& status) {
    switch (ReasonOf(status)) {
      case ErrorReason::kOperationConflict:
      case ErrorReason::kDirtyLogOff:
      case ErrorReason::kFieldInvalid:  // it is not there any more
        return true;
      default:
        return false;
    }
  }
  void ReadAndClear(uint64_t first, uint64_t piece) {
    const Gfn base = Base();
    const auto chunk =
        vm_.ReadDirtyLog(kRam, consumer_, {base + first, base + first + piece});
    if (!chunk.ok()) {
      EXPECT_TRUE(IsConflict(chunk.status())) << chunk.status();
      return;
    }
    const auto cleared = vm_.ClearDirtyLog(kRam, consumer_, *chunk);
    if (!cleared.ok()) {
      EXPECT_TRUE(IsConflict(cleared.status())) << cleared.status();
      return;
    }
    reported_ += *cleared;
    for (uint64_t i = 0; i < static_cast<uint64_t>(chunk->frame_count); ++i) {
      if ((static_cast<uint8_t>(chunk->bits[i / 8]) >> (i % 8) & 1) == 0) {
        continue;
      }
      const uint64_t place = chunk->first_gfn + i - base;
      ASSERT_LT(place, kFrames);
      EXPECT_TRUE(may_be_dirty_(place)) << "frame " << place;
      owed_.insert(place);
    }
  }
  void Copy() {
    const Gfn base = Base();
    for (auto it = owed_.begin(); it != owed_.end();) {
      auto bytes = vm_.ReadMemory(GpaOf(base + *it), kBytes);
      if (!bytes.ok()) {
        ExpectDoneOrMoved(bytes.status());
        return;
      }
      copy_[*it] = *std::move(bytes);
      it = owed_.erase(it);
    }
  }

  Vm& vm_;
  const std::string consumer_;
  const std::function<bool(uint64_t)> may_be_dirty_;
  int64_t epoch_ = -1;
  int64_t reported_ = 0;
  std::set<uint64_t> owed_;  // dirty or new, and not copied yet
  std::vector<std::string> copy_;
};

class LostWriteTest : public VmInEachDirtyModeTest {
 protected:
  static bool MayBeDirty(uint64_t place) {
    if (!WriteProtects()) return true;
    const Gfn gfn = kHome + place;
    if (kCounted.Contains(gfn)) return OnKvm() && place % 2 == 0;
    if (kDaemons.Contains(gfn)) return place % 2 == 0;
    return !kOnlyRead.Contains(gfn);
  }

  // Maps and unmaps.
  void Remap(Vm& vm, Random& random) {
    const GfnRange range = RandomRange(random, 1024);
    switch (random() % 16) {
      case 0:
        ExpectDoneOrMoved(vm.ZapAll(random() % 2 == 0).status());
        break;
      case 1:
        ExpectDoneOrMoved(vm.MapRange(kAll, 2, true, {}).status());
        break;
      default:
        ExpectDoneOrMoved(random() % 2 == 0
                              ? vm.ZapRange(range, {}).status()
                              : vm.MapRange(range,
                                            static_cast<int>(random() % 3),
                                            random() % 2 == 0, {})
                                    .status());
    }
  }
  // Changes what is mapped into something else that grants the same.
  void Reshape(Vm& vm, Random& random) {
    const GfnRange range = RandomRange(random, 1024);
    switch (random() % 5) {
      case 0:
        ExpectDoneOrMoved(vm.SplitHugePages(range, 1, {}).status());
        break;
      case 1:
        ExpectDoneOrMoved(vm.CollapseHugePages(kAll, 2, {}).status());
        break;
      case 2:
        ExpectDoneOrMoved(
            vm.AgeRange(range, {.test_only = random() % 4 == 0}, {}).status());
        break;
      case 3:
        ExpectDoneOrMoved(vm.WriteProtectRange(range, 0, {}).status());
        break;
      default: {
        using Kind = BatchOperation::Kind;
        const Gfn middle = range.start + range.size() / 2;
        if (middle == range.start) break;
        ExpectDoneOrMoved(vm.ApplyBatch({{{.kind = Kind::kZap,
                                           .range = {range.start, middle}},
                                          {.kind = Kind::kMap,
                                           .range = {middle, range.end},
                                           .write = true}}})
                              .status());
      }
    }
  }
  // Guests that run into the limit wait until it is lifted.
  void Protect(Vm& vm, Random& random) {
    const bool read = WriteProtects() && random() % 2 == 0;
    ExpectDoneOrMoved(
        vm.ProtectRange(RandomRange(random, 256), {.read = read}, {}).status());
    Audit(vm);
    GfnRange rest = kAll;
    const absl::Time end = absl::Now() + kPatience;
    while (!rest.empty()) {
      ASSERT_LT(absl::Now(), end) << "limits cannot be lifted";
      const auto progress =
          vm.ProtectRange(rest, {.read = true, .write = true}, {});
      ExpectDoneOrMoved(progress.status());
      if (progress.ok()) rest.start = progress->next_gfn;
    }
  }
  void ChangeMemslots(Vm& vm, Random& random, std::atomic<int64_t>& epoch) {
    const absl::Duration pause = absl::Microseconds(random() % 5000);
    const auto update = [&](const char* id, const MemslotUpdate& change) {
      ASSERT_OK(vm.UpdateMemslot(id, change, "").status());
    };
    switch (memslot_changes_++ % 4) {
      case 0:
        update(kRam, {.dirty_log_enabled = false});
        absl::SleepFor(pause);
        update(kRam, {.dirty_log_enabled = true});
        ++epoch;
        break;
      case 1:
        update("other", {.base_gfn = kOther + random() % 4 * kPart});
        break;
      case 2:
        // What a guest writes where no memslot is, is lost; so it is outside.
        ASSERT_OK(vm.Pause().status());
        update(kRam, {.base_gfn = kAway});
        absl::SleepFor(pause);
        update(kRam, {.base_gfn = kHome});
        ASSERT_OK(vm.Resume().status());
        break;
      default:
        if (!WriteProtects()) break;
        update(kRam, {.read_only = true});
        absl::SleepFor(pause);
        update(kRam, {.read_only = false});
    }
    absl::SleepFor(4 * pause);
  }
  // Until every guest has made a pass, or as much of it.
  static void AwaitGuests(Vm& vm) {
    const auto wrote = [&](int index) {
      return index < 3 ? vm.GetVcpu(index)->touched_frame_count
                       : static_cast<int64_t>(Tally(vm));
    };
    const absl::Time end = absl::Now() + kPatience;
    for (int i = 0; i < vm.Describe().config.vcpu_count; ++i) {
      while (wrote(i) <= int64_t{kPart}) {
        ASSERT_LT(absl::Now(), end) << "guest " << i << " does not go on";
        absl::SleepFor(absl::Microseconds(200));
      }
    }
  }
  static uint64_t Tally(Vm& vm) {
    return Word(*vm.ReadMemory(GpaOf(kTally), 8), 0);
  }
  static void Audit(Vm& vm) {
    for (const GfnRange& range : {kAll, GfnRange{kAway, kAway + kFrames}}) {
      const auto audit = vm.AuditRange(range, 8, {});
      ASSERT_OK(audit.status());
      EXPECT_EQ(audit->divergent_frame_count, 0) << "looser than their entries";
      if (audit->divergent_frame_count == 0) continue;
      for (const DivergenceView& divergence : audit->divergences) {
        ADD_FAILURE() << "frame " << divergence.gfn.value() << ", entry "
                      << Hex(divergence.engine.raw) << ", host "
                      << divergence.host_present << divergence.host_writable;
      }
    }
  }

  // Every frame holds what the guest wrote last, as its count of writes has
  // it. One write more may have been made and not counted.
  static void ExpectWritten(Vm& vm, int index, const TouchGuestConfig& guest) {
    const int64_t count = vm.GetVcpu(index)->touched_frame_count;
    std::vector<uint8_t> expected(guest.range.size());
    TouchSequence sequence(guest);
    Touch touch;
    for (int64_t i = 0; i < count; ++i) {
      sequence.Next(&touch);
      expected[touch.gfn - guest.range.start] = touch.value;
    }
    sequence.Next(&touch);
    for (uint64_t i = 0; i < expected.size(); ++i) {
      const Gfn gfn = guest.range.start + i;
      const auto byte =
          static_cast<uint8_t>((*vm.ReadMemory(GpaOf(gfn), 1))[0]);
      ASSERT_TRUE(byte == expected[i] ||
                  (gfn == touch.gfn && byte == touch.value))
          << "frame " << gfn.value() << " holds " << int{byte} << ", not "
          << int{expected[i]} << ", after " << count << " writes";
    }
  }
  static void ExpectCounted(Vm& vm) {
    const uint64_t tally = Tally(vm);
    std::vector<uint64_t> expected(kPart / 2);
    uint64_t state = 0;
    const auto next = [&] {
      state = state * kMultiplier + kIncrement;
      return state >> 55;
    };
    for (uint64_t i = 0; i < tally; ++i) ++expected[next()];
    // The last round may have got as far as one or both counters.
    const uint64_t present = next();
    for (uint64_t i = 0; i < kPart / 2; ++i) {
      const std::string bytes =
          *vm.ReadMemory(GpaOf(kCounted.start + 2 * i), 16);
      const uint64_t more = i == present ? 1 : 0;
      ASSERT_GE(Word(bytes, 0), expected[i]) << "frame " << i;
      ASSERT_LE(Word(bytes, 0), expected[i] + more) << "frame " << i;
      ASSERT_GE(Word(bytes, 1), expected[i]) << "locked, frame " << i;
      ASSERT_LE(Word(bytes, 1), Word(bytes, 0)) << "locked, frame " << i;
    }
  }

  int memslot_changes_ = 0;  // by the one client that makes them
};

TEST_P(LostWriteTest, NoWriteIsLostWhateverClientsDo) {
  Vm& vm = CreateVm(Hypervisor(), OnKvm() ? 4 : 3);
  const MemslotConfig logged = {.dirty_log_enabled = true,
                                .dirty_mode = Mode()};
  AddMemslot(vm, kRam, kHome.value(), kFramesInMemslot, logged);
  AddMemslot(vm, "other", kOther.value(), 64, logged);
  const TouchGuestConfig shuffled = {.range = kShuffled,
                                     .pattern = TouchPattern::kShuffled,
                                     .write = true,
                                     .pass_count = -1,
                                     .seed = 11};
  const TouchGuestConfig uniform = {.range = kUniform,
                                    .pattern = TouchPattern::kUniform,
                                    .write = true,
                                    .pass_count = -1,
                                    .seed = 12};
  ASSERT_OK(vm.LoadGuest(0, shuffled));
  ASSERT_OK(vm.LoadGuest(1, uniform));
  ASSERT_OK(
      vm.LoadGuest(2, TouchGuestConfig{.range = kOnlyRead, .pass_count = -1}));
  if (OnKvm()) {
    AddMemslot(vm, "program", kProgram.value(), 2);
    ASSERT_OK(
        vm.LoadGuest(3, CodeGuestConfig{CountingCode(), GpaOf(kProgram)}));
  }
  for (const char* consumer : {"b", "c"}) {
    ASSERT_OK(vm.CreateDirtyConsumer(consumer));
  }
  ASSERT_OK(vm.Start().status());

  const absl::Time end = absl::Now() + DurationOfInstance();
  const auto running = [&] { return absl::Now() < end && !HasFailure(); };
  std::atomic<int64_t> epoch{0};
  std::vector<std::thread> clients;
  const auto repeat = [&](std::function<void(Random&)> step) {
    clients.emplace_back([&running, step, seed = clients.size()] {
      Random random(seed);
      while (running()) {
        step(random);
        // The guests are to get on, too.
        absl::SleepFor(absl::Microseconds(random() % 1000));
      }
    });
  };
  repeat([&](Random& random) { Remap(vm, random); });
  repeat([&](Random& random) { Reshape(vm, random); });
  repeat([&](Random& random) { Protect(vm, random); });
  repeat([&](Random& random) { ChangeMemslots(vm, random, epoch); });
  repeat([&](Random&) { Audit(vm); });
  std::vector<char> written(kPart);
  repeat([&](Random& random) {
    const uint64_t frame = random() % (kPart / 2) * 2;
    const char byte = static_cast<char>(random());
    const absl::Status status =
        vm.WriteMemory(GpaOf(kDaemons.start + frame), std::string(1, byte));
    ExpectDoneOrMoved(status);
    if (status.ok()) written[frame] = byte;
  });
  std::vector<Copier> copiers;
  for (const char* consumer : {"", "b", "c"}) {
    copiers.emplace_back(vm, consumer, MayBeDirty);
  }
  for (size_t i = 0; i < copiers.size(); ++i) {
    repeat([&, i](Random& random) {
      copiers[i].Pass(epoch, 300 + 1000 * i);
      absl::SleepFor(absl::Milliseconds(random() % (1 + 10 * i)));
    });
  }
  for (std::thread& client : clients) client.join();
  AwaitGuests(vm);
  ASSERT_OK(vm.Stop().status());

  ExpectWritten(vm, 0, shuffled);
  ExpectWritten(vm, 1, uniform);
  if (OnKvm()) ExpectCounted(vm);
  for (uint64_t i = 0; i < kPart; ++i) {
    ASSERT_EQ((*vm.ReadMemory(GpaOf(kDaemons.start + i), 1))[0], written[i])
        << "frame " << i << " of the daemon's";
    ASSERT_EQ(*vm.ReadMemory(GpaOf(kOnlyRead.start + i), 16),
              std::string(16, '\0'));
  }
  for (Copier& copier : copiers) {
    copier.Pass(epoch, kFrames);
    copier.ExpectEqualsMemory();
    EXPECT_GT(copier.reported(), 0);
  }
  EXPECT_GT(epoch, 0);
  Audit(vm);
  for (int i = 0; i < vm.Describe().config.vcpu_count; ++i) {
    EXPECT_EQ(vm.GetVcpu(i)->exit_reason, "STOPPED");
  }
  RecordProperty("faults", static_cast<int>(vm.Stats().fault_fixed_count));
  RecordProperty("memslot_changes", memslot_changes_);
}

INSTANTIATE_IN_EACH_DIRTY_MODE(LostWriteTest);

}  // namespace
}  // namespace tdp
