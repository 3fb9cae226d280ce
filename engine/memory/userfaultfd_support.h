// What the host's userfaultfd can do and, where it cannot, what is missing and
// how to get it.
//
// Thread safety: free functions on values.

#ifndef ENGINE_MEMORY_USERFAULTFD_SUPPORT_H_
#define ENGINE_MEMORY_USERFAULTFD_SUPPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/memory/userfaultfd.h"

namespace tdp {

struct UserfaultfdFeature {
  std::string name;  // stable, e.g. "userfaultfd.minor_shmem"
  bool available = false;
  std::string hint;  // if not available: what is missing and how to get it
};

struct UserfaultfdSupport {
  UserfaultfdWay way = UserfaultfdWay::kNone;
  // The first one is "userfaultfd" itself. All of them are needed.
  std::vector<UserfaultfdFeature> features;

  bool Complete() const;
};

// Asks the kernel. Changes nothing.
UserfaultfdSupport ProbeUserfaultfd(const UserfaultfdOptions& options = {});

// What `opening` and the feature bits that the kernel offers amount to.
UserfaultfdSupport DescribeUserfaultfd(const UserfaultfdOpening& opening,
                                       uint64_t feature_bits);

// CAPABILITY_MISSING for the first feature that `support` lacks.
absl::Status UserfaultfdMissingError(const UserfaultfdSupport& support);

}  // namespace tdp

#endif  // ENGINE_MEMORY_USERFAULTFD_SUPPORT_H_
