#include "engine/memory/huge_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace tdp {
namespace {

static_assert(MFD_HUGETLB == 0x4u);

constexpr char kFreePagesPath[] =
    "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

std::string MissingHint(int error_number) {
  return absl::StrCat(
      "the kernel gives no 2M pages (memfd_create: ", strerror(error_number),
      "); boot one that was built with CONFIG_HUGETLBFS, on a "
      "processor that has them");
}

}  // namespace

const absl::string_view kHugePagePoolFix =
    "raise /proc/sys/vm/nr_hugepages, or delete memslots or discard frames "
    "that hold 2M pages";

HugePageSupport ProbeHugePages() {
  const int fd = memfd_create("tdpd-probe", MFD_CLOEXEC | kHugePageMemfdFlags);
  if (fd < 0) return {false, MissingHint(errno)};
  close(fd);
  return {true, ""};
}

absl::Status HugePagesMissingError(int error_number) {
  const std::string hint = MissingHint(error_number);
  return MakeError(ErrorReason::kCapabilityMissing,
                   absl::StrCat("capability hugetlb is missing: ", hint),
                   {{"capability", "hugetlb"}, {"hint", hint}});
}

absl::Status HugePagePoolError(uint64_t needed_pages, int error_number) {
  // A hint: others take and give pages as well.
  std::string free_pages = "unknown";
  std::ifstream(kFreePagesPath) >> free_pages;
  return MakeError(
      ErrorReason::kHostMemoryExhausted,
      absl::StrCat("the memslot needs ", needed_pages,
                   " pages of 2M, and the host's pool does not have them (",
                   free_pages, " are free; fallocate: ", strerror(error_number),
                   "); ", kHugePagePoolFix),
      {{"neededPages", absl::StrCat(needed_pages)},
       {"freePages", free_pages},
       {"errno", absl::StrCat(error_number)}});
}

}  // namespace tdp
