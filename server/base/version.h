// The version of the daemon, as --version, the ready line and GetInfo show it.

#ifndef SERVER_BASE_VERSION_H_
#define SERVER_BASE_VERSION_H_

namespace tdp::server {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace tdp::server

#endif  // SERVER_BASE_VERSION_H_
