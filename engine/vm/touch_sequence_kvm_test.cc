// The KVM program against TouchSequence. Frames without memory show each touch
// as an MMIO exit, so the two are compared touch by touch; frames with memory
// show the bytes.

#include <gtest/gtest.h>

#include <cstdint>
#include <thread>
#include <vector>

#include "engine/kvm/kvm_guest_fixture.h"
#include "engine/kvm/touch_program.h"
#include "engine/kvm/vcpu_kicker.h"
#include "engine/vm/touch_sequence.h"

namespace tdp {
namespace {

using Kind = VcpuExit::Kind;

constexpr TouchPattern kPatterns[] = {
    TouchPattern::kSequential, TouchPattern::kShuffled, TouchPattern::kUniform,
    TouchPattern::kHotTenth};

class TouchSequenceKvmTest : public KvmGuestTest {
 protected:
  void StartTouchGuest(const TouchGuestConfig& config) {
    InstallPrivateMemory({config.range});
    block_ = private_->touch_block(0);
    *block_ = MakeTouchBlock(config);
    StartLongMode(private_->touch_program_entry().value(),
                  private_->touch_block_gpa(0).value());
  }

  TouchBlock* block_ = nullptr;
};

TEST_F(TouchSequenceKvmTest, EveryTouchIsTheOneOfTheSequence) {
  for (const TouchPattern pattern : kPatterns) {
    for (const uint64_t frames : {1, 7, 8, 9, 100}) {
      for (const bool write : {false, true}) {
        const TouchGuestConfig config = {
            .range = {Gfn(0x200), Gfn(0x200) + frames},
            .pattern = pattern,
            .write = write,
            .pass_count = 2,
            .seed = frames};
        SCOPED_TRACE(testing::Message()
                     << "pattern " << static_cast<int>(pattern) << ", "
                     << frames << " frames, write " << write);
        StartTouchGuest(config);
        TouchSequence sequence(config);
        Touch expected;
        uint64_t count = 0;
        while (sequence.Next(&expected)) {
          const VcpuExit exit = vcpu_->Run();
          ASSERT_EQ(TouchedCount(*block_), count);
          ASSERT_EQ(exit.kind, Kind::kMmio) << exit.name;
          ASSERT_EQ(exit.mmio.gpa, GpaOf(expected.gfn));
          ASSERT_EQ(exit.mmio.size, 1u);
          ASSERT_EQ(exit.mmio.is_write, write);
          if (write) {
            ASSERT_EQ(exit.mmio.data[0], expected.value);
          }
          ++count;
        }
        EXPECT_EQ(vcpu_->Run().kind, Kind::kHlt);
        EXPECT_EQ(TouchedCount(*block_), count);
      }
    }
  }
}

TEST_F(TouchSequenceKvmTest, WritesLeaveThePassNumberInEveryFrame) {
  constexpr uint64_t kFrames = 1021;
  uint8_t* memory = AddMemory(Gpa(0x100000), kFrames * kPageSize);
  for (const TouchPattern pattern : kPatterns) {
    memset(memory, 0, kFrames * kPageSize);
    const TouchGuestConfig config = {
        .range = {Gfn(0x100), Gfn(0x100) + kFrames},
        .pattern = pattern,
        .write = true,
        .pass_count = 3,
        .seed = 5};
    StartTouchGuest(config);
    const VcpuExit exit = vcpu_->Run();
    ASSERT_EQ(exit.kind, Kind::kHlt) << exit.name;
    EXPECT_EQ(TouchedCount(*block_), 3 * kFrames);
    std::vector<uint8_t> expected(kFrames, 0);
    TouchSequence sequence(config);
    for (Touch touch; sequence.Next(&touch);) {
      expected[touch.gfn - config.range.start] = touch.value;
    }
    for (uint64_t i = 0; i < kFrames; ++i) {
      ASSERT_EQ(memory[i * kPageSize], expected[i]) << i;
      ASSERT_EQ(memory[i * kPageSize + 1], 0) << i;
    }
  }
}

TEST_F(TouchSequenceKvmTest, ReadsChangeNothing) {
  constexpr uint64_t kFrames = 64;
  uint8_t* memory = AddMemory(Gpa(0), kFrames * kPageSize);
  memset(memory, 0x99, kFrames * kPageSize);
  for (const TouchPattern pattern : kPatterns) {
    StartTouchGuest({.range = {Gfn(0), Gfn(kFrames)}, .pattern = pattern});
    ASSERT_EQ(vcpu_->Run().kind, Kind::kHlt);
    EXPECT_EQ(TouchedCount(*block_), kFrames);
  }
  for (uint64_t i = 0; i < kFrames * kPageSize; ++i) {
    ASSERT_EQ(memory[i], 0x99);
  }
}

TEST_F(TouchSequenceKvmTest, AnEndlessGuestIsSeenAtWorkAndKickedOut) {
  AddMemory(Gpa(0), 16 * kPageSize);
  ASSERT_TRUE(InstallKickSignal().ok());
  for (const TouchPattern pattern : kPatterns) {
    StartTouchGuest({.range = {Gfn(0), Gfn(16)},
                     .pattern = pattern,
                     .write = true,
                     .pass_count = -1});
    VcpuKicker kicker(vcpu_.get());
    kicker.ClearKick();
    VcpuExit exit;
    std::thread thread([&] {
      kicker.BindThisThread();
      exit = vcpu_->Run();
      kicker.UnbindThread();
    });
    while (TouchedCount(*block_) < 1000) std::this_thread::yield();
    kicker.Kick();
    thread.join();
    EXPECT_EQ(exit.kind, Kind::kInterrupted) << exit.name;
  }
}

TEST_F(TouchSequenceKvmTest, AHaltedGuestHaltsAgain) {
  AddMemory(Gpa(0), kPageSize);
  StartTouchGuest({.range = {Gfn(0), Gfn(1)}});
  EXPECT_EQ(vcpu_->Run().kind, Kind::kHlt);
  EXPECT_EQ(vcpu_->Run().kind, Kind::kHlt);
  EXPECT_EQ(TouchedCount(*block_), 1u);
}

}  // namespace
}  // namespace tdp
