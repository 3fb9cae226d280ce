// What gRPC and protobuf have to say, in the daemon's log.
//
// They log what peers do to them, so their lines are limited; and they name
// objects by their address, which no log of ours shows.
//
// Thread safety: RouteLibraryLogs() before other threads use the libraries.

#ifndef SERVER_OBSERVE_LIBRARY_LOGS_H_
#define SERVER_OBSERVE_LIBRARY_LOGS_H_

#include <string>

#include "absl/strings/string_view.h"

namespace tdp::server {

void RouteLibraryLogs();

// `text`, cut to what a line should hold, with "0x..." for each number that may
// be an address.
std::string WithoutAddresses(absl::string_view text);

}  // namespace tdp::server

#endif  // SERVER_OBSERVE_LIBRARY_LOGS_H_
