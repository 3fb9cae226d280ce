// MethodTraits: what is known of a method before it is called.

#ifndef SERVER_RPC_METHOD_TRAITS_H_
#define SERVER_RPC_METHOD_TRAITS_H_

#include <string>

namespace tdp::server {

// What a caller may do; each role may do what those before it may.
enum class Role {
  kNone,      // health and reflection: whoever may connect
  kObserver,  // sees what is, never the bytes of a guest
  kOperator,  // changes mappings, runs and stops what exists
  kAdmin,     // makes and deletes; reads and writes guest memory
};

// Where a handler runs.
enum class RunOn {
  kPoller,    // in place: it takes microseconds and never blocks
  kExecutor,  // on the executor: it may block, or make threads
  kBulk,      // on the executor's lower lane: it works on many frames
};

// Whether a method is served while the server drains.
enum class WhileDraining { kRefuse, kServe };

struct MethodTraits {
  std::string name;  // "MmuService.MapRange"
  Role role = Role::kAdmin;
  RunOn run_on = RunOn::kPoller;
  WhileDraining while_draining = WhileDraining::kRefuse;
  // Set by the server: a number of its own, from 0 on.
  int index = 0;
  // Set by the server: the call may live long.
  bool is_stream = false;
};

}  // namespace tdp::server

#endif  // SERVER_RPC_METHOD_TRAITS_H_
