// Pages of a list: how many items, and after which one to go on.
//
// A page token is opaque to clients. It names the list that it belongs to and
// the key of the last item that was sent, so a list may change between pages
// without an item being lost or sent twice.

#ifndef SERVER_CONVERT_PAGING_H_
#define SERVER_CONVERT_PAGING_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tdp::server {

// A page also ends where its items hold this many bytes, because clients take
// responses of at most 4 MiB.
inline constexpr size_t kMaxPageBytes = size_t{1} << 20;

// `page_size` 0 means the default, more than the maximum means the maximum.
absl::StatusOr<size_t> ParsePageSize(int32_t page_size);

// A token for "the items of `list` after `key`". `list` is e.g. "vms/a/vcpus".
std::string MakePageToken(absl::string_view list, absl::string_view key);
// The key, or nothing for the first page (an empty token).
absl::StatusOr<std::optional<std::string>> ParsePageToken(
    absl::string_view list, absl::string_view token);
// The same for keys that are numbers.
absl::StatusOr<std::optional<uint64_t>> ParseNumericPageToken(
    absl::string_view list, absl::string_view token);

// Counts the items of one page.
class PageBudget {
 public:
  explicit PageBudget(size_t max_items) : items_left_(max_items) {}
  // True, and counted, if an item of `bytes` still fits; the first always does.
  bool Take(size_t bytes);

 private:
  size_t items_left_;
  size_t bytes_ = 0;
};

}  // namespace tdp::server

#endif  // SERVER_CONVERT_PAGING_H_
