// The histogram of a working set as lines of text.
//
// Thread safety: free function on values.

#ifndef CLIENT_LIB_WORKING_SET_TEXT_H_
#define CLIENT_LIB_WORKING_SET_TEXT_H_

#include <optional>
#include <string>

#include "tdp/v1/working_set_service.pb.h"

namespace tdp::client {

// A line with the total and a table: for each bucket its ages, frames and
// share, the working set up to its end, and a bar. The longest bar ends with a
// line of `columns`, if they leave it room; without them it has 40 characters.
// The bar of a bucket that is not empty has one at least.
std::string WorkingSetText(const v1::WorkingSet& working_set,
                           std::optional<int> columns);

}  // namespace tdp::client

#endif  // CLIENT_LIB_WORKING_SET_TEXT_H_
