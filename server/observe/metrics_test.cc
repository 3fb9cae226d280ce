// What is scraped: numbers of VMs and of the process, histograms, text.

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/observe/log2_histogram.h"
#include "server/observe/metric_family.h"
#include "server/observe/process_metrics.h"
#include "server/observe/vm_metrics.h"
#include "server/testing/fake_vm_registry.h"

namespace tdp::server {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string TextOf(const MetricSource& source) {
  MetricSources sources;
  sources.Add(&source);
  return ToPrometheusText(sources.Collect());
}

TEST(Log2HistogramTest, PutsACallInTheBucketWhoseBoundItDoesNotExceed) {
  EXPECT_EQ(CallBucketOf(std::numeric_limits<int64_t>::min()), 0);
  EXPECT_EQ(CallBucketOf(0), 0);
  EXPECT_EQ(CallBucketOf(1), 0);
  EXPECT_EQ(CallBucketOf(16000), 0);
  EXPECT_EQ(CallBucketOf(16001), 1);
  EXPECT_EQ(CallBucketOf(std::numeric_limits<int64_t>::max()),
            kCallBucketCount - 1);
  // Each bound, and one nanosecond more, of every bucket but the last.
  for (int i = 0; i + 1 < kCallBucketCount; ++i) {
    const int64_t bound = int64_t{1000} << (i + kFirstCallBucketLog2Us);
    EXPECT_EQ(CallBucketOf(bound), i);
    EXPECT_EQ(CallBucketOf(bound + 1), i + 1);
  }
}

TEST(Log2HistogramTest, AddsUpBucketsWithBoundsInSeconds) {
  const auto histogram = ToHistogram({5, 0, 2, 1}, 0, 1.5);
  ASSERT_EQ(histogram.bucket.size(), 4u);
  EXPECT_DOUBLE_EQ(histogram.bucket[0].upper_bound, 1e-6);
  EXPECT_DOUBLE_EQ(histogram.bucket[2].upper_bound, 4e-6);
  EXPECT_TRUE(std::isinf(histogram.bucket[3].upper_bound));
  EXPECT_EQ(histogram.bucket[0].cumulative_count, 5u);
  EXPECT_EQ(histogram.bucket[1].cumulative_count, 5u);
  EXPECT_EQ(histogram.bucket[2].cumulative_count, 7u);
  EXPECT_EQ(histogram.bucket[3].cumulative_count, 8u);
  EXPECT_EQ(histogram.sample_count, 8u);
  EXPECT_DOUBLE_EQ(histogram.sample_sum, 1.5);
}

TEST(Log2HistogramTest, EstimatesASumFromTheMiddleOfBuckets) {
  EXPECT_DOUBLE_EQ(EstimateSumSeconds({2}, 0), 1e-6);
  EXPECT_DOUBLE_EQ(EstimateSumSeconds({0, 0, 1}, 0), 3e-6);
}

TEST(MetricTextTest, EscapesWhatALabelHolds) {
  std::vector<prometheus::MetricFamily> families;
  FamilyBuilder::Gauge("g", "Help\nme.")
      .Add({{"vm", "a\"} 1\nforged{x=\"\\"}}, 7)
      .MoveTo(families);
  EXPECT_EQ(ToPrometheusText(families),
            "# HELP g Help\nme.\n# TYPE g gauge\n"
            "g{vm=\"a\\\"} 1\\nforged{x=\\\"\\\\\"} 7\n");
}

TEST(VmMetricsTest, ShowsEachVmAndHowManyThereAre) {
  FakeVmRegistry registry;
  VmConfig config;
  config.vcpu_count = 2;
  ASSERT_TRUE(registry.CreateVm("a", config, false).ok());
  ASSERT_TRUE(registry.CreateVm("b", config, false).ok());
  const auto vm = registry.FindVm("a");
  ASSERT_TRUE(vm.ok());
  MemslotConfig memslot;
  memslot.frame_count = 8;
  ASSERT_TRUE((*vm)->CreateMemslot("ram", memslot, false).ok());

  const std::string text = TextOf(VmMetrics(registry));
  for (const char* line :
       {"tdpd_vms{state=\"created\"} 2\n", "tdpd_vms{state=\"running\"} 0\n",
        "tdpd_vm_state{vm=\"a\",state=\"created\"} 1\n",
        "tdpd_vm_state{vm=\"a\",state=\"running\"} 0\n",
        "tdpd_vm_vcpus{vm=\"b\"} 2\n", "tdpd_vm_memslots{vm=\"a\"} 1\n",
        "tdpd_vm_memslot_bytes{vm=\"a\"} 32768\n",
        "tdpd_vm_memslot_bytes{vm=\"b\"} 0\n",
        "tdpd_vm_leaf_entries{vm=\"a\",page=\"4k\"} 0\n",
        "tdpd_vm_faults_total{vm=\"a\",outcome=\"fixed\"} 3\n",
        "tdpd_vm_fault_duration_seconds_count{vm=\"a\",outcome=\"fixed\"} 3\n",
        "tdpd_vm_fault_duration_seconds_bucket{vm=\"a\",outcome=\"fixed\","
        "le=\"1e-06\"} 1\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(VmMetricsTest, ForgetsAVmThatIsDeleted) {
  FakeVmRegistry registry;
  registry.MakeVmForTest("gone");
  const VmMetrics metrics(registry);
  EXPECT_THAT(TextOf(metrics), HasSubstr("vm=\"gone\""));
  ASSERT_TRUE(registry.DeleteVm("gone", "").ok());
  EXPECT_THAT(TextOf(metrics), Not(HasSubstr("vm=\"gone\"")));
}

TEST(ProcessMetricsTest, KnowsItself) {
  const ProcessUsage usage = ReadProcessUsage();
  EXPECT_GE(usage.threads, 1);
  EXPECT_GE(usage.open_fds, 3);
  EXPECT_GE(usage.max_fds, usage.open_fds);
  EXPECT_GT(usage.resident_bytes, 1 << 20);
  EXPECT_GT(usage.virtual_bytes, usage.resident_bytes);
  EXPECT_GE(usage.cpu_seconds, 0);
  const double now = absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch());
  EXPECT_LE(usage.start_time_seconds, now + 1);
  EXPECT_GT(usage.start_time_seconds, now - 3600);
  EXPECT_THAT(TextOf(ProcessMetrics("software")),
              HasSubstr(",hypervisor=\"software\"} 1\n"));
}

}  // namespace
}  // namespace tdp::server
