// The daemon's binary, with the fake engine, as its users see it.

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "server/base/version.h"
#include "server/testing/daemon_process.h"
#include "tdp/v1/dirty_log_service.pb.h"
#include "tdp/v1/error.pb.h"
#include "tdp/v1/event_service.grpc.pb.h"
#include "tdp/v1/guest_memory_service.grpc.pb.h"
#include "tdp/v1/info_service.grpc.pb.h"
#include "tdp/v1/memslot_service.grpc.pb.h"
#include "tdp/v1/mmu_service.pb.h"
#include "tdp/v1/stats_service.pb.h"
#include "tdp/v1/vcpu_service.grpc.pb.h"
#include "tdp/v1/vm_service.grpc.pb.h"
#include "tdp/v1/working_set_service.pb.h"

namespace tdp::server {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using testing::HasSubstr;

constexpr char kBinary[] = "server/tdpd_with_fake_engine";

std::string ReasonOf(const grpc::Status& status) {
  v1::RpcStatus details;
  v1::ErrorInfo info;
  if (!details.ParseFromString(status.error_details()) ||
      details.details_size() == 0 ||
      !info.ParseFromString(details.details(0).value())) {
    return absl::StrCat("(none) ", status.error_message());
  }
  return info.reason();
}

int CountOf(const std::string& text, const std::string& part) {
  return static_cast<int>(
             std::vector<std::string>(absl::StrSplit(text, part)).size()) -
         1;
}

class DaemonTest : public testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/tdpd-daemon-test-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    socket_ = folder_ + "/socket";
  }
  void TearDown() override {
    channel_.reset();
    daemons_.clear();
    for (int i = 0; i < log_count_; ++i) unlink(LogPath(i).c_str());
    for (const char* name : {"socket", "socket.lock", "file", "cert", "key"}) {
      unlink((folder_ + "/" + name).c_str());
    }
    EXPECT_EQ(rmdir(folder_.c_str()), 0) << "something was left behind";
  }

  std::string LogPath(int i) const { return absl::StrCat(folder_, "/log", i); }

  DaemonProcess& Run(std::vector<std::string> arguments) {
    return *daemons_.emplace_back(std::make_unique<DaemonProcess>(
        kBinary, std::move(arguments), LogPath(log_count_++)));
  }
  DaemonProcess& Serve(std::vector<std::string> arguments = {}) {
    arguments.push_back(absl::StrCat("--listen=unix:", socket_));
    DaemonProcess& daemon = Run(std::move(arguments));
    EXPECT_TRUE(daemon.AwaitReady()) << daemon.Output();
    channel_ = grpc::CreateChannel("unix:" + socket_,
                                   grpc::InsecureChannelCredentials());
    return daemon;
  }
  grpc::Status GetInfo(const std::shared_ptr<grpc::Channel>& channel) {
    grpc::ClientContext context;
    v1::GetInfoResponse response;
    const grpc::Status status = v1::InfoService::NewStub(channel)->GetInfo(
        &context, v1::GetInfoRequest(), &response);
    if (status.ok()) {
      EXPECT_EQ(response.version(), kVersion);
    }
    return status;
  }
  void CreateVm(const std::string& id) {
    grpc::ClientContext context;
    v1::CreateVmRequest request;
    request.set_vm_id(id);
    request.mutable_vm()->set_vcpu_count(1);
    v1::CreateVmResponse response;
    const grpc::Status status = v1::VmService::NewStub(channel_)->CreateVm(
        &context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  // A client stream that writes to the VM "a", which is created for it, and is
  // under way for sure: its first byte is in memory.
  std::unique_ptr<grpc::ClientWriter<v1::WriteGuestMemoryRequest>> OpenWrite(
      grpc::ClientContext* context, v1::WriteGuestMemoryResponse* response) {
    CreateVm("a");
    v1::CreateMemslotRequest create;
    create.set_parent("vms/a");
    create.set_memslot_id("ram");
    create.mutable_memslot()->set_frame_count(1);
    v1::CreateMemslotResponse created;
    grpc::ClientContext create_context;
    EXPECT_TRUE(v1::MemslotService::NewStub(channel_)
                    ->CreateMemslot(&create_context, create, &created)
                    .ok());
    const auto memory = v1::GuestMemoryService::NewStub(channel_);
    auto stream = memory->WriteGuestMemory(context, response);
    v1::WriteGuestMemoryRequest chunk;
    chunk.set_vm("vms/a");
    chunk.set_data("x");
    EXPECT_TRUE(stream->Write(chunk));
    v1::ReadGuestMemoryRequest read;
    read.set_vm("vms/a");
    read.set_size_bytes(1);
    v1::ReadGuestMemoryResponse bytes;
    while (bytes.data() != "x") {
      grpc::ClientContext read_context;
      auto reader = memory->ReadGuestMemory(&read_context, read);
      if (!reader->Read(&bytes)) ADD_FAILURE() << "memory cannot be read";
      reader->Finish();
    }
    return stream;
  }
  static bool Exists(const std::string& path) {
    struct stat info;
    return lstat(path.c_str(), &info) == 0;
  }

  std::string folder_;
  std::string socket_;
  int log_count_ = 0;
  std::vector<std::unique_ptr<DaemonProcess>> daemons_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(DaemonTest, ExplainsItselfAndEveryFlag) {
  DaemonProcess& help = Run({"--help"});
  EXPECT_EQ(help.AwaitExit(), 0);
  for (const char* flag :
       {"--listen", "--hypervisor", "--image_dir", "--max_vms",
        "--insecure_loopback", "--tls_cert", "--tls_key", "--tls_client_ca"}) {
    EXPECT_THAT(help.Output(), HasSubstr(flag));
  }
  EXPECT_THAT(help.Output(), testing::Not(HasSubstr("flagfile")));
  DaemonProcess& version = Run({"--version"});
  EXPECT_EQ(version.AwaitExit(), 0);
  EXPECT_EQ(version.Output(), absl::StrCat("tdpd ", kVersion, "\n"));
}

TEST_F(DaemonTest, RefusesACommandLineThatCannotBeMeant) {
  const std::string unix_address = absl::StrCat("unix:", socket_);
  const std::pair<std::vector<std::string>, const char*> kCases[] = {
      {{"--nonsense"}, "--nonsense is unknown"},
      {{"stray"}, "stray is not a flag"},
      {{"--max_vms=x"}, "--max_vms=x is no value"},
      {{"--max_vms=257"}, "must be 1 to 256"},
      {{"--max_vms=-1"}, "must be 1 to 256"},
      {{"--hypervisor=xen"}, "is not auto, kvm or software"},
      {{"--image_dir=/nonexistent"}, "No such file or directory"},
      {{"--image_dir=/dev/null"}, "is no folder"},
      {{"--listen="}, "neither unix:PATH nor HOST:PORT"},
      {{"--listen=unix:" + std::string(108, 'x')}, "at most 107"},
      {{"--listen=127.0.0.1:0"}, "needs --tls_cert and --tls_key"},
      {{"--listen=0.0.0.0:0", "--insecure_loopback"}, "is no loopback address"},
      {{"--listen=" + unix_address, "--tls_cert=/x", "--tls_key=/y"},
       "--listen has none"},
      {{"--listen=127.0.0.1:0", "--tls_cert=/dev/null"},
       "needs both --tls_cert and --tls_key"},
      {{"--listen=127.0.0.1:0", "--tls_cert=/nonexistent", "--tls_key=/x"},
       "cannot read /nonexistent"},
      {{"--listen=127.0.0.1:0", "--tls_cert=/dev/null", "--tls_key=/x"},
       "it is empty"},
  };
  for (const auto& [arguments, sentence] : kCases) {
    DaemonProcess& daemon = Run(arguments);
    EXPECT_EQ(daemon.AwaitExit(), 2) << arguments[0];
    EXPECT_THAT(daemon.Output(), HasSubstr(sentence));
    EXPECT_TRUE(absl::StartsWith(daemon.Output(), "tdpd: "));
    EXPECT_EQ(CountOf(daemon.Output(), "\n"), 1) << daemon.Output();
  }
}

TEST_F(DaemonTest, ServesUntilItIsToldToEnd) {
  for (const int number : {SIGTERM, SIGINT}) {
    DaemonProcess& daemon = Serve({"--hypervisor=kvm"});
    EXPECT_EQ(daemon.Output(),
              absl::StrCat("tdpd ", kVersion, " serving on unix:", socket_,
                           ", hypervisor kvm\n"));
    struct stat info;
    ASSERT_EQ(stat(socket_.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0660u);
    EXPECT_TRUE(GetInfo(channel_).ok());
    daemon.Signal(number);
    EXPECT_EQ(daemon.AwaitExit(), 0) << daemon.Output();
    EXPECT_FALSE(Exists(socket_));
    EXPECT_FALSE(Exists(socket_ + ".lock"));
  }
}

TEST_F(DaemonTest, SaysOnceThatItDoesWithoutKvm) {
  DaemonProcess& daemon = Serve();
  EXPECT_EQ(CountOf(daemon.Output(), "KVM cannot be used here"), 1);
  EXPECT_THAT(daemon.Output(), HasSubstr("hypervisor software\n"));
  DaemonProcess& asked = Run({"--hypervisor=software", "--listen",
                              absl::StrCat("unix:", folder_, "/file")});
  ASSERT_TRUE(asked.AwaitReady());
  EXPECT_EQ(CountOf(asked.Output(), "\n"), 1) << "it was asked for";
  asked.Signal(SIGTERM);
  EXPECT_EQ(asked.AwaitExit(), 0);
}

TEST_F(DaemonTest, RefusesThePlaceOfADaemonThatRuns) {
  Serve();
  DaemonProcess& second = Run({absl::StrCat("--listen=unix:", socket_)});
  EXPECT_EQ(second.AwaitExit(), 1);
  EXPECT_THAT(second.Output(), HasSubstr("another daemon runs there"));
  EXPECT_TRUE(GetInfo(channel_).ok()) << "the first one must not notice";
}

TEST_F(DaemonTest, TakesThePlaceOfADaemonThatWasKilled) {
  DaemonProcess& first = Serve();
  first.Signal(SIGKILL);
  EXPECT_EQ(first.AwaitExit(), 128 + SIGKILL);
  EXPECT_TRUE(Exists(socket_));
  Serve();
  EXPECT_TRUE(GetInfo(channel_).ok());
}

TEST_F(DaemonTest, RefusesToReplaceAFile) {
  const std::string path = folder_ + "/file";
  std::ofstream(path) << "precious";
  DaemonProcess& daemon = Run({absl::StrCat("--listen=unix:", path)});
  EXPECT_EQ(daemon.AwaitExit(), 1);
  EXPECT_THAT(daemon.Output(), HasSubstr("not a socket"));
  std::string content;
  std::ifstream(path) >> content;
  EXPECT_EQ(content, "precious");
}

// The port in a ready line.
std::string TcpAddressOf(const std::string& output) {
  const size_t begin = output.find("127.0.0.1:");
  return output.substr(begin, output.find_first_of(", ", begin) - begin);
}

TEST_F(DaemonTest, ListensOnLoopbackWithoutTlsIfTold) {
  DaemonProcess& daemon =
      Run({"--insecure_loopback",
           absl::StrCat("--listen=unix:", socket_, ",localhost:0")});
  ASSERT_TRUE(daemon.AwaitReady()) << daemon.Output();
  const std::string address = TcpAddressOf(daemon.Output());
  EXPECT_TRUE(
      GetInfo(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))
          .ok());
  // The port belongs to one daemon.
  DaemonProcess& second =
      Run({"--insecure_loopback", absl::StrCat("--listen=", address)});
  EXPECT_EQ(second.AwaitExit(), 1);
  EXPECT_THAT(second.Output(), HasSubstr("cannot listen on " + address));
}

TEST_F(DaemonTest, ListensOnTcpWithTls) {
  const std::string cert = folder_ + "/cert";
  const std::string key = folder_ + "/key";
  const std::string command = absl::StrCat(
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 "
      "-nodes -days 2 -subj /CN=tdpd -addext subjectAltName=IP:127.0.0.1 "
      "-keyout ",
      key, " -out ", cert, " 2>/dev/null");
  ASSERT_EQ(system(command.c_str()), 0);
  DaemonProcess& daemon = Run({"--listen=127.0.0.1:0", "--tls_cert=" + cert,
                               "--tls_key=" + key, "--tls_client_ca=" + cert});
  ASSERT_TRUE(daemon.AwaitReady()) << daemon.Output();
  const std::string address = TcpAddressOf(daemon.Output());
  const auto read = [](const std::string& path) {
    std::ifstream file(path);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  grpc::SslCredentialsOptions ssl;
  ssl.pem_root_certs = read(cert);
  EXPECT_FALSE(
      GetInfo(grpc::CreateChannel(address, grpc::SslCredentials(ssl))).ok())
      << "a client without a certificate must be refused";
  EXPECT_FALSE(
      GetInfo(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))
          .ok());
  ssl.pem_private_key = read(key);
  ssl.pem_cert_chain = read(cert);
  const grpc::Status status =
      GetInfo(grpc::CreateChannel(address, grpc::SslCredentials(ssl)));
  EXPECT_TRUE(status.ok()) << status.error_message();
}

// Asks one question by reflection of either version.
template <typename Reflection, typename Request, typename Response>
Response Ask(const std::shared_ptr<grpc::Channel>& channel,
             const Request& request) {
  grpc::ClientContext context;
  auto stream = Reflection::NewStub(channel)->ServerReflectionInfo(&context);
  Response response;
  EXPECT_TRUE(stream->Write(request));
  EXPECT_TRUE(stream->Read(&response));
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
  return response;
}

TEST_F(DaemonTest, TellsItsClientsThatItDrains) {
  DaemonProcess& daemon = Serve();
  // A client stream that goes on keeps the daemon up until it is done.
  grpc::ClientContext write_context;
  v1::WriteGuestMemoryResponse written;
  const auto writes = OpenWrite(&write_context, &written);
  const auto health = Health::NewStub(channel_);
  grpc::ClientContext health_context;
  const auto health_watch =
      health->Watch(&health_context, HealthCheckRequest());
  HealthCheckResponse state;
  ASSERT_TRUE(health_watch->Read(&state));
  EXPECT_EQ(state.status(), HealthCheckResponse::SERVING);

  v1::WatchEventsRequest watch;
  watch.set_vm("vms/a");
  grpc::ClientContext event_context;
  const auto events =
      v1::EventService::NewStub(channel_)->WatchEvents(&event_context, watch);
  v1::WatchEventsResponse message;
  ASSERT_TRUE(events->Read(&message));

  v1::WaitVcpuRequest wait;
  wait.set_name("vms/a/vcpus/0");
  std::thread waiter([&] {
    grpc::ClientContext context;
    v1::WaitVcpuResponse response;
    EXPECT_EQ(ReasonOf(v1::VcpuService::NewStub(channel_)->WaitVcpu(
                  &context, wait, &response)),
              "DRAINING");
  });
  daemon.Signal(SIGTERM);
  ASSERT_TRUE(health_watch->Read(&state));
  EXPECT_EQ(state.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(ReasonOf(health_watch->Finish()), "DRAINING");
  EXPECT_FALSE(events->Read(&message));
  EXPECT_EQ(ReasonOf(events->Finish()), "DRAINING");
  waiter.join();
  const grpc::Status refused = GetInfo(channel_);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(refused), "DRAINING");
  grpc::ClientContext check_context;
  EXPECT_TRUE(health->Check(&check_context, HealthCheckRequest(), &state).ok());
  EXPECT_EQ(state.status(), HealthCheckResponse::NOT_SERVING);
  // A client that finds Health by reflection can still do so.
  namespace r = grpc::reflection::v1;
  r::ServerReflectionRequest question;
  question.set_file_containing_symbol("grpc.health.v1.Health");
  EXPECT_TRUE((Ask<r::ServerReflection, r::ServerReflectionRequest,
                   r::ServerReflectionResponse>(channel_, question)
                   .has_file_descriptor_response()));
  writes->WritesDone();
  EXPECT_TRUE(writes->Finish().ok());
  EXPECT_EQ(daemon.AwaitExit(), 0);
}

TEST_F(DaemonTest, GivesCallsTenSecondsThenEndsAllTheSame) {
  DaemonProcess& daemon = Serve();
  grpc::ClientContext context;
  v1::WriteGuestMemoryResponse response;
  const auto stream = OpenWrite(&context, &response);
  const absl::Time start = absl::Now();
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.AwaitExit(), 0);
  EXPECT_GE(absl::Now() - start, absl::Seconds(9));
  EXPECT_FALSE(stream->Finish().ok());
  EXPECT_FALSE(Exists(socket_));
}

TEST_F(DaemonTest, EndsAtOnceAtASecondSignal) {
  DaemonProcess& daemon = Serve();
  grpc::ClientContext context;
  v1::WriteGuestMemoryResponse response;
  const auto stream = OpenWrite(&context, &response);
  daemon.Signal(SIGTERM);
  while (ReasonOf(GetInfo(channel_)) != "DRAINING") {
  }
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.AwaitExit(), 1);
  EXPECT_THAT(daemon.Output(), HasSubstr("a second signal"));
  stream->Finish();
}

TEST_F(DaemonTest, DescribesItselfByReflection) {
  Serve();
  namespace r = grpc::reflection::v1;
  namespace alpha = grpc::reflection::v1alpha;
  r::ServerReflectionRequest request;
  request.set_list_services("");
  const auto listed = Ask<r::ServerReflection, r::ServerReflectionRequest,
                          r::ServerReflectionResponse>(channel_, request);
  std::set<std::string> names;
  for (const auto& service : listed.list_services_response().service()) {
    names.insert(service.name());
  }
  EXPECT_EQ(names.size(), 13u);
  for (const char* name :
       {"tdp.v1.InfoService", "tdp.v1.VmService", "tdp.v1.VcpuService",
        "tdp.v1.MemslotService", "tdp.v1.MmuService",
        "tdp.v1.GuestMemoryService", "tdp.v1.StatsService",
        "tdp.v1.EventService", "tdp.v1.DirtyLogService",
        "tdp.v1.WorkingSetService", "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
  alpha::ServerReflectionRequest alpha_request;
  alpha_request.set_file_containing_symbol("grpc.health.v1.Health");
  const auto file =
      Ask<alpha::ServerReflection, alpha::ServerReflectionRequest,
          alpha::ServerReflectionResponse>(channel_, alpha_request);
  EXPECT_EQ(file.file_descriptor_response().file_descriptor_proto_size(), 1);
}

// Sends an empty message to any method and returns how the call ended.
grpc::Status CallEmpty(const std::shared_ptr<grpc::Channel>& channel,
                       const std::string& method) {
  grpc::GenericStub stub(channel);
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  auto call = stub.PrepareCall(&context, method, &queue);
  const auto await = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  call->StartCall(nullptr);
  await();
  const grpc::Slice nothing;
  const grpc::ByteBuffer empty(&nothing, 1);
  call->WriteLast(empty, grpc::WriteOptions(), nullptr);
  await();
  grpc::ByteBuffer response;
  do {
    call->Read(&response, nullptr);
  } while (await());
  grpc::Status status;
  call->Finish(&status, nullptr);
  await();
  return status;
}

// A method that was forgotten when the services were wired would hang.
TEST_F(DaemonTest, AnswersEveryMethodOfTheApi) {
  Serve();
  const google::protobuf::Descriptor* kOneMessageOfEachFile[] = {
      v1::Capability::descriptor(),    v1::Vm::descriptor(),
      v1::Vcpu::descriptor(),          v1::Memslot::descriptor(),
      v1::MmuOperation::descriptor(),  v1::DiscardRangeRequest::descriptor(),
      v1::VmStats::descriptor(),       v1::Event::descriptor(),
      v1::DirtyConsumer::descriptor(), v1::WorkingSet::descriptor(),
  };
  std::set<std::string> not_implemented;
  int count = 0;
  for (const google::protobuf::Descriptor* message : kOneMessageOfEachFile) {
    ASSERT_EQ(message->file()->service_count(), 1);
    const auto* service = message->file()->service(0);
    for (int i = 0; i < service->method_count(); ++i) {
      const std::string method = service->method(i)->name();
      const grpc::Status status = CallEmpty(
          channel_, absl::StrCat("/", service->full_name(), "/", method));
      ++count;
      if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
        EXPECT_THAT(status.error_message(),
                    HasSubstr(absl::StrCat(service->name(), ".", method,
                                           " is part of the API")));
        EXPECT_EQ(ReasonOf(status), "NOT_IMPLEMENTED");
        not_implemented.insert(method);
        continue;
      }
      if (method == "GetInfo" || method == "ListVms") {
        EXPECT_TRUE(status.ok()) << method << status.error_message();
      } else {
        EXPECT_EQ(ReasonOf(status), "FIELD_INVALID") << method;
      }
    }
  }
  EXPECT_EQ(count, 48);
  EXPECT_EQ(not_implemented,
            std::set<std::string>(
                {"AgeRange", "ApplyBatch", "ClearDirtyLog", "CollapseHugePages",
                 "CreateDirtyConsumer", "DeleteDirtyConsumer", "DiscardRange",
                 "EstimateWorkingSet", "ListDirtyConsumers",
                 "ListWaitingAccesses", "ProtectRange", "ReadDirtyLog",
                 "ResolveAccess", "SplitHugePages", "StreamOperations",
                 "WatchVmStats", "WatchWorkingSet", "WriteProtectRange"}));
}

TEST_F(DaemonTest, RefusesAMessageOverFourMebibytesWithASentence) {
  Serve();
  grpc::ClientContext context;
  v1::GetVmRequest request;
  request.set_name(std::string(4 << 20, 'x'));
  v1::GetVmResponse response;
  const grpc::Status status =
      v1::VmService::NewStub(channel_)->GetVm(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("4194304"));
}

TEST_F(DaemonTest, AnswersAHostileNameWithAnErrorThatFitsIntoTheHeaders) {
  Serve();
  grpc::ClientContext context;
  v1::GetVmRequest request;
  request.set_name("vms/" + std::string(1 << 20, '\x1f'));
  v1::GetVmResponse response;
  const grpc::Status status =
      v1::VmService::NewStub(channel_)->GetVm(&context, request, &response);
  EXPECT_EQ(ReasonOf(status), "FIELD_INVALID");
}

}  // namespace
}  // namespace tdp::server
