// echo_server: one of the bare gRPC servers, in a process of its own.
//
//   echo_server cq|sync|callback unix:PATH WALK_GFN WALK_FRAMES
//
// The last two are files with the serialized responses. Runs until it is
// killed.

#include <cstdio>
#include <fstream>
#include <string>

#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "server/bench/echo.h"

namespace tdp::server::bench {

void AnnounceServing(const std::string& address) {
  std::fprintf(stderr, "echo serving on %s\n", address.c_str());
}

void ServeUntilKilled(const std::string& address, grpc::Service& service) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  if (server == nullptr) return;
  AnnounceServing(address);
  server->Wait();
}

namespace {

template <typename Message>
bool Read(const char* path, Message& message) {
  std::ifstream file(path, std::ios::binary);
  return message.ParseFromIstream(&file);
}

int Main(int argc, char** argv) {
  Canned canned;
  if (argc != 5 || !Read(argv[3], canned.walk_gfn) ||
      !Read(argv[4], canned.walk_frames)) {
    std::fputs("usage: echo_server API ADDRESS WALK_GFN WALK_FRAMES\n", stderr);
    return 2;
  }
  const std::string api = argv[1];
  if (api == "cq") ServeFromCompletionQueue(argv[2], canned);
  if (api == "sync") ServeSync(argv[2], canned);
  if (api == "callback") ServeByCallback(argv[2], canned);
  std::fprintf(stderr, "echo_server: cannot serve %s on %s\n", argv[1],
               argv[2]);
  return 1;
}

}  // namespace
}  // namespace tdp::server::bench

int main(int argc, char** argv) { return tdp::server::bench::Main(argc, argv); }
