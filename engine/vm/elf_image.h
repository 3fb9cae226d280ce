// Reads a static ELF64 executable for x86-64 out of its bytes.
//
// Guest memory is mapped one to one, so a program's virtual addresses are its
// physical ones. A segment goes to p_paddr, or to p_vaddr where that is 0, as
// linkers leave it that know no physical addresses. The entry is e_entry; it
// must lie in an executable segment as loaded.
//
// Thread safety: free functions on values.

#ifndef ENGINE_VM_ELF_IMAGE_H_
#define ENGINE_VM_ELF_IMAGE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/types.h"

namespace tdp {

struct ElfSegment {
  Gpa gpa;
  // Goes to `gpa`; a part of the file that was parsed.
  absl::string_view file_bytes;
  // What the segment takes in memory, >= file_bytes.size() and > 0; the rest
  // is zero.
  uint64_t memory_bytes = 0;
};

struct ElfImage {
  uint64_t entry = 0;
  // By ascending address, without overlap. Not empty.
  std::vector<ElfSegment> segments;
};

// Parses `file`, which outlives the result. `path` is the file's name for
// errors. FIELD_INVALID, with what is wrong, for everything that is not a
// well-formed static executable.
absl::StatusOr<ElfImage> ParseElfImage(absl::string_view file,
                                       absl::string_view path);

}  // namespace tdp

#endif  // ENGINE_VM_ELF_IMAGE_H_
