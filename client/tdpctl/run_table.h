// The runs of frames whose bits are set, as a table.

#ifndef CLIENT_TDPCTL_RUN_TABLE_H_
#define CLIENT_TDPCTL_RUN_TABLE_H_

#include <ostream>
#include <string>

#include "absl/types/span.h"
#include "tdp/v1/types.pb.h"

namespace tdp::client {

// Prints an empty line and the runs; nothing if no bit is set. `title` says
// what the bits mean.
void PrintRuns(const std::string& title, absl::Span<const v1::Bitmap> bitmaps,
               std::ostream& out);

}  // namespace tdp::client

#endif  // CLIENT_TDPCTL_RUN_TABLE_H_
