// What a command works with: the connection, the form of the output, the
// terminals and the exit code.
//
// Thread safety: one thread.

#ifndef CLIENT_TDPCTL_SESSION_H_
#define CLIENT_TDPCTL_SESSION_H_

#include <istream>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "client/lib/client.h"
#include "client/lib/progress_bar.h"
#include "client/lib/terminal.h"
#include "google/protobuf/message.h"

namespace tdp::client {

inline constexpr int kExitOk = 0;
inline constexpr int kExitError = 1;
inline constexpr int kExitUsage = 2;

struct Io {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  // The terminals at the ends of `out` and `err`; none unless given.
  Terminal out_terminal = {};
  Terminal err_terminal = {};
  // Times the progress bars.
  Clock now = absl::Now;
};

enum class OutputForm { kText, kJson };

class Session {
 public:
  struct Daemon {
    std::string address;
    Client* client;
  };

  // REQUIRES: there is a daemon; the clients outlive the session.
  Session(std::vector<Daemon> daemons, OutputForm form, Io io);

  // Of a command that works on one daemon.
  Client& client() { return *daemons_.front().client; }
  // Of a command that works on a fleet.
  const std::vector<Daemon>& daemons() const { return daemons_; }
  bool is_fleet() const { return daemons_.size() > 1; }
  bool json() const { return form_ == OutputForm::kJson; }
  std::istream& in() { return io_.in; }
  std::ostream& out() { return io_.out; }
  const Terminal& out_terminal() const { return io_.out_terminal; }
  // Where a progress bar is drawn: not on `out`, which others may read.
  ProgressBar::Place progress_place() const {
    return {io_.err, io_.err_terminal, io_.now};
  }

  // Prints one line and flushes, so that a reader of a stream sees it at once.
  void PrintJson(const google::protobuf::Message& message);
  // The same for what `daemon` said. The line of a fleet begins with "daemon".
  void PrintJson(const Daemon& daemon,
                 const google::protobuf::Message& message);
  // Tells of the end of the resource `name`, which `response` answers.
  template <typename Response>
  absl::Status PrintDeleted(const absl::StatusOr<Response>& response,
                            absl::string_view name) {
    if (!response.ok()) return response.status();
    if (json()) {
      PrintJson(*response);
    } else {
      out() << "deleted " << name << "\n";
    }
    return absl::OkStatus();
  }

  // Tells why the command fails though every call succeeded.
  void Fail(absl::string_view sentence);
  // Tells what is wrong with the arguments.
  void UsageError(absl::string_view sentence);

  int exit_code() const { return exit_code_; }

 private:
  void Complain(absl::string_view sentence, int exit_code);

  const std::vector<Daemon> daemons_;
  const OutputForm form_;
  const Io io_;
  int exit_code_ = kExitOk;
};

}  // namespace tdp::client

#endif  // CLIENT_TDPCTL_SESSION_H_
