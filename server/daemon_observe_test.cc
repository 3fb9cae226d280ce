// What a daemon shows of itself: metrics, health, log and state, as those see
// them who run it.

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <regex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "server/daemon_fixture.h"
#include "server/http/http_client.h"

namespace tdp::server {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class DaemonObserveTest : public DaemonTest {
 protected:
  void TearDown() override {
    for (const std::string& name : FilesIn("/dump")) {
      unlink(absl::StrCat(folder_, "/dump/", name).c_str());
    }
    rmdir((folder_ + "/dump").c_str());
    unlink((folder_ + "/scrape").c_str());
    unlink((folder_ + "/verdict").c_str());
    DaemonTest::TearDown();
  }
  DaemonProcess& ServeHttp(std::vector<std::string> arguments = {}) {
    arguments.push_back("--http=localhost:0");
    DaemonProcess& daemon = Serve(std::move(arguments));
    static const std::regex kAddress(
        "metrics on http://127\\.0\\.0\\.1:([0-9]+)/metrics\n");
    std::smatch match;
    const std::string output = daemon.Output();
    EXPECT_TRUE(std::regex_search(output, match, kAddress)) << output;
    EXPECT_TRUE(absl::SimpleAtoi(match[1].str(), &port_));
    return daemon;
  }
  // What /metrics answers, without the head.
  std::string Scrape() {
    const std::string response = HttpGet(port_, "/metrics");
    EXPECT_THAT(response, StartsWith("HTTP/1.1 200 OK\r\nContent-Type: "
                                     "text/plain; version=0.0.4"));
    return response.substr(response.find("\r\n\r\n") + 4);
  }
  grpc::Status GetVm(const std::string& name,
                     grpc::ClientContext* context = nullptr) {
    grpc::ClientContext own;
    v1::GetVmRequest request;
    request.set_name(name);
    v1::GetVmResponse response;
    return v1::VmService::NewStub(channel_)->GetVm(
        context == nullptr ? &own : context, request, &response);
  }
  std::vector<std::string> FilesIn(const std::string& name) const {
    std::vector<std::string> files;
    DIR* const folder = opendir((folder_ + name).c_str());
    if (folder == nullptr) return files;
    while (const dirent* entry = readdir(folder)) {
      if (entry->d_name[0] != '.') files.push_back(entry->d_name);
    }
    closedir(folder);
    return files;
  }
  // What promtool has against `metrics`: nothing, if they are as they should.
  std::string PromtoolOn(const std::string& metrics) {
    std::ofstream(folder_ + "/scrape", std::ios::binary) << metrics;
    const int status =
        system(absl::StrCat("/usr/bin/promtool check metrics <", folder_,
                            "/scrape >", folder_, "/verdict 2>&1")
                   .c_str());
    return absl::StrCat(status == 0 ? "" : "promtool refuses them\n",
                        ReadFile(folder_ + "/verdict"));
  }
  static void AwaitOutput(const DaemonProcess& daemon,
                          const std::string& part) {
    while (!absl::StrContains(daemon.Output(), part)) usleep(1000);
  }

  int port_ = 0;
};

// The names behind `before` at the beginning of a line.
std::set<std::string> NamesIn(const std::string& text, const char* before) {
  std::set<std::string> names;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (!absl::ConsumePrefix(&line, before)) continue;
    names.insert(std::string(line.substr(0, line.find_first_of(" `"))));
  }
  return names;
}

TEST_F(DaemonObserveTest, ServesMetricsThatPromtoolFindsNothingAgainst) {
  ServeHttp();
  EXPECT_EQ(PromtoolOn(Scrape()), "") << "without a VM";
  CreateVm("a");
  EXPECT_EQ(GetVm("vms/none").error_code(), grpc::StatusCode::NOT_FOUND);
  const std::string metrics = Scrape();
  EXPECT_EQ(PromtoolOn(metrics), "");

  std::set<std::string> series;
  for (absl::string_view line :
       absl::StrSplit(metrics, '\n', absl::SkipEmpty())) {
    if (line[0] == '#') continue;
    EXPECT_TRUE(series.emplace(line.substr(0, line.rfind(' '))).second)
        << line << " is there twice";
  }
}

TEST_F(DaemonObserveTest, DocumentsEveryMetricThatItServesAndNoOther) {
  ServeHttp();
  CreateVm("a");
  std::set<std::string> documented;
  for (const std::string& name :
       NamesIn(ReadFile("server/doc/observability.md"), "| `")) {
    if (absl::StartsWith(name, "tdpd_") || absl::StartsWith(name, "process_")) {
      documented.insert(name);
    }
  }
  EXPECT_EQ(NamesIn(Scrape(), "# TYPE "), documented);
}

TEST_F(DaemonObserveTest, CountsTheCallsThatItServes) {
  ServeHttp();
  CreateVm("a");
  EXPECT_TRUE(GetVm("vms/a").ok());
  EXPECT_TRUE(GetVm("vms/a").ok());
  EXPECT_EQ(GetVm("vms/b").error_code(), grpc::StatusCode::NOT_FOUND);
  // A call counts as ended a moment after its caller has the answer.
  const std::string ok =
      "tdpd_rpc_handled_total{service=\"VmService\",method=\"GetVm\","
      "code=\"OK\"} 2\n";
  const std::string not_found =
      "tdpd_rpc_handled_total{service=\"VmService\",method=\"GetVm\","
      "code=\"NOT_FOUND\"} 1\n";
  std::string metrics = Scrape();
  while (!absl::StrContains(metrics, ok) ||
         !absl::StrContains(metrics, not_found)) {
    metrics = Scrape();
  }
  EXPECT_THAT(metrics, HasSubstr("tdpd_rpc_duration_seconds_count{service="
                                 "\"VmService\",method=\"GetVm\"} 3\n"));
  EXPECT_THAT(metrics, HasSubstr("tdpd_vms{state=\"created\"} 1\n"));
  EXPECT_THAT(metrics,
              HasSubstr("tdpd_vm_state{vm=\"a\",state=\"created\"} 1\n"));
}

TEST_F(DaemonObserveTest, ServesTheMetricsOfAsManyVmsAsThereMayBe) {
  ServeHttp({"--max_vms=256"});
  for (int i = 0; i < 256; ++i) CreateVm(absl::StrCat("vm-", i));
  const std::string metrics = Scrape();
  EXPECT_EQ(CountOf(metrics, "\ntdpd_vm_vcpus{"), 256);
  EXPECT_LT(metrics.size(), size_t{8} << 20) << "fits the server's buffers";
}

TEST_F(DaemonObserveTest, IsHealthyUntilItDrains) {
  DaemonProcess& daemon = ServeHttp();
  EXPECT_THAT(HttpGet(port_, "/healthz"), EndsWith("\r\n\r\nok\n"));
  grpc::ClientContext context;
  v1::WriteGuestMemoryResponse response;
  auto write = OpenWrite(&context, &response);
  daemon.Signal(SIGTERM);
  std::string health;
  while (!absl::StartsWith(health, "HTTP/1.1 503 ")) {
    health = HttpGet(port_, "/healthz");
    ASSERT_NE(health, "") << "the server is gone while a call is under way";
  }
  EXPECT_THAT(health, EndsWith("\r\n\r\ndraining\n"));
  write->WritesDone();
  EXPECT_TRUE(write->Finish().ok());
  EXPECT_EQ(daemon.AwaitExit(), 0);
}

TEST_F(DaemonObserveTest, ListensForHttpOnlyWhereItIsTold) {
  DaemonProcess& daemon = Serve();
  EXPECT_THAT(daemon.Output(), Not(HasSubstr("http")));
}

TEST_F(DaemonObserveTest, LogsACallThatFailsAndTellsItsCallerByWhichName) {
  DaemonProcess& daemon = Serve({"--log_format=json"});
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "job-17");
  EXPECT_FALSE(GetVm("vms/none", &context).ok());
  const auto& trailing = context.GetServerTrailingMetadata();
  const auto id = trailing.find("x-request-id");
  ASSERT_NE(id, trailing.end());
  EXPECT_EQ(id->second, "job-17");

  grpc::ClientContext good;
  CreateVm("a");
  EXPECT_TRUE(GetVm("vms/a", &good).ok());
  EXPECT_EQ(good.GetServerTrailingMetadata().count("x-request-id"), 0u);

  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.AwaitExit(), 0);
  EXPECT_THAT(daemon.Output(),
              HasSubstr("\"level\":\"info\",\"msg\":\"call failed\","
                        "\"method\":\"VmService.GetVm\","
                        "\"code\":\"NOT_FOUND\","
                        "\"reason\":\"RESOURCE_NOT_FOUND\","));
  EXPECT_THAT(daemon.Output(), HasSubstr("\"request_id\":\"job-17\"}\n"));
  EXPECT_THAT(daemon.Output(), EndsWith("\"msg\":\"stopped\"}\n"));
  EXPECT_EQ(CountOf(daemon.Output(), "call failed"), 1);
}

TEST_F(DaemonObserveTest, LogsEveryCallAtTheLevelDebugAndNoneAtError) {
  for (const auto& [level, count] :
       {std::pair("debug", 3), std::pair("error", 0)}) {
    DaemonProcess& daemon = Serve({absl::StrCat("--log_level=", level)});
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(GetInfo(channel_).ok());
    daemon.Signal(SIGTERM);
    EXPECT_EQ(daemon.AwaitExit(), 0);
    EXPECT_EQ(CountOf(daemon.Output(), " method=InfoService.GetInfo code=OK "),
              count);
  }
}

TEST_F(DaemonObserveTest, WritesItsStateToAFileWhenItIsAskedTo) {
  const std::string folder = folder_ + "/dump";
  ASSERT_EQ(mkdir(folder.c_str(), 0700), 0);
  DaemonProcess& daemon = Serve({"--dump_dir=" + folder});
  grpc::ClientContext context;
  v1::WriteGuestMemoryResponse response;
  auto write = OpenWrite(&context, &response);
  daemon.Signal(SIGUSR1);
  AwaitOutput(daemon, "the state was written");

  const std::vector<std::string> files = FilesIn("/dump");
  ASSERT_EQ(files.size(), 1u);
  EXPECT_THAT(files[0], testing::MatchesRegex("tdpd-state-.*Z\\.txt"));
  struct stat info;
  ASSERT_EQ(stat((folder + "/" + files[0]).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  const std::string text = ReadFile(folder + "/" + files[0]);
  for (const char* part : {"process:\n  tdpd 0.1.0 pid=", " uptime=",
                           "executors:\n", "calls in flight:\n", " calls\n",
                           "\n  GuestMemoryService.WriteGuestMemory peer=",
                           " age=", "vms:\n  1 VMs\n  a created vcpus=1",
                           "fixed=3", "memslot ram base_gfn=0x0 frames=1",
                           "admission:\n  connections=", "  clients="}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  write->WritesDone();
  EXPECT_TRUE(write->Finish().ok()) << "the call must not notice";
}

TEST_F(DaemonObserveTest, LogsItsStateWhereThereIsNoFolderForIt) {
  DaemonProcess& daemon = Serve();
  CreateVm("a");
  daemon.Signal(SIGUSR1);
  AwaitOutput(daemon, "msg=state line=\"  1 VMs\"\n");
  AwaitOutput(daemon, "msg=state line=\"  a created vcpus=1");
  EXPECT_TRUE(GetInfo(channel_).ok());
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.AwaitExit(), 0);
}

}  // namespace
}  // namespace tdp::server
