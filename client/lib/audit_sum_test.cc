#include "client/lib/audit_sum.h"

#include "gtest/gtest.h"

namespace tdp::client {
namespace {

v1::AuditRangeResponse Part(uint64_t next_gfn, int divergences) {
  v1::AuditRangeResponse part;
  part.set_next_gfn(next_gfn);
  part.set_compared_frame_count(10);
  part.set_divergent_frame_count(divergences);
  part.set_host_stricter_frame_count(1);
  for (int i = 0; i < divergences; ++i) {
    part.add_divergences()->set_gfn(next_gfn + i);
  }
  return part;
}

TEST(AuditSumTest, CountsAddUpAndTheLastStopIsKept) {
  v1::AuditRangeResponse sum;
  AddAudit(Part(10, 0), 3, sum);
  AddAudit(Part(20, 2), 3, sum);
  EXPECT_EQ(sum.next_gfn(), 20u);
  EXPECT_EQ(sum.compared_frame_count(), 20);
  EXPECT_EQ(sum.divergent_frame_count(), 2);
  EXPECT_EQ(sum.host_stricter_frame_count(), 2);
  EXPECT_EQ(sum.divergences(1).gfn(), 21u);
}

TEST(AuditSumTest, DivergencesBeyondTheLimitAreOnlyCounted) {
  v1::AuditRangeResponse sum;
  AddAudit(Part(10, 2), 3, sum);
  AddAudit(Part(20, 2), 3, sum);
  AddAudit(Part(30, 2), 3, sum);
  EXPECT_EQ(sum.divergences_size(), 3);
  EXPECT_EQ(sum.divergences(2).gfn(), 20u);
  EXPECT_EQ(sum.divergent_frame_count(), 6);
}

}  // namespace
}  // namespace tdp::client
