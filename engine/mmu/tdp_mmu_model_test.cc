// Random sequences of all verbs, each step checked against a flat model
// (engine/testing/mmu_model.h says what of the reference is checked how).
//
// A failure prints its seed and step. Replay it with
//   TDP_MODEL_SEED=... TDP_MODEL_STEPS=... tdp_mmu_model_test
// which prints each operation. TDP_MODEL_OPERATIONS sets how many are made.

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "engine/testing/mmu_fixture.h"
#include "engine/testing/mmu_model_run.h"

namespace tdp::testing {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kOperations = 60'000;
#elif defined(TDP_MODEL_LONG)
constexpr int64_t kOperations = 10'000'000;
#else
constexpr int64_t kOperations = 1'000'000;
#endif
constexpr int64_t kSequenceSteps = 20'000;
constexpr uint64_t kFirstSeed = 314159;

std::optional<int64_t> FromEnvironment(const char* name) {
  int64_t value = 0;
  const char* text = std::getenv(name);
  if (text == nullptr || !absl::SimpleAtoi(text, &value)) return std::nullopt;
  return value;
}

std::optional<ModelFailure> RunOnce(const ModelRunOptions& options) {
  return ModelRun(options).Run();
}

TEST(TdpMmuModelTest, RandomSequencesOfAllVerbsAgreeWithTheModel) {
  if (const auto seed = FromEnvironment("TDP_MODEL_SEED")) {
    const std::optional<ModelFailure> failure = RunOnce(
        {.seed = static_cast<uint64_t>(*seed),
         .steps = FromEnvironment("TDP_MODEL_STEPS").value_or(kSequenceSteps),
         .print_operations = true});
    EXPECT_FALSE(failure.has_value()) << failure->ToString();
    return;
  }
  const int64_t operations =
      FromEnvironment("TDP_MODEL_OPERATIONS").value_or(kOperations);
  for (int64_t done = 0; done < operations; done += kSequenceSteps) {
    const uint64_t seed =
        kFirstSeed + static_cast<uint64_t>(done / kSequenceSteps);
    const std::optional<ModelFailure> failure =
        RunOnce({.seed = seed, .steps = kSequenceSteps});
    ASSERT_FALSE(failure.has_value()) << failure->ToString();
  }
}

// What the sequences have found.
class FoundByTheModelTest : public TdpMmuTest {};

// The table of a block of which nothing may be accessed is empty after a zap.
// A map of the whole block puts no huge leaf in its place.
TEST_F(FoundByTheModelTest, ALimitHoldsWhereAnEmptyTableCouldGiveWay) {
  FakeBacking& slot = AddSlot(0, kBlock, PageLevel::k2M);
  Start();
  ASSERT_TRUE(Map(0, 1, {.max_level = PageLevel::k4K}).status.ok());
  ASSERT_TRUE(Zap(0, 1).status.ok());
  const auto never = [] { return false; };
  ASSERT_TRUE(mmu().ProtectRange(Frames(0, kBlock), {}, never).status.ok());
  EXPECT_EQ(Fault(7, false), FaultResult::kForbidden);
  EXPECT_EQ(Map(0, kBlock).changed_frames, 0);
  EXPECT_FALSE(slot.At(Gfn(7)).present);
  // And a fault for writing installs nothing that it is not granted.
  ASSERT_TRUE(
      mmu().ProtectRange(Frames(0, kBlock), {.read = true}, never).status.ok());
  EXPECT_EQ(Fault(7, true), FaultResult::kForbidden);
  EXPECT_FALSE(slot.At(Gfn(7)).present);
}

// A map grants what it can, also where a frame that aged may not be written.
TEST_F(FoundByTheModelTest, AMapForWritingBringsBackAnAgedReadOnlyFrame) {
  FakeBacking& slot = AddSlot(0, 8);
  Start();
  const auto never = [] { return false; };
  ASSERT_TRUE(
      mmu().ProtectRange(Frames(0, 8), {.read = true}, never).status.ok());
  ASSERT_EQ(MapWritable(0, 8).changed_frames, 8);
  ASSERT_TRUE(
      mmu()
          .AgeRange(Frames(0, 8), /*test_only=*/false, never, [](GfnRange) {})
          .status.ok());
  EXPECT_EQ(MapWritable(0, 8).changed_frames, 8);
  EXPECT_TRUE(slot.Grants(Gfn(3), false));
  EXPECT_FALSE(slot.Grants(Gfn(3), true));
}

// A leaf of 1 GiB is of the level asked for, though it is split to be changed.
TEST_F(FoundByTheModelTest, AWriteProtectFromLevel1GProtectsALeafOf1GiB) {
  FakeBacking& slot =
      AddSlot(0, FramesPerEntry(PageLevel::k1G), PageLevel::k2M);
  Start();
  InstallGiantLeaf(slot, Gfn(0), /*writable=*/true);
  const MmuProgress progress = mmu().WriteProtectRange(
      slot.range(), PageLevel::k1G, [] { return false; });
  EXPECT_TRUE(progress.status.ok());
  EXPECT_EQ(progress.changed_frames, static_cast<int64_t>(slot.range().size()));
  EXPECT_FALSE(slot.Grants(Gfn(5), true));
}

// The harness itself: what is wrong is found, and found again by what was
// printed.
TEST(TdpMmuModelTest, AFailureReplaysFromItsSeedAndStep) {
  const ModelRunOptions options = {
      .seed = 99, .steps = 3000, .planted_at = 1000};
  const std::optional<ModelFailure> found = RunOnce(options);
  ASSERT_TRUE(found.has_value());
  EXPECT_GE(found->step, 1000);
  EXPECT_NE(found->ToString().find("TDP_MODEL_SEED=99 "), std::string::npos);
  // As many steps as were printed are enough, and one less is not.
  EXPECT_EQ(RunOnce({.seed = found->seed,
                     .steps = found->step + 1,
                     .planted_at = options.planted_at}),
            found);
  EXPECT_FALSE(RunOnce({.seed = found->seed, .steps = 1000}).has_value());
}

}  // namespace
}  // namespace tdp::testing
