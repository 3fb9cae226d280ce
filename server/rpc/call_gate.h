// CallGate: what every call passes on its way in and out. Gates say who may
// call, whether there is room, and what is counted and logged.
//
// Thread safety: any thread. The methods run on threads that serve other
// calls: they take a microsecond and never block.

#ifndef SERVER_RPC_CALL_GATE_H_
#define SERVER_RPC_CALL_GATE_H_

#include "absl/status/status.h"
#include "server/rpc/call_context.h"

namespace grpc {
class ServerContext;
}  // namespace grpc

namespace tdp::server {

class CallGate {
 public:
  virtual ~CallGate() = default;
  // A call has come in. An error refuses it: the gates behind this one never
  // see it.
  virtual absl::Status Enter(grpc::ServerContext& transport,
                             CallContext& context) = 0;
  // A call is about to end with `status`: the last moment to add trailing
  // metadata. Every gate hears it, also those behind one that refused the call.
  // On the thread that ended the call; once.
  virtual void Completing(grpc::ServerContext&, const CallContext&,
                          const absl::Status&) {}
  // A call that entered, and that this gate did not refuse, is over: gRPC took
  // its status. Gates hear it in the reverse order. `code` is that of the
  // status.
  virtual void Leave(CallContext& context, absl::StatusCode code) = 0;
};

}  // namespace tdp::server

#endif  // SERVER_RPC_CALL_GATE_H_
