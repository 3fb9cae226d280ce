// The web page of a daemon, as browsers and those who would like to be see it.

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "server/daemon_fixture.h"
#include "server/http/http_client.h"

namespace tdp::server {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class DaemonWebTest : public DaemonTest {
 protected:
  void SetUp() override {
    DaemonTest::SetUp();
    token_path_ = folder_ + "/token";
  }
  void TearDown() override {
    unlink(token_path_.c_str());
    DaemonTest::TearDown();
  }
  DaemonProcess& ServeWeb(std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.end(), {"--http=127.0.0.1:0", "--web",
                                       "--web_token_file=" + token_path_});
    DaemonProcess& daemon = Serve(std::move(arguments));
    EXPECT_THAT(daemon.Output(), HasSubstr(", web page on http://127.0.0.1:"));
    FindPort(daemon.Output(), "/\n");
    return daemon;
  }
  // The port is what stands before `behind` in the ready line.
  void FindPort(const std::string& output, const std::string& behind) {
    const size_t end = output.rfind(behind);
    ASSERT_NE(end, std::string::npos) << output;
    const size_t begin = output.rfind(':', end) + 1;
    ASSERT_TRUE(absl::SimpleAtoi(output.substr(begin, end - begin), &port_))
        << output;
  }
  std::string Token() const {
    std::ifstream file(token_path_);
    std::string line;
    std::getline(file, line);
    return line;
  }
  // The response to a GET with these headers, each with its line end.
  std::string Get(const std::string& target, const std::string& headers) {
    RawHttpClient client(port_);
    client.Send(absl::StrCat("GET ", target, " HTTP/1.1\r\nHost: localhost\r\n",
                             headers, "\r\n"));
    return client.ReadAll();
  }
  std::string Bearer() const {
    return "Authorization: Bearer " + Token() + "\r\n";
  }

  std::string token_path_;
  int port_ = 0;
};

TEST_F(DaemonWebTest, ServesThePageToEverybodyAndItsDataToWhoShowsTheToken) {
  ServeWeb();
  const std::string page = Get("/", "");
  EXPECT_THAT(page, StartsWith("HTTP/1.1 200 OK\r\nContent-Type: text/html; "
                               "charset=utf-8\r\n"));
  EXPECT_THAT(
      page,
      HasSubstr("\r\nContent-Security-Policy: default-src 'none'; script-src "
                "'self'; style-src 'self'; connect-src 'self'; img-src 'self' "
                "data:; base-uri 'none'; form-action 'none'; frame-ancestors "
                "'none'\r\n"));
  for (const char* header : {"\r\nX-Content-Type-Options: nosniff\r\n",
                             "\r\nReferrer-Policy: no-referrer\r\n",
                             "\r\nCache-Control: no-store\r\n"}) {
    EXPECT_THAT(page, HasSubstr(header));
    EXPECT_THAT(Get("/api/charts", Bearer()), HasSubstr(header));
  }
  EXPECT_THAT(Get("/app.js", ""),
              HasSubstr("\r\nContent-Type: text/javascript"));
  EXPECT_THAT(Get("/app.css", ""), HasSubstr("\r\nContent-Type: text/css"));
  EXPECT_THAT(Get("/../token", ""), StartsWith("HTTP/1.1 404 "));

  CreateVm("a");
  EXPECT_THAT(Get("/api/rpc/VmService/ListVms", Bearer()),
              HasSubstr("\"name\":\"vms/a\""));
  for (const std::string& headers :
       {std::string(), "Authorization: Bearer " + Token() + "x\r\n",
        "Authorization: Basic " + Token() + "\r\n"}) {
    const std::string response = Get("/api/rpc/VmService/ListVms", headers);
    EXPECT_THAT(response, StartsWith("HTTP/1.1 401 Unauthorized\r\n"));
    EXPECT_THAT(response, Not(HasSubstr("vms/a")));
  }
}

TEST_F(DaemonWebTest, AnswersToItsOwnNameAndItsOwnPageOnly) {
  ServeWeb();
  EXPECT_THAT(Get("/api/charts", Bearer() + "Origin: http://localhost\r\n"),
              StartsWith("HTTP/1.1 200 "));
  for (const char* target : {"/", "/api/charts"}) {
    EXPECT_THAT(Get(target, Bearer() + "Origin: http://evil.example\r\n"),
                StartsWith("HTTP/1.1 403 "));
    EXPECT_THAT(Get(target, Bearer() + "Origin: null\r\n"),
                StartsWith("HTTP/1.1 403 "));
    EXPECT_THAT(HttpGet(port_, target, "evil.example"),
                StartsWith("HTTP/1.1 421 "));
  }
}

TEST_F(DaemonWebTest, KeepsItsTokenToItselfAndOverARestart) {
  DaemonProcess& daemon = ServeWeb({"--log_level=debug"});
  const std::string token = Token();
  EXPECT_GE(token.size(), 43u);
  struct stat info;
  ASSERT_EQ(stat(token_path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_THAT(Get("/api/charts", Bearer()), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(Get("/api/nonsense", Bearer()), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(Get("/metrics", Bearer()), Not(HasSubstr(token)));
  daemon.Signal(SIGUSR1);
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.AwaitExit(), 0);
  EXPECT_THAT(daemon.Output(), Not(HasSubstr(token)));
  ServeWeb();
  EXPECT_EQ(Token(), token);
}

TEST_F(DaemonWebTest, ThereIsNoPageUnlessItIsAskedFor) {
  DaemonProcess& daemon = Serve({"--http=127.0.0.1:0"});
  EXPECT_THAT(daemon.Output(), Not(HasSubstr("web page")));
  FindPort(daemon.Output(), "/metrics\n");
  EXPECT_THAT(Get("/metrics", ""), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(Get("/", ""), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(Get("/api/charts", ""), StartsWith("HTTP/1.1 404 "));
  EXPECT_FALSE(Exists(token_path_));
}

TEST_F(DaemonWebTest, SaysWhyThereCanBeNoPage) {
  const auto refused = [this](std::vector<std::string> arguments) {
    arguments.push_back("--listen=unix:" + socket_);
    DaemonProcess& daemon = Run(std::move(arguments));
    EXPECT_EQ(daemon.AwaitExit(), 2) << daemon.Output();
    return daemon.Output();
  };
  EXPECT_THAT(refused({"--web"}), HasSubstr("needs --http=HOST:PORT"));
  std::ofstream(token_path_) << "short\n";
  ASSERT_EQ(chmod(token_path_.c_str(), 0600), 0);
  const std::string file = "--web_token_file=" + token_path_;
  EXPECT_THAT(refused({"--web", "--http=127.0.0.1:0", file}),
              HasSubstr(file + " must hold one line of 32 to 256"));
  ASSERT_EQ(chmod(token_path_.c_str(), 0644), 0);
  EXPECT_THAT(refused({"--web", "--http=127.0.0.1:0", file}),
              HasSubstr(file + " must have mode 0600"));
}

}  // namespace
}  // namespace tdp::server
