// BenchClient: one connection, with as little between a row and gRPC as there
// can be. A call that fails ends the program: no figure would mean anything.
//
// Thread safety: one thread.

#ifndef SERVER_BENCH_BENCH_CLIENT_H_
#define SERVER_BENCH_BENCH_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "tdp/v1/mmu_service.pb.h"
#include "tdp/v1/vm_service.pb.h"

namespace tdp::server::bench {

class BenchClient {
 public:
  // Connects at once. `vm` is what calls name; an echo does not look.
  BenchClient(const std::string& address, const std::string& vm);
  BenchClient(const BenchClient&) = delete;
  BenchClient& operator=(const BenchClient&) = delete;
  ~BenchClient();

  // Makes the VM with one memslot from frame 0 on.
  void CreateVm(uint64_t frame_count);
  void DeleteVm();

  // These block, as users' calls do. The answer lives until the next call.
  const v1::WalkGfnResponse& WalkGfn(uint64_t gfn);
  const v1::WalkFramesResponse& WalkFrames(absl::Span<const uint64_t> gfns);
  void Map(uint64_t start_gfn, uint64_t end_gfn, v1::PageLevel max_level);
  void Zap(uint64_t start_gfn, uint64_t end_gfn);
  // Sends each message of the stream and takes its answer, with two under way.
  // Every operation must succeed.
  void Stream(absl::Span<v1::StreamOperationsRequest> messages);
  // Whether the daemon serves StreamOperations.
  bool HasStream();

  // Walks each frame, with `in_flight` calls under way, and gives the
  // nanoseconds that each took.
  std::vector<double> WalkPipelined(absl::Span<const uint64_t> gfns,
                                    int in_flight);

 private:
  struct Stubs;

  const std::string vm_;
  const std::unique_ptr<Stubs> stubs_;
  // Kept from call to call, so that they allocate nothing.
  v1::WalkGfnRequest walk_gfn_;
  v1::WalkGfnResponse walked_gfn_;
  v1::WalkFramesRequest walk_frames_;
  v1::WalkFramesResponse walked_frames_;
};

}  // namespace tdp::server::bench

#endif  // SERVER_BENCH_BENCH_CLIENT_H_
