// TlsFiles: the certificate, the key and the client authority of the daemon,
// from files that may change.
//
// A set that does not fit together, say because one of two files is written and
// the other is not yet, leaves the old one in use.
//
// Thread safety: material() from any thread; Refresh() from one thread at a
// time.

#ifndef SERVER_ACCESS_TLS_FILES_H_
#define SERVER_ACCESS_TLS_FILES_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/access/reloaded.h"
#include "server/access/watched_file.h"

namespace tdp::server {

// In PEM format; never changed.
struct TlsMaterial {
  std::string certificates;  // the daemon's, then those that signed it
  std::string key;
  std::string client_authorities;

  friend bool operator==(const TlsMaterial&, const TlsMaterial&) = default;
};

// Whether the certificate has this key, and all can be used.
absl::Status CheckTlsMaterial(const TlsMaterial& material);

class TlsFiles {
 public:
  struct Paths {
    std::string certificates;
    std::string key;
    std::string client_authorities;
  };

  // An error names the flag, the file and what is wrong with it.
  static absl::StatusOr<std::unique_ptr<TlsFiles>> Open(const Paths& paths);

  TlsFiles(const TlsFiles&) = delete;
  TlsFiles& operator=(const TlsFiles&) = delete;

  // What new connections are to use; another pointer after each change.
  std::shared_ptr<const TlsMaterial> material() const {
    return material_.value();
  }

  // Reads the files again if they may have changed, or if that failed before.
  void Refresh();

  int64_t reload_count() const { return material_.reload_count(); }
  int64_t reload_failure_count() const { return material_.failure_count(); }

 private:
  explicit TlsFiles(const Paths& paths);

  absl::StatusOr<TlsMaterial> Load() const;

  // Of the thread that opens and refreshes.
  WatchedFile certificates_;
  WatchedFile key_;
  WatchedFile client_authorities_;

  // Provides its own synchronization.
  Reloaded<TlsMaterial> material_{
      {.stays = "the certificates stay as they were",
       .changed = "the certificates were read again"}};
};

}  // namespace tdp::server

#endif  // SERVER_ACCESS_TLS_FILES_H_
