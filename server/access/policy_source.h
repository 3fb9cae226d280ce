// PolicySource: the policy that holds now, from a file that may change.
//
// Thread safety: policy() and generation() from any thread; Refresh() from one
// thread at a time.

#ifndef SERVER_ACCESS_POLICY_SOURCE_H_
#define SERVER_ACCESS_POLICY_SOURCE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "server/access/access_policy.h"
#include "server/access/policy_parser.h"
#include "server/access/reloaded.h"
#include "server/access/watched_file.h"

namespace tdp::server {

class PolicySource {
 public:
  // Of the file `path`; empty: root and `own_user` are let in, nobody else. An
  // error names the file and what is wrong with it.
  static absl::StatusOr<std::unique_ptr<PolicySource>> Open(
      const std::string& path, uid_t own_user, NameLookup names);

  PolicySource(const PolicySource&) = delete;
  PolicySource& operator=(const PolicySource&) = delete;

  // Changes with every new policy, after policy() gives it.
  uint64_t generation() const { return policy_.generation(); }
  std::shared_ptr<const AccessPolicy> policy() const { return policy_.value(); }

  // Reads the file again if it may have changed, or if that failed before.
  void Refresh();

  int64_t reload_count() const { return policy_.reload_count(); }
  int64_t reload_failure_count() const { return policy_.failure_count(); }

 private:
  PolicySource(const std::string& path, uid_t own_user, NameLookup names);

  // The policy in the file; sets text_.
  absl::StatusOr<AccessPolicy> Load();

  const uid_t own_user_;
  const NameLookup names_;

  // Of the thread that opens and refreshes.
  std::optional<WatchedFile> file_;
  std::string text_;  // as last read

  // Provides its own synchronization.
  Reloaded<AccessPolicy> policy_{{.stays = "the policy stays as it was",
                                  .changed = "the policy file was read again"}};
};

}  // namespace tdp::server

#endif  // SERVER_ACCESS_POLICY_SOURCE_H_
