// Folds neighbouring entries of a walk that say the same into runs.
//
// Thread safety: one thread at a time.

#ifndef CLIENT_LIB_SPTE_RUN_FOLDER_H_
#define CLIENT_LIB_SPTE_RUN_FOLDER_H_

#include <cstdint>
#include <functional>
#include <optional>

#include "client/lib/address.h"
#include "tdp/v1/types.pb.h"

namespace tdp::client {

// Entries that follow each other without a gap, of one level and state, with
// the same access and bits; leaves also have consecutive backing frames.
struct SpteRun {
  v1::Spte first;
  FrameRange frames;
  int64_t entry_count = 0;
};

class SpteRunFolder {
 public:
  // `emit` gets each run once it has ended.
  explicit SpteRunFolder(std::function<void(const SpteRun&)> emit);

  // Takes the next entry in the order of the walk.
  void Add(const v1::Spte& spte);
  // Emits the last run.
  void Finish();

 private:
  bool Extends(const v1::Spte& spte) const;

  const std::function<void(const SpteRun&)> emit_;
  std::optional<SpteRun> run_;
};

}  // namespace tdp::client

#endif  // CLIENT_LIB_SPTE_RUN_FOLDER_H_
