#include "engine/memory/host_errors.h"

#include <sys/resource.h>

#include <cerrno>
#include <cstdint>

#include "engine/base/errors.h"

namespace tdp {

absl::Status TooManyFilesError(int error_number) {
  if (error_number == ENFILE) {
    return MakeError(ErrorReason::kLimitReached,
                     "the host's limit of open files is reached; raise sysctl "
                     "fs.file-max or delete memslots",
                     {{"limit", "fs.file-max"}});
  }
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  return LimitError("RLIMIT_NOFILE", static_cast<int64_t>(limit.rlim_cur),
                    "raise LimitNOFILE of the daemon or delete memslots");
}

}  // namespace tdp
