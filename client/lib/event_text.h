// Events and waiting accesses in words.
//
// Thread safety: free functions on values.

#ifndef CLIENT_LIB_EVENT_TEXT_H_
#define CLIENT_LIB_EVENT_TEXT_H_

#include <string>

#include "tdp/v1/event_service.pb.h"

namespace tdp::client {

// "access 3 by vcpu 0: w at 0x1000, cause PROTECTION"
std::string WaitingAccessText(const v1::AccessWaiting& access);

// What happened, without sequence and time: "vm  CREATED -> RUNNING".
std::string EventText(const v1::Event& event);

}  // namespace tdp::client

#endif  // CLIENT_LIB_EVENT_TEXT_H_
