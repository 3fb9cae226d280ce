#include "server/access/access.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "grpcpp/security/server_credentials.h"
#include "server/access/policy_parser.h"
#include "server/access/tls_credentials.h"
#include "server/base/status_macros.h"
#include "server/convert/text.h"
#include "server/guard/unix_peer.h"

namespace tdp::server {

absl::StatusOr<std::unique_ptr<Access>> Access::Open(const Options& options) {
  const NameLookup names = SystemNames();
  std::optional<gid_t> socket_group;
  if (!options.socket_group.empty()) {
    socket_group = names.group(options.socket_group);
    if (!socket_group.has_value()) {
      return MakeError(ErrorReason::kFieldInvalid,
                       absl::StrCat("--socket_group: this machine knows no "
                                    "group ",
                                    Shown(options.socket_group)));
    }
  }
  TDP_ASSIGN_OR_RETURN(std::unique_ptr<PolicySource> policy,
                       PolicySource::Open(options.policy, geteuid(), names));
  std::unique_ptr<TlsFiles> tls_files;
  if (options.use_tls) {
    TDP_ASSIGN_OR_RETURN(tls_files, TlsFiles::Open(options.tls));
  }
  return std::unique_ptr<Access>(
      new Access(std::move(policy), std::move(tls_files), socket_group));
}

Access::Access(std::unique_ptr<PolicySource> policy,
               std::unique_ptr<TlsFiles> tls_files,
               std::optional<gid_t> socket_group)
    : policy_(std::move(policy)),
      tls_files_(std::move(tls_files)),
      tcp_credentials_(tls_files_ != nullptr
                           ? MutualTlsCredentials(*tls_files_)
                           : grpc::InsecureServerCredentials()),
      socket_group_(socket_group),
      gate_(*policy_, FindUnixPeer),
      reload_thread_({[this] { policy_->Refresh(); },
                      [this] {
                        if (tls_files_ != nullptr) tls_files_->Refresh();
                      }}) {}

Access::~Access() = default;

}  // namespace tdp::server
