// Bare gRPC servers: what a call costs without a daemon behind it. Each knows
// WalkGfn and WalkFrames, answers every call with the same message, and does
// no more than its API of gRPC asks for.
//
// Thread safety: Serve*() belong to the main thread and never return.

#ifndef SERVER_BENCH_ECHO_H_
#define SERVER_BENCH_ECHO_H_

#include <string>

#include "grpcpp/impl/service_type.h"
#include "tdp/v1/mmu_service.pb.h"

namespace tdp::server::bench {

struct Canned {
  v1::WalkGfnResponse walk_gfn;
  v1::WalkFramesResponse walk_frames;
};

// One completion queue; the thread that polls it answers in place.
void ServeFromCompletionQueue(const std::string& address, const Canned& canned);
// gRPC's own threads, which block.
void ServeSync(const std::string& address, const Canned& canned);
// Reactors on gRPC's own threads.
void ServeByCallback(const std::string& address, const Canned& canned);

// Serves `service`, which brings its own threads, until the process is killed;
// returns if the address cannot be had.
void ServeUntilKilled(const std::string& address, grpc::Service& service);
// Says so to who started the process, as tdpd does.
void AnnounceServing(const std::string& address);

}  // namespace tdp::server::bench

#endif  // SERVER_BENCH_ECHO_H_
