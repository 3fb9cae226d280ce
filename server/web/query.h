// Query: the parameters of a URL, behind its question mark.
//
// What is not plainly name=value&name=value is refused: broken percent escapes,
// text that is no UTF-8, names that nobody knows or that come twice.
//
// Thread safety: a value.

#ifndef SERVER_WEB_QUERY_H_
#define SERVER_WEB_QUERY_H_

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tdp::server {

class Query {
 public:
  // `names` are those that there may be. FIELD_INVALID names the parameter.
  static absl::StatusOr<Query> Parse(
      absl::string_view text, std::initializer_list<absl::string_view> names);

  // Empty if it is not there.
  const std::string& Text(absl::string_view name) const;
  // A decimal number from `min` to `max`; `otherwise` if it is not there.
  absl::StatusOr<uint64_t> Number(absl::string_view name, uint64_t min,
                                  uint64_t max, uint64_t otherwise) const;
  // The same for one that must be there.
  absl::StatusOr<uint64_t> Number(absl::string_view name, uint64_t min,
                                  uint64_t max) const;

 private:
  std::map<std::string, std::string, std::less<>> values_;
};

}  // namespace tdp::server

#endif  // SERVER_WEB_QUERY_H_
