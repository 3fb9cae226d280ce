// Every limit that GetInfo reports, at the limit and one past it: here, through
// the handlers and the real engine, or in the test that the table names.

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/vm/vm_registry.h"
#include "gtest/gtest.h"
#include "server/convert/request_cache.h"
#include "server/services/dirty_log_service.h"
#include "server/services/guest_memory_service.h"
#include "server/services/info_service.h"
#include "server/services/memslot_service.h"
#include "server/services/mmu_service.h"
#include "server/services/vcpu_service.h"
#include "server/services/vm_service.h"
#include "server/testing/errors.h"

namespace tdp::server {
namespace {

// Limits that are tested where they are kept.
const std::map<std::string, std::string> kTestedElsewhere = {
    {"default_page_size",
     "WaitingAccessTest.HasPagesOfFiftyUnlessAskedAndOfAThousandAtMost"},
    {"max_page_size",
     "WaitingAccessTest.HasPagesOfFiftyUnlessAskedAndOfAThousandAtMost"},
    {"handshake_timeout_ms", "AttackTest.ConnectionsThatStayHalfOpenAreClosed"},
    {"keepalive_time_ms", "AttackTest.AClientThatReadsNothingIsCutOff"},
    {"keepalive_timeout_ms", "AttackTest.AClientThatReadsNothingIsCutOff"},
    {"max_batch_frames", "MmuChangesTest in engine/vm/vm_mmu_changes_test.cc"},
    {"max_batch_operations",
     "MmuChangesTest in engine/vm/vm_mmu_changes_test.cc"},
    {"max_certificate_names", "UnlikelyNamesTest in server/access"},
    {"max_console_bytes", "VcpuSetTest.ConsoleKeepsTheLastBytes"},
    {"max_kept_events", "EventLogTest.EventsThatAreNoLongerKeptAreAnError"},
    {"max_memslot_frames", "VmInputTest.MemslotsThatCannotBe"},
    {"max_memslots", "VmMemslotTest.ThousandMemslotsComeAndGo"},
    {"max_metadata_bytes",
     "DaemonServiceTest.TakesHeadersOfEightKibibytesAndNoMore"},
    {"max_page_table_bytes", "VmPageTableBudgetTest and PageTableBudgetTest"},
    {"max_policy_bytes", "PolicyParserTest.SizeAndLinesAndPatternsHaveLimits"},
    {"max_policy_lines", "PolicyParserTest.SizeAndLinesAndPatternsHaveLimits"},
    {"max_policy_patterns",
     "PolicyParserTest.SizeAndLinesAndPatternsHaveLimits"},
    {"max_protected_ranges", "ProtectRangeTest.TheNumberOfRangesIsLimited"},
    {"max_queued_calls", "RpcServerTest.RefusesWorkThatTheExecutorCannotQueue"},
    {"max_queued_calls_per_client",
     "HeldExecutorTest.APeersPartOfTheQueueIsBounded"},
    {"max_request_bytes",
     "DaemonServiceTest.RefusesAMessageOverFourMebibytesWithASentence"},
    {"max_request_ids", "RequestCacheTest.RemembersTheLast1024"},
    {"max_retired_bytes",
     "TdpMmuMemoryTest.ZapAllsUnderAParkedReaderStopAtTheLimit"},
    {"max_scan_interval_ms", "WorkingSetScannerTest and VmWorkingSetTest"},
    {"min_scan_interval_ms", "WorkingSetScannerTest and VmWorkingSetTest"},
    {"max_stats_interval_ms",
     "StatsServiceTest.TakesIntervalsFromTheLeastToTheMostAndNoOthers"},
    {"min_read_bytes_per_second", "SlowReaderTest in server/rpc"},
    {"min_stats_interval_ms",
     "StatsServiceTest.TakesIntervalsFromTheLeastToTheMostAndNoOthers"},
    {"max_stream_operations",
     "OperationStreamTest.TakesAsManyOperationsAsTheLimitAndNotOneMore"},
    {"max_streams_per_connection",
     "RpcServerTest.HoldsBackCallsOverTheLimitOfAConnection"},
    {"max_unread_seconds", "SlowReaderTest in server/rpc"},
};

// FloodLimitsTest and ConnectionTableTest, one test for each.
bool IsOfTheGuard(const std::string& name) {
  return name.rfind("guard_", 0) == 0;
}

class LimitsTest : public testing::Test {
 protected:
  static constexpr int64_t kMaxVms = 3;

  void SetUp() override {
    VmRegistryOptions options;
    options.hypervisor = HypervisorKind::kSoftware;
    options.max_vms = kMaxVms;
    auto registry = VmRegistry::Create(options);
    ASSERT_TRUE(registry.ok()) << registry.status();
    registry_ = *std::move(registry);
    vm_ = std::make_unique<VmHandler>(*registry_, requests_);
    memslot_ = std::make_unique<MemslotHandler>(*registry_, requests_);
    mmu_ = std::make_unique<MmuHandler>(*registry_);
    InfoHandler info(*registry_);
    v1::GetInfoResponse response;
    ASSERT_TRUE(info.GetInfo(context_, {}, &response).ok());
    limits_ = {response.limits().begin(), response.limits().end()};
    ASSERT_TRUE(Create(VmRequest("a")).ok());
    v1::CreateMemslotRequest ram = MemslotRequest(0, int64_t{1} << 22);
    ram.set_memslot_id("ram");
    ram.set_validate_only(false);
    ASSERT_TRUE(Create(ram).ok());
  }

  static v1::CreateVmRequest VmRequest(const std::string& id) {
    v1::CreateVmRequest request;
    request.set_vm_id(id);
    request.mutable_vm()->set_vcpu_count(1);
    return request;
  }
  // One that only checks.
  static v1::CreateVmRequest VmCheck() {
    v1::CreateVmRequest request = VmRequest("checked");
    request.set_validate_only(true);
    return request;
  }
  static v1::CreateMemslotRequest MemslotRequest(uint64_t base, int64_t count) {
    v1::CreateMemslotRequest request;
    request.set_parent("vms/a");
    request.set_memslot_id("s");
    request.mutable_memslot()->set_base_gfn(base);
    request.mutable_memslot()->set_frame_count(count);
    request.set_validate_only(true);
    return request;
  }
  absl::Status Create(const v1::CreateVmRequest& request) {
    v1::CreateVmResponse response;
    return vm_->CreateVm(context_, request, &response);
  }
  absl::Status Create(const v1::CreateMemslotRequest& request) {
    v1::CreateMemslotResponse response;
    return memslot_->CreateMemslot(context_, request, &response);
  }
  int64_t Limit(const std::string& name) {
    tested_.insert(name);
    return limits_.at(name);
  }
  // `attempt(n)` works up to the limit, and no further.
  void ExpectMost(const std::string& name,
                  const std::function<absl::Status(int64_t)>& attempt,
                  const std::string& reason = "FIELD_INVALID") {
    SCOPED_TRACE(name);
    const int64_t limit = Limit(name);
    const absl::Status fits = attempt(limit);
    EXPECT_TRUE(fits.ok()) << fits;
    EXPECT_EQ(ReasonOf(attempt(limit + 1)), reason);
  }

  CallContext context_;
  RequestCache requests_;
  std::unique_ptr<VmRegistry> registry_;
  std::unique_ptr<VmHandler> vm_;
  std::unique_ptr<MemslotHandler> memslot_;
  std::unique_ptr<MmuHandler> mmu_;
  std::map<std::string, int64_t> limits_;
  std::set<std::string> tested_;
};

TEST_F(LimitsTest, EachHoldsToTheLastUnit) {
  ExpectMost("max_vcpus_per_vm", [&](int64_t count) {
    v1::CreateVmRequest request = VmCheck();
    request.mutable_vm()->set_vcpu_count(static_cast<int32_t>(count));
    return Create(request);
  });
  ExpectMost("max_labels", [&](int64_t count) {
    v1::CreateVmRequest request = VmCheck();
    for (int64_t i = 0; i < count; ++i) {
      (*request.mutable_vm()->mutable_labels())[absl::StrCat("k", i)] = "v";
    }
    return Create(request);
  });
  ExpectMost("max_label_bytes", [&](int64_t size) {
    v1::CreateVmRequest request = VmCheck();
    // Key and value together.
    (*request.mutable_vm()->mutable_labels())["k"] =
        std::string(static_cast<size_t>(size - 1), 'v');
    return Create(request);
  });
  const auto with_page_tables = [&](int64_t bytes) {
    v1::CreateVmRequest request = VmCheck();
    request.mutable_vm()->set_page_table_limit_bytes(bytes);
    return Create(request);
  };
  EXPECT_TRUE(with_page_tables(Limit("min_page_table_limit_bytes")).ok());
  EXPECT_EQ(
      ReasonOf(with_page_tables(limits_.at("min_page_table_limit_bytes") - 1)),
      "FIELD_INVALID");
  EXPECT_EQ((*registry_->FindVm("a"))->Describe().config.page_table_limit_bytes,
            Limit("default_page_table_limit_bytes"));
  ExpectMost("max_map_around_frames", [&](int64_t count) {
    v1::CreateMemslotRequest request = MemslotRequest(uint64_t{1} << 23, 1);
    request.mutable_memslot()->set_map_around_frame_count(
        static_cast<int32_t>(count));
    return Create(request);
  });
  ExpectMost("max_gfn", [&](int64_t last) {
    return Create(MemslotRequest(static_cast<uint64_t>(last), 1));
  });
  ExpectMost("max_walk_frames", [&](int64_t count) {
    v1::WalkFramesRequest request;
    request.set_vm("vms/a");
    request.mutable_gfns()->Resize(static_cast<int>(count), 0);
    v1::WalkFramesResponse response;
    return mmu_->WalkFrames(context_, request, &response);
  });
  ExpectMost("max_age_bitmap_frames", [&](int64_t count) {
    v1::AgeRangeRequest request;
    request.set_vm("vms/a");
    request.mutable_range()->set_end_gfn(static_cast<uint64_t>(count));
    request.set_bitmap(true);
    v1::AgeRangeResponse response;
    return mmu_->AgeRange(context_, request, &response);
  });
  ExpectMost("max_divergences", [&](int64_t count) {
    v1::AuditRangeRequest request;
    request.set_vm("vms/a");
    request.mutable_range()->set_end_gfn(1);
    request.set_max_divergences(static_cast<int32_t>(count));
    v1::AuditRangeResponse response;
    return mmu_->AuditRange(context_, request, &response);
  });
  GuestMemoryHandler memory(*registry_);
  ExpectMost("max_write_chunk_bytes", [&](int64_t size) {
    auto sink = memory.WriteGuestMemory(context_);
    v1::WriteGuestMemoryRequest request;
    request.set_vm("vms/a");
    request.set_data(std::string(static_cast<size_t>(size), 'x'));
    return (*sink)->Take(context_, request);
  });
  DirtyLogHandler dirty_log(*registry_);
  int64_t consumers = 1;  // "default"
  ExpectMost(
      "max_dirty_consumers",
      [&](int64_t count) {
        absl::Status status;
        for (; consumers < count && status.ok(); ++consumers) {
          v1::CreateDirtyConsumerRequest request;
          request.set_parent("vms/a");
          request.set_dirty_consumer_id(absl::StrCat("c", consumers));
          v1::CreateDirtyConsumerResponse response;
          status = dirty_log.CreateDirtyConsumer(context_, request, &response);
        }
        return status;
      },
      "LIMIT_REACHED");
  int64_t vms = 1;
  ExpectMost(
      "max_vms",
      [&](int64_t count) {
        absl::Status status;
        for (; vms < count && status.ok(); ++vms) {
          status = Create(VmRequest(absl::StrCat("b", vms)));
        }
        return status;
      },
      "LIMIT_REACHED");
  // The software hypervisor runs no code, however long.
  Executor executor({.thread_count = 1});
  VcpuHandler vcpu(*registry_, executor);
  const auto load = [&](int64_t size) {
    v1::LoadGuestRequest request;
    request.set_name("vms/a/vcpus/0");
    request.mutable_guest()->mutable_code()->set_code(
        std::string(static_cast<size_t>(size), '\xf4'));
    v1::LoadGuestResponse response;
    return ReasonOf(vcpu.LoadGuest(context_, request, &response));
  };
  EXPECT_EQ(load(Limit("max_code_bytes")), "CAPABILITY_MISSING");
  EXPECT_EQ(load(limits_.at("max_code_bytes") + 1), "FIELD_INVALID");

  for (const auto& [name, limit] : limits_) {
    if (IsOfTheGuard(name)) continue;
    EXPECT_NE(tested_.contains(name), kTestedElsewhere.contains(name))
        << name << " is tested nowhere, or twice";
  }
  for (const auto& [name, test] : kTestedElsewhere) {
    EXPECT_TRUE(limits_.contains(name)) << name << " is not reported";
  }
}

}  // namespace
}  // namespace tdp::server
