// FileSource: a file below the image directory, whose bytes become the content
// of a memslot, frame by frame. Never written.
//
// What the path names is settled once, by Open(): nothing outside the
// directory, no symbolic link on the way, a regular file. Bytes past the end of
// the file are zero. A file that has become shorter since then has lost bytes:
// these cannot be read.
//
// Thread safety: all const methods, from any thread.

#ifndef ENGINE_MEMORY_FILE_SOURCE_H_
#define ENGINE_MEMORY_FILE_SOURCE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/types.h"
#include "engine/memory/host_calls.h"

namespace tdp {

struct FileSourceOptions {
  std::string image_dir;  // empty: the daemon serves no files
  std::string path;       // below image_dir
  int64_t offset_bytes = 0;
  // Path of the API message that holds `path` and `offset_bytes`; for errors.
  std::string field = "memslot.source";
};

class FileSource {
 public:
  // FIELD_INVALID for a path that may not or cannot be used, SOURCE_FAILED for
  // a file that cannot be opened.
  static absl::StatusOr<FileSource> Open(const FileSourceOptions& options);

  FileSource(FileSource&& other) noexcept;
  FileSource& operator=(FileSource&& other) noexcept;
  ~FileSource();

  // Reads the bytes from `offset` on, counted from offset_bytes. `gpa` is where
  // the guest sees the first of them. SOURCE_FAILED names the file and the
  // frame; the `*done_bytes` before it are good.
  absl::Status Read(HostCalls& calls, uint64_t offset, Gpa gpa,
                    absl::Span<char> bytes, size_t* done_bytes) const;

  // Whether Read() of the frame at `offset` would not wait for a disk.
  bool IsCached(HostCalls& calls, uint64_t offset) const;

  // Size of the file when it was opened, from offset_bytes on.
  int64_t size_bytes() const { return size_bytes_; }
  const std::string& path() const { return path_; }

 private:
  FileSource(int fd, std::string path, uint64_t offset_bytes,
             int64_t size_bytes);

  int fd_;
  std::string path_;
  uint64_t offset_bytes_;
  int64_t size_bytes_;
};

}  // namespace tdp

#endif  // ENGINE_MEMORY_FILE_SOURCE_H_
