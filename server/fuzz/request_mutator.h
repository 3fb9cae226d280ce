// RequestMutator: changes a script of calls as one who knows the messages
// would: a field at a time, to values that matter.
//
// Thread safety: belongs to one thread.

#ifndef SERVER_FUZZ_REQUEST_MUTATOR_H_
#define SERVER_FUZZ_REQUEST_MUTATOR_H_

#include <cstdint>
#include <random>
#include <string>

#include "google/protobuf/message.h"
#include "server/fuzz/call_script.h"

namespace tdp::server {

class RequestMutator {
 public:
  explicit RequestMutator(uint32_t seed) : random_(seed) {}

  void Mutate(CallScript& script);

 private:
  using Message = google::protobuf::Message;
  using Field = google::protobuf::FieldDescriptor;

  uint32_t Below(uint32_t limit);
  bool OneIn(uint32_t n) { return Below(n) == 0; }
  uint64_t Number(uint64_t old);
  std::string Text();
  std::string Bytes(std::string old);

  void MutateCall(ScriptedCall& call);
  void MutateMessage(Message& message);
  void MutateField(Message& message, const Field& field);
  void SetScalar(Message& message, const Field& field);
  void AddElement(Message& message, const Field& field);
  ScriptedCall NewCall();

  std::minstd_rand random_;
};

}  // namespace tdp::server

#endif  // SERVER_FUZZ_REQUEST_MUTATOR_H_
