#include "client/testing/fake_server.h"

#include <grpcpp/ext/health_check_service_server_builder_option.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <stdlib.h>
#include <unistd.h>

#include <cassert>
#include <chrono>
#include <initializer_list>
#include <limits>

#include "client/testing/fake_services.h"
#include "tdp/v1/error.pb.h"

namespace tdp::client {
namespace {

constexpr char kErrorInfoUrl[] = "type.googleapis.com/google.rpc.ErrorInfo";

constexpr char kRetryInfoUrl[] = "type.googleapis.com/google.rpc.RetryInfo";

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  v1::RpcStatus details;
  details.set_code(static_cast<int>(status.code()));
  details.set_message(std::string(status.message()));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) {
    google::protobuf::Any* any = details.add_details();
    any->set_type_url(std::string(url));
    any->set_value(std::string(payload));
  });
  return grpc::Status(
      static_cast<grpc::StatusCode>(status.code()),
      std::string(status.message()),
      details.details().empty() ? "" : details.SerializeAsString());
}

absl::Status DaemonError(absl::StatusCode code, const std::string& message,
                         const std::string& reason,
                         const std::map<std::string, std::string>& metadata) {
  v1::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain("tdp.v1");
  info.mutable_metadata()->insert(metadata.begin(), metadata.end());
  absl::Status status(code, message);
  status.SetPayload(kErrorInfoUrl, absl::Cord(info.SerializeAsString()));
  return status;
}

absl::Status WithRetryInfo(absl::Status error, absl::Duration delay) {
  v1::RetryInfo info;
  info.mutable_retry_delay()->set_seconds(absl::ToInt64Seconds(delay));
  info.mutable_retry_delay()->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(delay % absl::Seconds(1))));
  error.SetPayload(kRetryInfoUrl, absl::Cord(info.SerializeAsString()));
  return error;
}

class FakeServer::Server {
 public:
  Server(FakeServer& fake, const std::string& target) : calls{fake} {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(target, grpc::InsecureServerCredentials());
    for (grpc::Service* service : std::initializer_list<grpc::Service*>{
             &info_, &vm_, &memslot_, &vcpu_, &mmu_, &dirty_log_, &stats_,
             &event_, &memory_, &working_set_}) {
      builder.RegisterService(service);
    }
    grpc::EnableDefaultHealthCheckService(true);
    server_ = builder.BuildAndStart();
    assert(server_ != nullptr);
  }
  void SetServing(bool serving) {
    server_->GetHealthCheckService()->SetServingStatus(serving);
  }
  ~Server() { server_->Shutdown(std::chrono::system_clock::now()); }

  FakeCalls calls;

 private:
  FakeInfoService info_{calls};
  FakeVmService vm_{calls};
  FakeMemslotService memslot_{calls};
  FakeVcpuService vcpu_{calls};
  FakeMmuService mmu_{calls};
  FakeDirtyLogService dirty_log_{calls};
  FakeStatsService stats_{calls};
  FakeEventService event_{calls};
  FakeGuestMemoryService memory_{calls};
  FakeWorkingSetService working_set_{calls};
  std::unique_ptr<grpc::Server> server_;
};

FakeServer::FakeServer() {
  char directory[] = "/tmp/tdpctl_test_XXXXXX";
  const char* made = mkdtemp(directory);
  assert(made != nullptr);
  directory_ = made;
  target_ = "unix:" + directory_ + "/socket";
  Start();
}

FakeServer::~FakeServer() {
  Stop();
  rmdir(directory_.c_str());
}

void FakeServer::Start() { server_ = std::make_unique<Server>(*this, target_); }

void FakeServer::Stop() {
  server_.reset();
  unlink((directory_ + "/socket").c_str());
}

void FakeServer::SetServing(bool serving) { server_->SetServing(serving); }

absl::Duration FakeServer::last_timeout() const {
  const int64_t ns = server_->calls.last_timeout_ns;
  return ns == std::numeric_limits<int64_t>::max() ? absl::InfiniteDuration()
                                                   : absl::Nanoseconds(ns);
}

}  // namespace tdp::client
