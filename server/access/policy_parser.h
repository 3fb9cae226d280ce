// The text of a policy file: one line for each grant.
//
//   # ROLE   PRINCIPAL
//   admin    user:ops
//   operator group:vm-operators
//   observer spiffe://cluster.example/ns/monitoring/**
//   none     uid:1234
//
// server/doc/access.md describes it whole.
//
// Thread safety: free functions on values; the functions of NameLookup are
// called on the caller's thread.

#ifndef SERVER_ACCESS_POLICY_PARSER_H_
#define SERVER_ACCESS_POLICY_PARSER_H_

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/access/access_policy.h"

namespace tdp::server {

// Who is called what on this machine.
struct NameLookup {
  std::function<std::optional<uid_t>(const std::string& user)> user;
  std::function<std::optional<gid_t>(const std::string& group)> group;
};

// The user and group database of the system.
NameLookup SystemNames();

// The policy that `text` describes, for a daemon of `own_user`. An error names
// `file`, the line, the column, the word there and what is allowed.
absl::StatusOr<AccessPolicy> ParsePolicy(absl::string_view text,
                                         absl::string_view file, uid_t own_user,
                                         const NameLookup& names);

}  // namespace tdp::server

#endif  // SERVER_ACCESS_POLICY_PARSER_H_
