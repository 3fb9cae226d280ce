// The host's pool of 2M pages (hugetlb): whether there is one, and what to say
// where it does not suffice.
//
// Thread safety: free functions.

#ifndef ENGINE_MEMORY_HUGE_PAGES_H_
#define ENGINE_MEMORY_HUGE_PAGES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tdp {

// What memfd_create(2) wants to hear for a file of 2M pages.
inline constexpr unsigned kHugePageMemfdFlags = 0x4u | 21u << 26;

struct HugePageSupport {
  bool available = false;
  std::string hint;  // if not: what is missing and how to get it
};

// Whether the kernel has 2M pages at all; how many are free is asked by who
// wants some. Changes nothing.
HugePageSupport ProbeHugePages();

// CAPABILITY_MISSING: memfd_create(2) failed with `error_number`.
absl::Status HugePagesMissingError(int error_number);

// HOST_MEMORY_EXHAUSTED: the pool does not hold what a memslot needs.
absl::Status HugePagePoolError(uint64_t needed_pages, int error_number);

// How to get more of them; completes a sentence.
extern const absl::string_view kHugePagePoolFix;

}  // namespace tdp

#endif  // ENGINE_MEMORY_HUGE_PAGES_H_
