// What gates hear of a call, and when.

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "server/rpc/call_gate.h"
#include "server/rpc/rpc_server_fixture.h"
#include "tdp/v1/memslot_service.grpc.pb.h"

namespace tdp::server {
namespace {

using testing::ElementsAre;

// What several gates heard, in order.
class Journal {
 public:
  void Add(const std::string& entry) {
    absl::MutexLock lock(&mutex_);
    entries_.push_back(entry);
  }
  // Once there are `count`: gates hear of the end after the caller does.
  std::vector<std::string> Await(size_t count) {
    const auto there = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return entries_.size() >= count;
    };
    absl::MutexLock lock(&mutex_, absl::Condition(&there));
    return entries_;
  }

 private:
  absl::Mutex mutex_;
  std::vector<std::string> entries_ ABSL_GUARDED_BY(mutex_);
};

class JournalGate final : public CallGate {
 public:
  JournalGate(std::string name, Journal& journal)
      : name_(std::move(name)), journal_(journal) {}

  absl::Status Enter(grpc::ServerContext&, CallContext& context) override {
    journal_.Add(absl::StrCat(name_, " enter ", context.method().name));
    return verdict;
  }
  void Completing(grpc::ServerContext& transport, const CallContext&,
                  const absl::Status& status) override {
    transport.AddTrailingMetadata("x-gate", name_);
    journal_.Add(absl::StrCat(name_, " completing ",
                              absl::StatusCodeToString(status.code())));
  }
  void Leave(CallContext&, absl::StatusCode code) override {
    journal_.Add(
        absl::StrCat(name_, " leave ", absl::StatusCodeToString(code)));
  }

  absl::Status verdict;

 private:
  const std::string name_;
  Journal& journal_;
};

class GateHooksTest : public RpcServerTest {
 protected:
  Journal journal_;
  JournalGate first_{"a", journal_};
  JournalGate second_{"b", journal_};
};

TEST_P(GateHooksTest, HearOfACallFromItsBeginToItsEnd) {
  Start({.gates = {&first_, &second_}});
  grpc::ClientContext context;
  v1::GetVmResponse response;
  EXPECT_TRUE(vms_->GetVm(&context, v1::GetVmRequest(), &response).ok());
  EXPECT_THAT(journal_.Await(6),
              ElementsAre("a enter VmService.GetVm", "b enter VmService.GetVm",
                          "a completing OK", "b completing OK", "b leave OK",
                          "a leave OK"));
  EXPECT_EQ(context.GetServerTrailingMetadata().count("x-gate"), 2u);
}

TEST_P(GateHooksTest, HearHowACallEndsThatAnotherGateRefused) {
  first_.verdict = MakeError(ErrorReason::kRoleDenied, "no");
  Start({.gates = {&first_, &second_}});
  EXPECT_EQ(ReasonOf(CallShort()), "ROLE_DENIED");
  // Whoever did not let the call in does not see it leave.
  EXPECT_THAT(journal_.Await(3), ElementsAre("a enter VmService.GetVm",
                                             "a completing PERMISSION_DENIED",
                                             "b completing PERMISSION_DENIED"));
}

TEST_P(GateHooksTest, HearOfACallThatNoServiceHas) {
  Start({.gates = {&first_}});
  grpc::ClientContext context;
  v1::ListMemslotsResponse response;
  EXPECT_FALSE(v1::MemslotService::NewStub(channel_)
                   ->ListMemslots(&context, {}, &response)
                   .ok());
  EXPECT_THAT(journal_.Await(3),
              ElementsAre("a enter (unknown)", "a completing UNIMPLEMENTED",
                          "a leave UNIMPLEMENTED"));
}

TEST_P(GateHooksTest, SeeTheCallsThatAreUnderWay) {
  Start({.gates = {&first_}});
  EXPECT_TRUE(server_->active_calls().empty());
  std::vector<ActiveCall> seen;
  handlers_.on_short = [&](CallContext& context) {
    context.AddWork(5);
    seen = server_->active_calls();
    return absl::OkStatus();
  };
  EXPECT_TRUE(CallShort().ok());
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].method, "VmService.GetVm");
  EXPECT_EQ(seen[0].peer, "") << "no gate has found out";
  EXPECT_EQ(seen[0].work, 5);
  EXPECT_LE(seen[0].start_time, absl::Now());
  EXPECT_GT(seen[0].start_time, absl::Now() - absl::Hours(1));
  journal_.Await(3);
}

INSTANTIATE_TEST_SUITE_P(Modes, GateHooksTest,
                         testing::Values(Param{RunOn::kPoller, 1}));

}  // namespace
}  // namespace tdp::server
