// AttackTest: hostile clients against the daemon, beside one that behaves well.
//
// Each attacker is a process of its own, as peers are processes at the Unix
// socket; on TCP each has an address of its own, as peers are addresses there.
// The one that behaves well is always at the Unix socket.

#ifndef SERVER_GUARD_ATTACK_FIXTURE_H_
#define SERVER_GUARD_ATTACK_FIXTURE_H_

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
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
#include "server/daemon_fixture.h"
#include "server/guard/attack_process.h"
#include "server/testing/daemon_process.h"
#include "server/testing/http2_attacker.h"
#include "tdp/v1/info_service.grpc.pb.h"

namespace tdp::server {

inline constexpr int64_t kMostGrowthKib = 64 * 1024;
// Of that, what may stay when the attack is over.
inline constexpr int64_t kKeptKib = 8 * 1024;
inline constexpr int64_t kMostThreads = 32;
// For what takes milliseconds, on a machine that is busy.
inline constexpr absl::Duration kSoon = absl::Seconds(30);

inline double Percentile(std::vector<double> values, double part) {
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

class AttackTest : public DaemonTest {
 protected:
  void TearDown() override {
    client_.reset();
    DaemonTest::TearDown();
  }

  enum class Listens { kUnixSocketOnly, kTcpToo };

  void StartDaemon(Listens listens, std::vector<std::string> arguments) {
    daemon_ = &Serve(std::move(arguments),
                     listens == Listens::kTcpToo ? "127.0.0.1:0" : "");
    ASSERT_FALSE(HasFailure());
    client_ = std::make_unique<GoodClient>(socket_);
    for (int i = 0; i < 500; ++i) client_->Call();
    base_kib_ = Status("VmRSS");
  }
  // On which the daemon listens, as a target of ConnectTo().
  std::string TcpPort() const {
    const std::string address = TcpAddressOf(daemon_->Output());
    return address.substr(address.rfind(':') + 1);
  }
  // As a client of the Unix socket, or of a TCP port of this host.
  bool ConnectTo(const std::string& target, Http2Attacker& attacker) const {
    int port = 0;
    return absl::SimpleAtoi(target, &port)
               ? attacker.ConnectTcp(port, kLoopbackNet | getpid())
               : attacker.Connect(target);
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
      do {
        peak_kib_ = std::max(peak_kib_, Status("VmRSS"));
        threads_ = std::max(threads_, Status("Threads"));
        absl::SleepFor(absl::Milliseconds(2));
      } while (!done);
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

  // Floods one connection to `target` with what `make` makes, after the
  // preface.
  Report FloodOnce(
      const std::string& target, int64_t count,
      const std::function<std::string(int64_t)>& make,
      Http2Attacker::Reading reading = Http2Attacker::Reading::kReads) const {
    Report report;
    Http2Attacker attacker;
    if (!ConnectTo(target, attacker) ||
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

  DaemonProcess* daemon_ = nullptr;
  std::unique_ptr<GoodClient> client_;
  int64_t base_kib_ = 0;
  int64_t peak_kib_ = 0;
  int64_t threads_ = 0;

 private:
  // 127.0.0.0, of which every address is this host.
  static constexpr uint32_t kLoopbackNet = 0x7f000000;
};

inline std::string OpenAndReset(int64_t n) {
  const auto id = static_cast<uint32_t>(2 * n + 1);
  return http2::CallHeaders(id, http2::kGetInfo) + http2::Reset(id);
}

}  // namespace tdp::server

#endif  // SERVER_GUARD_ATTACK_FIXTURE_H_
