// tdpd: the daemon.
//
// Exit status: 0 after a signal and a drain, 1 for what the host refuses or
// what takes too long to end, 2 for a command line that cannot be meant.

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <thread>

#include "absl/debugging/failure_signal_handler.h"
#include "absl/debugging/symbolize.h"
#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/base/limits.h"
#include "engine/vm/vm_registry.h"
#include "server/base/command_line.h"
#include "server/base/log.h"
#include "server/base/process_tuning.h"
#include "server/base/version.h"
#include "server/daemon.h"

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
ABSL_FLAG(bool, insecure_loopback, false,
          "Let TCP addresses of the loopback interface go without TLS. Every "
          "user of this machine can then use the daemon.");
ABSL_FLAG(std::string, tls_cert, "",
          "PEM file with the server's certificate chain, for TCP addresses.");
ABSL_FLAG(std::string, tls_key, "", "PEM file with the key of --tls_cert.");
ABSL_FLAG(std::string, tls_client_ca, "",
          "PEM file with the certificate authority that TCP clients must have "
          "a certificate of. Empty: any client may connect.");

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

int Fail(int exit_status, const absl::Status& status) {
  fprintf(stderr, "tdpd: %.*s\n", static_cast<int>(status.message().size()),
          status.message().data());
  return exit_status;
}

// Blocks the signals that end the daemon. Before any thread exists, so that
// none takes them and one thread can wait for them.
sigset_t BlockEndSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // A reader of the log that goes away must not end the daemon.
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

void AwaitSignal(const sigset_t& signals) {
  int number = 0;
  while (sigwait(&signals, &number) != 0) {
  }
}

// Ends the process if it is asked to a second time, or if it takes too long.
void StartWatchdog(const sigset_t& signals) {
  std::thread([signals] {
    timespec limit = absl::ToTimespec(kDrainLimit + kEndLimit);
    const int number = sigtimedwait(&signals, nullptr, &limit);
    Log(Severity::kError, number > 0
                              ? "a second signal: ending at once"
                              : "the shutdown takes too long: ending at once");
    _exit(kRuntimeError);
  }).detach();
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
  const sigset_t signals = BlockEndSignals();
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
  options.engine.image_dir = absl::GetFlag(FLAGS_image_dir);
  options.engine.max_vms = absl::GetFlag(FLAGS_max_vms);
  if (!ParseHypervisor(absl::GetFlag(FLAGS_hypervisor),
                       &options.engine.hypervisor)) {
    fprintf(stderr, "tdpd: --hypervisor=%s is not auto, kvm or software\n",
            absl::GetFlag(FLAGS_hypervisor).c_str());
    return kUsageError;
  }

  auto daemon = Daemon::Start(options, VmRegistry::Create);
  if (!daemon.ok()) {
    return Fail(
        absl::IsInvalidArgument(daemon.status()) ? kUsageError : kRuntimeError,
        daemon.status());
  }
  fprintf(stderr, "%s\n", (*daemon)->ready_line().c_str());

  AwaitSignal(signals);
  StartWatchdog(signals);
  Log(Severity::kInfo, "draining");
  (*daemon)->Shutdown(kDrainLimit);
  daemon->reset();
  Log(Severity::kInfo, "stopped");
  return 0;
}

}  // namespace
}  // namespace tdp::server

int main(int argc, char** argv) { return tdp::server::Main(argc, argv); }
