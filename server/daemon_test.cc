// The daemon as the person sees it who starts it: command line, places to
// listen, signals.

#include <signal.h>
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "server/daemon_fixture.h"

namespace tdp::server {
namespace {

using testing::HasSubstr;

TEST_F(DaemonTest, ExplainsItselfAndEveryFlag) {
  DaemonProcess& help = Run({"--help"});
  EXPECT_EQ(help.AwaitExit(), 0);
  for (const char* flag : {"--listen",
                           "--hypervisor",
                           "--image_dir",
                           "--max_vms",
                           "--insecure_loopback",
                           "--tls_cert",
                           "--tls_key",
                           "--tls_client_ca",
                           "--policy",
                           "--socket_group",
                           "--log_level",
                           "--log_format",
                           "--http",
                           "--http_public",
                           "--web",
                           "--web_token_file",
                           "--dump_dir",
                           "--max_page_table_bytes",
                           "--max_calls_per_client",
                           "--max_streams_per_client",
                           "--max_frames_per_second_per_client"}) {
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
      {{"--max_page_table_bytes=1048575"}, "must be 1048576 or more"},
      {{"--max_page_table_bytes=-1"}, "must be 1048576 or more"},
      {{"--max_calls_per_client=0"}, "must be 1 to 8192"},
      {{"--max_streams_per_client=4097"}, "must be 1 to 4096"},
      {{"--max_frames_per_second_per_client=0"}, "must be 1 to 1073741824"},
      {{"--web"}, "--web is served on the HTTP port, which needs --http="},
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
       "needs --tls_cert, --tls_key and --tls_client_ca"},
      {{"--listen=127.0.0.1:0", "--tls_cert=/x", "--tls_key=/x"},
       "needs --tls_cert, --tls_key and --tls_client_ca"},
      {{"--listen=127.0.0.1:0", "--tls_cert=/nonexistent", "--tls_key=/x",
        "--tls_client_ca=/x"},
       "cannot read /nonexistent"},
      {{"--listen=127.0.0.1:0", "--tls_cert=/dev/null", "--tls_key=/x",
        "--tls_client_ca=/x"},
       "it is no regular file"},
      {{"--policy=/nonexistent", "--listen=" + unix_address},
       "policy file /nonexistent: No such file"},
      {{"--socket_group=no such group", "--listen=" + unix_address},
       "knows no group"},
      {{"--log_level=loud"}, "is not debug, info, warning or error"},
      {{"--log_format=xml"}, "is not text or json"},
      {{"--http=9100"}, "is not HOST:PORT"},
      {{"--http=127.0.0.1:1,127.0.0.1:2"}, "is not HOST:PORT"},
      {{"--http=0.0.0.0:0"}, "--http_public allows that"},
      {{"--http=node7:0", "--http_public"}, "must have an IP address"},
      {{"--dump_dir=/nonexistent"}, "No such file or directory"},
      {{"--dump_dir=/dev/null"}, "is no folder"},
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

}  // namespace
}  // namespace tdp::server
