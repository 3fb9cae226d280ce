// Hostile clients against the daemon, over its Unix socket, beside one that
// behaves well. Each attacker is a process of its own, as peers are processes.

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "server/guard/attack_process.h"
#include "server/guard/guard_limits.h"
#include "server/testing/daemon_process.h"
#include "server/testing/http2_attacker.h"
#include "tdp/v1/guest_memory_service.grpc.pb.h"
#include "tdp/v1/info_service.grpc.pb.h"
#include "tdp/v1/memslot_service.grpc.pb.h"
#include "tdp/v1/vm_service.grpc.pb.h"

namespace tdp::server {
namespace {

constexpr char kBinary[] = "server/tdpd_with_fake_engine";
constexpr int64_t kMostGrowthKib = 64 * 1024;
// Of that, what may stay when the attack is over.
constexpr int64_t kKeptKib = 8 * 1024;
constexpr int64_t kMostThreads = 32;
// For what takes milliseconds, on a machine that is busy.
constexpr absl::Duration kSoon = absl::Seconds(30);

double Percentile(std::vector<double> values, double part) {
  if (values.empty()) return 0;
  const auto at =
      values.begin() + static_cast<size_t>(part * (values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

// A client that calls GetInfo all the time and counts on every answer.
class GoodClient {
 public:
  explicit GoodClient(const std::string& socket)
      : stub_(v1::InfoService::NewStub(grpc::CreateChannel(
            "unix:" + socket, grpc::InsecureChannelCredentials()))) {}
  GoodClient(const GoodClient&) = delete;
  GoodClient& operator=(const GoodClient&) = delete;
  ~GoodClient() { Stop(); }

  // One call; how long it took, in microseconds.
  double Call() {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    v1::GetInfoResponse response;
    const absl::Time start = absl::Now();
    const grpc::Status status =
        stub_->GetInfo(&context, v1::GetInfoRequest(), &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return absl::ToDoubleMicroseconds(absl::Now() - start);
  }
  void Start() {
    stop_ = false;
    times_.clear();
    thread_ = std::thread([this] {
      do {
        times_.push_back(Call());
        absl::SleepFor(absl::Microseconds(200));
      } while (!stop_);
    });
  }
  std::vector<double> Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    return times_;
  }

 private:
  std::unique_ptr<v1::InfoService::Stub> stub_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
  std::vector<double> times_;  // by the thread
};

class AttackTest : public testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/tdpd-attack-test-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    socket_ = folder_ + "/socket";
    daemon_ = std::make_unique<DaemonProcess>(
        kBinary, std::vector<std::string>{"--listen=unix:" + socket_},
        folder_ + "/log");
    ASSERT_TRUE(daemon_->AwaitReady()) << daemon_->Output();
    client_ = std::make_unique<GoodClient>(socket_);
    for (int i = 0; i < 500; ++i) client_->Call();
    base_kib_ = Status("VmRSS");
  }
  void TearDown() override {
    client_.reset();
    daemon_.reset();
    for (const char* name : {"socket", "socket.lock", "log"}) {
      unlink((folder_ + "/" + name).c_str());
    }
    EXPECT_EQ(rmdir(folder_.c_str()), 0);
  }

  // A VM "a" with a mebibyte of memory.
  void CreateGuest() {
    const auto channel = grpc::CreateChannel(
        "unix:" + socket_, grpc::InsecureChannelCredentials());
    v1::CreateVmRequest vm;
    vm.set_vm_id("a");
    vm.mutable_vm()->set_vcpu_count(1);
    v1::CreateVmResponse created_vm;
    grpc::ClientContext vm_context;
    ASSERT_TRUE(v1::VmService::NewStub(channel)
                    ->CreateVm(&vm_context, vm, &created_vm)
                    .ok());
    v1::CreateMemslotRequest memslot;
    memslot.set_parent("vms/a");
    memslot.set_memslot_id("ram");
    memslot.mutable_memslot()->set_frame_count(256);
    v1::CreateMemslotResponse created_memslot;
    grpc::ClientContext memslot_context;
    ASSERT_TRUE(v1::MemslotService::NewStub(channel)
                    ->CreateMemslot(&memslot_context, memslot, &created_memslot)
                    .ok());
  }

  int64_t Status(const std::string& name) const {
    std::ifstream file(absl::StrCat("/proc/", daemon_->pid(), "/status"));
    for (std::string line; std::getline(file, line);) {
      absl::string_view rest = line;
      if (!absl::ConsumePrefix(&rest, name + ":")) continue;
      absl::ConsumeSuffix(&rest, " kB");
      int64_t value = -1;
      EXPECT_TRUE(absl::SimpleAtoi(rest, &value)) << line;
      return value;
    }
    ADD_FAILURE() << "the daemon is gone: " << daemon_->Output();
    return -1;
  }

  // Runs `attack` in `processes` processes and looks on: what the daemon's
  // memory and threads come to, and that the good client has its answers.
  std::vector<Report> Attack(const std::function<Report()>& attack,
                             int processes = 1) {
    client_->Start();
    absl::SleepFor(absl::Milliseconds(300));
    const std::vector<double> idle = client_->Stop();

    client_->Start();
    std::deque<AttackProcess> attackers;
    for (int i = 0; i < processes; ++i) attackers.emplace_back(attack);
    std::atomic<bool> done = false;
    std::thread observer([&] {
      while (!done) {
        peak_kib_ = std::max(peak_kib_, Status("VmRSS"));
        threads_ = std::max(threads_, Status("Threads"));
        absl::SleepFor(absl::Milliseconds(2));
      }
    });
    std::vector<Report> reports;
    for (AttackProcess& attacker : attackers) {
      reports.push_back(attacker.Wait());
    }
    attackers.clear();
    const std::vector<double> busy = client_->Stop();
    done = true;
    observer.join();

    EXPECT_LE(peak_kib_ - base_kib_, kMostGrowthKib);
    EXPECT_LT(threads_, kMostThreads);
    printf(
        "  base %ld KiB, peak +%ld KiB, %ld threads; p99 idle %.0f us, under "
        "attack %.0f us (%zu calls)\n",
        base_kib_, peak_kib_ - base_kib_, threads_, Percentile(idle, 0.99),
        Percentile(busy, 0.99), busy.size());
    const absl::Time end = absl::Now();
    while (Status("VmRSS") - base_kib_ > kKeptKib &&
           absl::Now() - end < kSoon) {
      absl::SleepFor(absl::Milliseconds(20));
    }
    const int64_t kept = Status("VmRSS") - base_kib_;
    EXPECT_LE(kept, kKeptKib) << "memory does not come back";
    printf("  memory after %.1f s: +%ld KiB\n",
           absl::ToDoubleSeconds(absl::Now() - end), kept);
    const Report& r = reports[0];
    printf(
        "  first attacker: sent %ld, let in %ld, cut off %ld, after %.1f "
        "ms\n",
        r.sent, r.opened, r.cut, r.cut_after_ms);
    return reports;
  }

  // Floods one connection with what `make` makes, after the preface.
  Report FloodOnce(
      int64_t count, const std::function<std::string(int64_t)>& make,
      Http2Attacker::Reading reading = Http2Attacker::Reading::kReads) const {
    Report report;
    Http2Attacker attacker;
    if (!attacker.Connect(socket_) ||
        !attacker.Send(http2::Preface() + http2::Settings())) {
      return report;
    }
    report.opened = 1;
    const absl::Time start = absl::Now();
    report.sent = attacker.Flood(count, make, reading);
    report.cut = attacker.AwaitClose(kSoon) ? 1 : 0;
    report.cut_after_ms = absl::ToDoubleMilliseconds(absl::Now() - start);
    return report;
  }
  void ExpectCutOff(const std::vector<Report>& reports,
                    const std::string& reason) {
    for (const Report& report : reports) {
      EXPECT_EQ(report.opened, 1);
      EXPECT_EQ(report.cut, 1);
    }
    EXPECT_THAT(daemon_->Output(),
                testing::HasSubstr(absl::StrCat("reason=", reason, " ")));
  }

  std::string folder_;
  std::string socket_;
  std::unique_ptr<DaemonProcess> daemon_;
  std::unique_ptr<GoodClient> client_;
  int64_t base_kib_ = 0;
  int64_t peak_kib_ = 0;
  int64_t threads_ = 0;
};

std::string OpenAndReset(int64_t n) {
  const auto id = static_cast<uint32_t>(2 * n + 1);
  return http2::CallHeaders(id, http2::kGetInfo) + http2::Reset(id);
}

TEST_F(AttackTest, AFloodOfResetsIsCutOff) {
  ExpectCutOff(Attack([&] { return FloodOnce(500000, OpenAndReset); }),
               "too_many_resets");
}

TEST_F(AttackTest, AnAttackerThatComesBackMeetsClosedDoors) {
  const auto reports = Attack(
      [&] {
        Report report;
        constexpr int64_t kPerConnection = 2000;
        while (report.sent < 500000) {
          Http2Attacker attacker;
          attacker.Connect(socket_);
          if (attacker.Send(http2::Preface() + http2::Settings())) {
            ++report.opened;
          }
          attacker.Flood(kPerConnection, OpenAndReset);
          report.cut += attacker.AwaitClose(kSoon) ? 1 : 0;
          report.sent += kPerConnection;
        }
        return report;
      },
      4);
  for (const Report& report : reports) EXPECT_EQ(report.cut, 250);
}

TEST_F(AttackTest, AFloodOfHeadersIsCutOff) {
  const std::string filler(16000, 'f');
  ExpectCutOff(Attack([&] {
                 return FloodOnce(100000, [&](int64_t n) {
                   return http2::CallHeaders(static_cast<uint32_t>(2 * n + 1),
                                             http2::kGetInfo, 1, filler);
                 });
               }),
               "too_many_header_bytes");
}

TEST_F(AttackTest, AFloodOfContinuationsIsCutOff) {
  ExpectCutOff(Attack([&] {
                 return FloodOnce(1000000, [](int64_t n) {
                   return n == 0 ? http2::Frame(1, 0, 1, "")
                                 : http2::Frame(9, 0, 1, std::string(100, 'x'));
                 });
               }),
               "too_many_continuations");
}

TEST_F(AttackTest, FloodsOfFramesThatCarryNothingAreCutOff) {
  const std::pair<std::string, const char*> floods[] = {
      {http2::Settings(), "too_many_settings"},
      {http2::Frame(6, 0, 0, "12345678"), "too_many_pings"},
      {http2::Frame(2, 0, 1, std::string(5, '\0')), "too_many_useless_frames"},
      {http2::Frame(99, 0, 0, "unknown"), "too_many_useless_frames"},
      {http2::WindowUpdate(0, 1), "too_many_window_updates"},
  };
  for (const auto& [frame, reason] : floods) {
    const auto make = [&frame = frame](int64_t) { return frame; };
    for (const auto reading : {Http2Attacker::Reading::kReads,
                               Http2Attacker::Reading::kNeverReads}) {
      ExpectCutOff(Attack([&] { return FloodOnce(1000000, make, reading); }),
                   reason);
    }
  }
}

TEST_F(AttackTest, AThousandConnectionsAreBounded) {
  constexpr int64_t kTooMany = 500 - guard_limits::kMaxConnectionsPerPeer;
  const auto reports = Attack(
      [&] {
        Report report;
        std::deque<Http2Attacker> attackers(500);
        for (size_t i = 0; i < attackers.size(); ++i) {
          if (!attackers[i].Connect(socket_)) continue;
          // Every other one says nothing at all.
          if (i % 2 == 0) {
            attackers[i].Send(http2::Preface() + http2::Settings());
          }
        }
        const absl::Time deadline = absl::Now() + kSoon;
        while (report.cut < kTooMany && absl::Now() < deadline) {
          absl::SleepFor(absl::Milliseconds(20));
          report.cut = 0;
          for (Http2Attacker& attacker : attackers) {
            report.cut += attacker.AwaitClose(absl::ZeroDuration()) ? 1 : 0;
          }
        }
        report.opened = static_cast<int64_t>(attackers.size()) - report.cut;
        return report;
      },
      4);
  for (const Report& report : reports) EXPECT_GE(report.cut, kTooMany);
  EXPECT_THAT(daemon_->Output(),
              testing::HasSubstr("too_many_connections_of_"));
}

TEST_F(AttackTest, TenThousandOpenStreamsAreBounded) {
  const auto reports = Attack(
      [&] {
        Report report;
        std::deque<Http2Attacker> attackers(10);
        for (Http2Attacker& attacker : attackers) {
          if (!attacker.Connect(socket_) ||
              !attacker.Send(http2::Preface() + http2::Settings())) {
            continue;
          }
          report.sent += attacker.Flood(250, [](int64_t n) {
            return http2::CallHeaders(static_cast<uint32_t>(2 * n + 1),
                                      http2::kGetInfo);
          });
        }
        for (Http2Attacker& attacker : attackers) {
          ++(attacker.AwaitClose(absl::Milliseconds(300)) ? report.cut
                                                          : report.opened);
        }
        return report;
      },
      4);
  for (const Report& report : reports) EXPECT_GE(report.cut, 1);
  EXPECT_THAT(daemon_->Output(), testing::HasSubstr("too_many_open_streams"));
}

TEST_F(AttackTest, GarbageIsCutOff) {
  ExpectCutOff(Attack([&] {
                 Report report;
                 Http2Attacker attacker;
                 report.opened = attacker.Connect(socket_) ? 1 : 0;
                 report.sent = attacker.Flood(
                     1000, [](int64_t n) { return std::string(100, 33 + n); });
                 report.cut = attacker.AwaitClose(kSoon) ? 1 : 0;
                 return report;
               }),
               "not_http2");
}

TEST_F(AttackTest, BytesOneByOneAreCutOff) {
  ExpectCutOff(Attack([&] {
                 Report report;
                 Http2Attacker attacker;
                 report.opened = attacker.Connect(socket_) ? 1 : 0;
                 std::string bytes = http2::Preface() + http2::Settings();
                 for (uint32_t id = 1; id < 2000; id += 2) {
                   bytes += http2::CallHeaders(id, http2::kGetInfo) +
                            http2::CallMessage(id, "");
                 }
                 for (const char byte : bytes) {
                   if (!attacker.Send(std::string(1, byte))) break;
                   ++report.sent;
                   // The kernel would put them together.
                   absl::SleepFor(absl::Microseconds(50));
                 }
                 report.cut = attacker.AwaitClose(kSoon) ? 1 : 0;
                 return report;
               }),
               "too_many_tiny_reads");
}

TEST_F(AttackTest, ConnectionsThatStayHalfOpenAreClosed) {
  const auto reports = Attack([&] {
    Report report;
    const absl::Time start = absl::Now();
    std::deque<Http2Attacker> attackers(100);
    for (size_t i = 0; i < attackers.size(); ++i) {
      if (!attackers[i].Connect(socket_)) continue;
      ++report.opened;
      attackers[i].Send(http2::Preface().substr(0, i % 25));
    }
    for (Http2Attacker& attacker : attackers) {
      report.cut += attacker.AwaitClose(absl::Seconds(30)) ? 1 : 0;
    }
    report.cut_after_ms = absl::ToDoubleMilliseconds(absl::Now() - start);
    return report;
  });
  EXPECT_EQ(reports[0].opened, 100);
  EXPECT_EQ(reports[0].cut, 100);
}

// Answers of 256 KiB that nobody takes.
TEST_F(AttackTest, AClientThatReadsNothingIsCutOff) {
  CreateGuest();
  v1::ReadGuestMemoryRequest request;
  request.set_vm("vms/a");
  request.set_size_bytes(1 << 20);
  const std::string message = request.SerializeAsString();
  const auto reports = Attack([&] {
    Report report;
    Http2Attacker attacker;
    if (!attacker.Connect(socket_)) return report;
    report.opened = 1;
    const absl::Time start = absl::Now();
    // All the window that there is.
    attacker.Send(http2::Preface() +
                      http2::Settings(http2::Setting(4, 0x7fffffff)) +
                      http2::WindowUpdate(0, 0x7fff0000),
                  Http2Attacker::Reading::kNeverReads);
    report.sent = attacker.Flood(
        100,
        [&](int64_t n) {
          const auto id = static_cast<uint32_t>(2 * n + 1);
          return http2::CallHeaders(
                     id, "/tdp.v1.GuestMemoryService/ReadGuestMemory") +
                 http2::CallMessage(id, message);
        },
        Http2Attacker::Reading::kNeverReads);
    report.cut = attacker.AwaitHangUp(absl::Seconds(60)) ? 1 : 0;
    report.cut_after_ms = absl::ToDoubleMilliseconds(absl::Now() - start);
    return report;
  });
  ExpectCutOff(reports, "reads_nothing");
}

}  // namespace
}  // namespace tdp::server
