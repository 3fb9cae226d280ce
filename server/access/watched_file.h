// WatchedFile: a small file that others replace while the daemon runs.
//
// It is recognised as changed by its inode, size and times, whether it was
// written in place or another file was renamed to its path, and behind symbolic
// links, too.
//
// Thread safety: none; one thread at a time.

#ifndef SERVER_ACCESS_WATCHED_FILE_H_
#define SERVER_ACCESS_WATCHED_FILE_H_

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tdp::server {

struct FileContent {
  std::string text;
  struct stat info = {};
};

class WatchedFile {
 public:
  enum class Change {
    kNone,
    kMaybe,  // it was changed so lately that its times may not show the next
    kSure,
  };

  // Files of more than `max_bytes` are refused.
  WatchedFile(std::string path, int64_t max_bytes)
      : path_(std::move(path)), max_bytes_(max_bytes) {}

  const std::string& path() const { return path_; }
  // What happened to the file since the last call; the first one is kSure.
  Change Check();
  // The whole content. An error says what is in the way, without the path.
  absl::StatusOr<FileContent> Read() const;

 private:
  struct Stamp {
    bool exists = false;
    uint64_t device = 0;
    uint64_t inode = 0;
    int64_t size = 0;
    int64_t modified = 0;  // nanoseconds
    int64_t changed = 0;

    friend bool operator==(const Stamp&, const Stamp&) = default;
  };

  std::string path_;
  int64_t max_bytes_;
  bool was_checked_ = false;
  Stamp stamp_;
};

}  // namespace tdp::server

#endif  // SERVER_ACCESS_WATCHED_FILE_H_
