// Runs the daemon's binary, with the fake engine, and talks to it.

#ifndef SERVER_DAEMON_FIXTURE_H_
#define SERVER_DAEMON_FIXTURE_H_

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "server/base/version.h"
#include "server/testing/daemon_process.h"
#include "tdp/v1/error.pb.h"
#include "tdp/v1/guest_memory_service.grpc.pb.h"
#include "tdp/v1/info_service.grpc.pb.h"
#include "tdp/v1/memslot_service.grpc.pb.h"
#include "tdp/v1/vm_service.grpc.pb.h"

namespace tdp::server {

inline constexpr char kBinary[] = "server/tdpd_with_fake_engine";

inline std::string ReasonOf(const grpc::Status& status) {
  v1::RpcStatus details;
  v1::ErrorInfo info;
  if (!details.ParseFromString(status.error_details()) ||
      details.details_size() == 0 ||
      !info.ParseFromString(details.details(0).value())) {
    return absl::StrCat("(none) ", status.error_message());
  }
  return info.reason();
}

inline int CountOf(const std::string& text, const std::string& part) {
  return static_cast<int>(
             std::vector<std::string>(absl::StrSplit(text, part)).size()) -
         1;
}

// The TCP address in a ready line.
inline std::string TcpAddressOf(const std::string& output) {
  const size_t begin = output.find("127.0.0.1:");
  return output.substr(begin, output.find_first_of(", ", begin) - begin);
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
  // At the Unix socket, and on TCP if `tcp` says where.
  DaemonProcess& Serve(std::vector<std::string> arguments = {},
                       const std::string& tcp = "") {
    arguments.push_back(
        absl::StrCat("--listen=unix:", socket_, tcp.empty() ? "" : ",", tcp));
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
  // The VM "a" with so much memory.
  void CreateGuest(int64_t frame_count) {
    CreateVm("a");
    v1::CreateMemslotRequest create;
    create.set_parent("vms/a");
    create.set_memslot_id("ram");
    create.mutable_memslot()->set_frame_count(frame_count);
    v1::CreateMemslotResponse created;
    grpc::ClientContext context;
    EXPECT_TRUE(v1::MemslotService::NewStub(channel_)
                    ->CreateMemslot(&context, create, &created)
                    .ok());
  }
  // A client stream that writes to the VM "a", which is created for it, and is
  // under way for sure: its first byte is in memory.
  std::unique_ptr<grpc::ClientWriter<v1::WriteGuestMemoryRequest>> OpenWrite(
      grpc::ClientContext* context, v1::WriteGuestMemoryResponse* response) {
    CreateGuest(/*frame_count=*/1);
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

}  // namespace tdp::server

#endif  // SERVER_DAEMON_FIXTURE_H_
