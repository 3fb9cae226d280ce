// AccessPolicy: which role a caller has.
//
// Root and the daemon's own user are admin, whatever else is said, so that
// nobody locks himself out. Of all other callers each has the highest role of
// all lines that name him, but none if one of the lines says so; a caller whom
// no line names has none.
//
// Thread safety: immutable once it is shared; until then one thread.

#ifndef SERVER_ACCESS_ACCESS_POLICY_H_
#define SERVER_ACCESS_ACCESS_POLICY_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/access/san_pattern.h"
#include "server/rpc/method_traits.h"

namespace tdp::server {

// "observer"; "none" for kNone.
absl::string_view RoleName(Role role);
// The role of this name, if there is one.
std::optional<Role> RoleOfName(absl::string_view name);

class AccessPolicy {
 public:
  // Nobody is let in but root and `own_user`.
  explicit AccessPolicy(uid_t own_user) : own_user_(own_user) {}

  // What the lines of a policy say. kNone takes every role away.
  void GrantUser(uid_t user, Role role) { users_[user].Add(role); }
  void GrantGroup(gid_t group, Role role) { groups_[group].Add(role); }
  void GrantLoopback(Role role);
  void GrantSan(SanPattern pattern, Role role);

  // Whether the role of `user` is fixed.
  bool IsAlwaysAdmin(uid_t user) const {
    return user == 0 || user == own_user_;
  }
  uid_t own_user() const { return own_user_; }
  size_t pattern_count() const { return patterns_.size(); }

  // The role of a process with these credentials.
  Role RoleOfProcess(uid_t user, gid_t group,
                     absl::Span<const gid_t> supplementary) const;
  // The role of who has a certificate with these names, each an identity as
  // IsSanIdentity() knows it.
  Role RoleOfCertificate(absl::Span<const std::string> names) const;
  // The role of who connects to a TCP address that goes without TLS: admin
  // unless a line says otherwise.
  Role RoleOfLoopback() const;

 private:
  // What all lines that name a caller say together.
  struct Grant {
    void Add(Role role);
    void Add(const Grant& other);
    Role role() const { return is_denied ? Role::kNone : highest; }

    Role highest = Role::kNone;
    bool is_denied = false;
  };
  struct PatternGrant {
    SanPattern pattern;
    Role role;
  };

  const uid_t own_user_;
  absl::flat_hash_map<uid_t, Grant> users_;
  absl::flat_hash_map<gid_t, Grant> groups_;
  absl::flat_hash_map<std::string, Grant> names_;  // patterns without a star
  std::vector<PatternGrant> patterns_;
  Grant loopback_;
  bool names_loopback_ = false;
};

}  // namespace tdp::server

#endif  // SERVER_ACCESS_ACCESS_POLICY_H_
