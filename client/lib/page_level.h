// The words for page levels: "4K", "2M", "1G", "512G" and "256T".
//
// Thread safety: free functions on values.

#ifndef CLIENT_LIB_PAGE_LEVEL_H_
#define CLIENT_LIB_PAGE_LEVEL_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tdp/v1/types.pb.h"

namespace tdp::client {

// "level 9" for what has no word.
std::string LevelText(v1::PageLevel level);
// The levels from `min` to `max`, each with its word.
std::vector<std::pair<std::string, v1::PageLevel>> LevelChoices(
    v1::PageLevel min, v1::PageLevel max);
// "4K|2M|1G" for 4K to 1G.
std::string LevelWords(v1::PageLevel min, v1::PageLevel max);
// One of those words, in either case.
absl::StatusOr<v1::PageLevel> ParseLevel(absl::string_view text,
                                         v1::PageLevel min, v1::PageLevel max);

}  // namespace tdp::client

#endif  // CLIENT_LIB_PAGE_LEVEL_H_
