// tdpd: the daemon.
//
// Exit status: 0 after a signal and a drain, 1 for what the host refuses or
// what takes too long to end, 2 for a command line that cannot be meant.

#include <errno.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <initializer_list>
#include <string>
#include <thread>
#include <utility>

#include "absl/debugging/failure_signal_handler.h"
#include "absl/debugging/symbolize.h"
#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/limits.h"
#include "engine/vm/vm_registry.h"
#include "server/base/command_line.h"
#include "server/base/log.h"
#include "server/base/process_tuning.h"
#include "server/base/service_manager.h"
#include "server/base/version.h"
#include "server/daemon.h"
#include "server/guard/housekeeper.h"
#include "server/guard/interpose.h"

ABSL_FLAG(
    std::string, listen, "unix:/run/tdpd/tdpd.sock",
    "Where to listen: unix:PATH[,HOST:PORT...]. A Unix socket can be used "
    "by its owner and its group. TCP needs TLS, or --insecure_loopback.");
ABSL_FLAG(std::string, hypervisor, "auto",
          "What runs VMs that do not say it themselves: kvm, software, or auto "
          "for KVM where it works and else software.");
ABSL_FLAG(std::string, image_dir, "",
          "Folder that memslot sources and ELF guests are read from. Empty: "
          "there are none.");
ABSL_FLAG(int64_t, max_vms, 64,
          "How many VMs may exist at a time; 0 for the most, which is 256.");
ABSL_FLAG(int64_t, max_page_table_bytes, 0,
          "What the page tables of all VMs may hold together; 0 for a "
          "sixteenth of the host's memory.");
ABSL_FLAG(int64_t, max_calls_per_client, tdp::limits::kMaxCallsPerClient,
          "How many calls one client may have under way.");
ABSL_FLAG(int64_t, max_streams_per_client, tdp::limits::kMaxStreamsPerClient,
          "How many of them may be streams.");
ABSL_FLAG(int64_t, max_frames_per_second_per_client,
          tdp::limits::kMaxFramesPerSecondPerClient,
          "How many frames of 4 KiB the calls of one client may work on in a "
          "second, on average.");
ABSL_FLAG(bool, insecure_loopback, false,
          "Let TCP addresses of the loopback interface go without TLS. Every "
          "user of this machine can then use the daemon.");
ABSL_FLAG(std::string, log_level, "info",
          "What is logged: debug, info, warning or error, and what is worse.");
ABSL_FLAG(std::string, log_format, "text",
          "How it is logged: text, which is key=value, or json.");
ABSL_FLAG(std::string, http, "",
          "HOST:PORT, an IP address of the loopback interface, to serve "
          "/metrics for Prometheus and /healthz on. Empty: nowhere.");
ABSL_FLAG(bool, http_public, false,
          "Let --http be an address that others than this machine reach. They "
          "see the names and the load of all VMs.");
ABSL_FLAG(bool, web, false,
          "Serve the web page on the address of --http: VMs and their memory, "
          "to look at. \"tdpctl web\" prints the link to it.");
ABSL_FLAG(std::string, web_token_file, "/run/tdpd/web_token",
          "File of mode 0600 with the token that readers of the page must "
          "show: one line of 32 or more URL-safe characters. Made if it is not "
          "there.");
ABSL_FLAG(std::string, dump_dir, "",
          "Folder for the file with the daemon's state that SIGUSR1 asks for. "
          "Empty: the state goes to the log.");
ABSL_FLAG(std::string, tls_cert, "",
          "PEM file with the server's certificate chain, for TCP addresses.");
ABSL_FLAG(std::string, tls_key, "", "PEM file with the key of --tls_cert.");
ABSL_FLAG(std::string, tls_client_ca, "",
          "PEM file with the certificate authority that TCP clients must have "
          "a certificate of. These three files are read again when they "
          "change.");
ABSL_FLAG(std::string, policy, "",
          "File that says who may call what; it is read again when it changes. "
          "Empty: root and the daemon's own user may call everything, nobody "
          "else anything.");
ABSL_FLAG(std::string, socket_group, "",
          "Group that may connect to the Unix socket. Empty: that of the "
          "daemon.");

namespace tdp::server {
namespace {

constexpr char kThisFile[] = "server/main.cc";
constexpr char kHelp[] =
    "tdpd owns KVM virtual machines and serves a page-granular control plane\n"
    "over their memory by gRPC.\n"
    "\n"
    "Usage: tdpd [--flag=value ...]\n"
    "\n";

constexpr int kRuntimeError = 1;
constexpr int kUsageError = 2;

constexpr absl::Duration kDrainLimit = absl::Seconds(10);
// For cancelled calls to notice and for VMs to stop.
constexpr absl::Duration kEndLimit = absl::Seconds(10);
// For the log to say why the daemon ends at once.
constexpr absl::Duration kLastWordsLimit = absl::Milliseconds(100);
// Signals that come so soon after the first are the same wish: a terminal or
// a service manager tells the whole process group, and a wrapper that runs the
// daemon passes on what it was told itself. Who means it asks again.
constexpr absl::Duration kSameSignal = absl::Milliseconds(200);

int Fail(int exit_status, const absl::Status& status) {
  FlushLog();
  fprintf(stderr, "tdpd: %.*s\n", static_cast<int>(status.message().size()),
          status.message().data());
  return exit_status;
}

sigset_t SignalSet(std::initializer_list<int> numbers) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : numbers) sigaddset(&signals, number);
  return signals;
}

// Blocks the signals that the daemon waits for. Before any thread exists, so
// that none takes them and one thread can wait for them.
sigset_t BlockSignals() {
  const sigset_t signals = SignalSet({SIGTERM, SIGINT, SIGUSR1});
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // A reader of the log that goes away must not end the daemon.
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

// Waits for a signal to end. Dumps the state meanwhile, when asked to.
void AwaitEnd(const sigset_t& signals, const Daemon& daemon) {
  while (true) {
    int number = 0;
    if (sigwait(&signals, &number) != 0) continue;
    if (number != SIGUSR1) return;
    daemon.DumpState();
  }
}

// Ends the process if it is asked to a second time, or if it takes too long.
void StartWatchdog() {
  std::thread([] {
    const sigset_t signals = SignalSet({SIGTERM, SIGINT});
    const absl::Time start = absl::Now();
    const absl::Time end = start + kDrainLimit + kEndLimit;
    int number = 0;
    do {
      const timespec limit =
          absl::ToTimespec(std::max(end - absl::Now(), absl::ZeroDuration()));
      number = sigtimedwait(&signals, nullptr, &limit);
    } while (number > 0 ? absl::Now() < start + kSameSignal : errno == EINTR);
    Log(Severity::kError, number > 0
                              ? "a second signal: ending at once"
                              : "the shutdown takes too long: ending at once");
    FlushLog(kLastWordsLimit);
    _exit(kRuntimeError);
  }).detach();
}

// False, having said why, for flags that cannot be meant.
bool StartLog() {
  Severity level = Severity::kInfo;
  LogFormat format = LogFormat::kText;
  const std::string level_text = absl::GetFlag(FLAGS_log_level);
  const std::string format_text = absl::GetFlag(FLAGS_log_format);
  if (!ParseSeverity(level_text, &level)) {
    fprintf(stderr,
            "tdpd: --log_level=%s is not debug, info, warning or error\n",
            level_text.c_str());
    return false;
  }
  if (!ParseLogFormat(format_text, &format)) {
    fprintf(stderr, "tdpd: --log_format=%s is not text or json\n",
            format_text.c_str());
    return false;
  }
  SetLogLevel(level);
  SetLogFormat(format);
  StartLogThread();
  return true;
}

bool ParseHypervisor(const std::string& text, HypervisorKind* kind) {
  if (text == "auto") {
    *kind = HypervisorKind::kUnspecified;
  } else if (text == "kvm") {
    *kind = HypervisorKind::kKvm;
  } else if (text == "software") {
    *kind = HypervisorKind::kSoftware;
  } else {
    return false;
  }
  return true;
}

int Main(int argc, char** argv) {
  // It is no error if that does not work, only slower.
  (void)TuneProcess();
  const sigset_t signals = BlockSignals();
  absl::InitializeSymbolizer(argv[0]);
  absl::InstallFailureSignalHandler(absl::FailureSignalHandlerOptions());

  const auto action = ParseCommandLine(kThisFile, argc, argv);
  if (!action.ok()) return Fail(kUsageError, action.status());
  if (*action == CommandLineAction::kShowHelp) {
    printf("%s%s", kHelp, DescribeFlags(kThisFile).c_str());
    return 0;
  }
  if (*action == CommandLineAction::kShowVersion) {
    printf("tdpd %s\n", kVersion);
    return 0;
  }

  DaemonOptions options;
  options.listen = absl::GetFlag(FLAGS_listen);
  options.insecure_loopback = absl::GetFlag(FLAGS_insecure_loopback);
  options.tls_cert = absl::GetFlag(FLAGS_tls_cert);
  options.tls_key = absl::GetFlag(FLAGS_tls_key);
  options.tls_client_ca = absl::GetFlag(FLAGS_tls_client_ca);
  options.policy = absl::GetFlag(FLAGS_policy);
  options.socket_group = absl::GetFlag(FLAGS_socket_group);
  options.observe.http = absl::GetFlag(FLAGS_http);
  options.observe.http_public = absl::GetFlag(FLAGS_http_public);
  options.web = absl::GetFlag(FLAGS_web);
  options.web_token_file = absl::GetFlag(FLAGS_web_token_file);
  options.observe.dump_dir = absl::GetFlag(FLAGS_dump_dir);
  options.engine.image_dir = absl::GetFlag(FLAGS_image_dir);
  options.engine.max_vms = absl::GetFlag(FLAGS_max_vms);
  options.engine.max_page_table_bytes =
      absl::GetFlag(FLAGS_max_page_table_bytes);
  options.overload.max_calls_per_client =
      absl::GetFlag(FLAGS_max_calls_per_client);
  options.overload.max_streams_per_client =
      absl::GetFlag(FLAGS_max_streams_per_client);
  options.overload.max_frames_per_second_per_client =
      absl::GetFlag(FLAGS_max_frames_per_second_per_client);
  if (!ParseHypervisor(absl::GetFlag(FLAGS_hypervisor),
                       &options.engine.hypervisor)) {
    fprintf(stderr, "tdpd: --hypervisor=%s is not auto, kvm or software\n",
            absl::GetFlag(FLAGS_hypervisor).c_str());
    return kUsageError;
  }

  if (!StartLog()) return kUsageError;
  const absl::Status guard = CheckInterposition();
  if (!guard.ok()) return Fail(kRuntimeError, guard);

  auto daemon = Daemon::Start(options, VmRegistry::Create);
  if (!daemon.ok()) {
    return Fail(
        absl::IsInvalidArgument(daemon.status()) ? kUsageError : kRuntimeError,
        daemon.status());
  }
  const GuardHousekeeper housekeeper;
  // Behind what was logged before.
  FlushLog();
  fprintf(stderr, "%s\n", (*daemon)->ready_line().c_str());
  ServiceManager service_manager;
  service_manager.Ready((*daemon)->ready_line());
  service_manager.StartWatchdog([&daemon](std::function<void()> answered) {
    (*daemon)->AskPollers(std::move(answered));
  });

  AwaitEnd(signals, **daemon);
  StartWatchdog();
  service_manager.Stopping();
  Log(Severity::kInfo, "draining");
  (*daemon)->Shutdown(kDrainLimit);
  daemon->reset();
  Log(Severity::kInfo, "stopped");
  FlushLog();
  return 0;
}

}  // namespace
}  // namespace tdp::server

int main(int argc, char** argv) { return tdp::server::Main(argc, argv); }
