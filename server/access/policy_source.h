// PolicySource: the policy that holds now, from a file that may change.
//
// A file that becomes unreadable, unsafe or wrong leaves the policy as it is;
// the log says so, once for each cause, and the next refresh tries again.
//
// Thread safety: policy() and generation() from any thread; Refresh() from one
// thread at a time.

#ifndef SERVER_ACCESS_POLICY_SOURCE_H_
#define SERVER_ACCESS_POLICY_SOURCE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/access/access_policy.h"
#include "server/access/policy_parser.h"
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
  uint64_t generation() const {
    return generation_.load(std::memory_order_acquire);
  }
  std::shared_ptr<const AccessPolicy> policy() const
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Reads the file again if it may have changed, or if that failed before.
  void Refresh() ABSL_LOCKS_EXCLUDED(mutex_);

  // How often a changed file was taken, and how often refused.
  int64_t reload_count() const {
    return reload_count_.load(std::memory_order_relaxed);
  }
  int64_t reload_failure_count() const {
    return reload_failure_count_.load(std::memory_order_relaxed);
  }

 private:
  PolicySource(const std::string& path, uid_t own_user, NameLookup names);

  // The policy in the file; sets text_.
  absl::StatusOr<AccessPolicy> Load();
  void Publish(AccessPolicy policy) ABSL_LOCKS_EXCLUDED(mutex_);

  const uid_t own_user_;
  const NameLookup names_;

  // Of the thread that opens and refreshes.
  std::optional<WatchedFile> file_;
  std::string text_;  // as last read
  std::string last_error_;

  std::atomic<uint64_t> generation_ = 1;
  std::atomic<int64_t> reload_count_ = 0;
  std::atomic<int64_t> reload_failure_count_ = 0;
  mutable absl::Mutex mutex_;
  std::shared_ptr<const AccessPolicy> policy_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tdp::server

#endif  // SERVER_ACCESS_POLICY_SOURCE_H_
