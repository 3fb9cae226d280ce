#include "server/base/process_tuning.h"

#include "gtest/gtest.h"

namespace tdp::server {
namespace {

TEST(ProcessTuningTest, TheAllocatorTakesAllOfIt) {
  EXPECT_TRUE(TuneProcess());
}

}  // namespace
}  // namespace tdp::server
