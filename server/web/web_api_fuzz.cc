// What strangers may send to the HTTP port, and what it answers to those with
// the token. An input is the head of a request; whatever it asks for is taken
// to be below /api/, and its sender to have shown the token.

#include <stdlib.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "server/base/executor.h"
#include "server/http/http_request.h"
#include "server/services/services.h"
#include "server/testing/fake_vm_registry.h"
#include "server/web/web_api.h"

namespace tdp::server {
namespace {

class NoCalls final : public MetricSource {
 public:
  void Collect(std::vector<prometheus::MetricFamily>&) const override {}
};

constexpr char kToken[] = "0123456789abcdef0123456789abcdef";

WebToken OpenToken() {
  char path[] = "/tmp/tdpd-web-api-fuzz-XXXXXX";
  const int fd = mkstemp(path);  // of mode 0600
  TDP_CHECK(write(fd, kToken, sizeof(kToken) - 1) > 0, "a file can be made");
  close(fd);
  const auto token = WebToken::Open(path);
  unlink(path);
  TDP_CHECK(token.ok(), "its token can be read");
  return *token;
}

// A VM and its page. Requests change nothing in it.
class World {
 public:
  World()
      : executor_({.thread_count = 1, .max_queued = 1}),
        services_(registry_, executor_),
        api_(OpenToken(), registry_, bridge_, calls_,
             services_.newest_working_sets()) {
    services_.OfferTo(bridge_);
    const auto vm = registry_.MakeVmForTest("a", 2);
    MemslotConfig config;
    config.frame_count = 100;
    TDP_CHECK(vm->CreateMemslot("ram", config, false).ok(), "a memslot");
    TDP_CHECK(vm->MapRange({Gfn(3), Gfn(50)}, 0, true, {}).ok(), "is mapped");
    for (int i = 0; i < 20; ++i) {
      vm->AddEventForTest(VcpuExitedEvent{.vcpu_index = 0, .reason = "HLT"});
    }
    vm->DropEventsBeforeForTest(10);
    vm->AddWaitingAccessForTest({.access_id = 1, .gfn = Gfn(7)});
  }

  HttpResponse Answer(HttpRequest request) {
    request.authorization = absl::StrCat("Bearer ", kToken);
    return api_.Answer(request);
  }

 private:
  FakeVmRegistry registry_;
  Executor executor_;
  Services services_;
  JsonBridge bridge_;
  const NoCalls calls_;
  const WebApi api_;
};

void Check(const HttpResponse& response) {
  google::protobuf::Struct body;
  TDP_CHECK(
      google::protobuf::util::JsonStringToMessage(response.body, &body).ok(),
      "an answer is JSON");
  if (response.status == 200) return;
  TDP_CHECK(response.status == 400 || response.status == 404,
            "an error is the caller's fault");
  const auto error = body.fields().find("error");
  TDP_CHECK(error != body.fields().end() &&
                error->second.struct_value().fields().contains("reason"),
            "an error has a reason");
}

void RunInput(absl::string_view input) {
  static World* const world = new World;
  HttpRequest request;
  const int status = ParseHttpRequest(input, &request);
  TDP_CHECK(status == 200 || (status >= 400 && status < 600),
            "a request is taken or refused");
  if (status != 200) return;
  if (!absl::StartsWith(request.path, kWebApiPrefix)) {
    request.path = absl::StrCat(kWebApiPrefix, request.path.substr(1));
  }
  Check(world->Answer(request));
}

}  // namespace
}  // namespace tdp::server

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tdp::server::RunInput({reinterpret_cast<const char*>(data), size});
  return 0;
}
