// Whether a call may be made twice, as the request says.
//
// Thread safety: free functions on values.

#ifndef CLIENT_LIB_EFFECT_H_
#define CLIENT_LIB_EFFECT_H_

#include <string>

#include "google/protobuf/message.h"

namespace tdp::client {

enum class Effect {
  // A second call changes nothing that the first has not changed, and its
  // answer is worth as much. It counts only what was left to do: of a ranged
  // call whose answer was lost, the sum lacks what that answer counted.
  kIdempotent,
  // If the first call took effect, a second would fail, lose what the first
  // answered, or undo what others did in between.
  kOnce,
};

// Of a request of a unary method. What carries a `request_id`, or only wants
// to be checked, is idempotent.
Effect EffectOf(const google::protobuf::Message& request);

// A random UUID (version 4), as `request_id` wants it.
std::string NewRequestId();

}  // namespace tdp::client

#endif  // CLIENT_LIB_EFFECT_H_
