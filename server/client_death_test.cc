// Clients that die at each message of each streaming method, and in the middle
// of long calls: nothing of them stays.

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "server/service_fixture.h"
#include "server/testing/cut_proxy.h"
#include "tdp/v1/dirty_log_service.grpc.pb.h"
#include "tdp/v1/event_service.grpc.pb.h"
#include "tdp/v1/guest_memory_service.grpc.pb.h"
#include "tdp/v1/mmu_service.grpc.pb.h"
#include "tdp/v1/stats_service.grpc.pb.h"
#include "tdp/v1/vcpu_service.grpc.pb.h"
#include "tdp/v1/working_set_service.grpc.pb.h"

namespace tdp::server {
namespace {

enum class Death { kCancel, kCutOff, kHalfClose, kDeadline };
enum class Engine { kFake, kReal };

struct Param {
  Death death;
  Engine engine;
};

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr int64_t kFrames = 20000;

class ClientDeathTest : public testing::TestWithParam<Param> {
 protected:
  void SetUp() override {
    if (GetParam().engine == Engine::kFake) {
      host_.StartFake();
    } else {
      VmRegistryOptions options;
      options.hypervisor = HypervisorKind::kSoftware;
      auto registry = VmRegistry::Create(options);
      ASSERT_TRUE(registry.ok()) << registry.status();
      host_.Start(*std::move(registry));
    }
    proxy_ =
        std::make_unique<CutProxy>(host_.folder() + "/proxy", host_.path());
  }
  void TearDown() override { proxy_.reset(); }

  // A client that connects, calls and dies after `messages` messages.
  struct Victim {
    std::shared_ptr<grpc::Channel> channel;
    grpc::ClientContext context;
    int messages;
  };
  using Life = std::function<void(Victim& victim)>;

  // Lives it with 0 to `most` messages, each time with a VM of its own, and
  // finds nothing left behind.
  void LiveAndDie(int most, const Life& life) {
    for (int messages = 0; messages <= most; ++messages) {
      SCOPED_TRACE(absl::StrCat(messages, " messages"));
      std::weak_ptr<Vm> vm = CreateVm();
      {
        Victim victim;
        victim.messages = messages;
        victim.channel =
            grpc::CreateChannel(absl::StrCat("unix:", host_.folder(), "/proxy"),
                                grpc::InsecureChannelCredentials());
        if (GetParam().death == Death::kDeadline) {
          victim.context.set_deadline(absl::ToChronoTime(
              absl::Now() + absl::Milliseconds(20 + 5 * messages)));
        }
        life(victim);
      }
      ExpectNothingLeft(vm);
    }
  }

  void Die(Victim& victim) {
    if (GetParam().death == Death::kCancel) victim.context.TryCancel();
    if (GetParam().death == Death::kCutOff) proxy_->Cut();
  }

  // Makes `call`, which takes long, and dies in it. Where the engine is quick
  // the answer may have come.
  void DieInUnary(Victim& victim, const std::function<grpc::Status()>& call) {
    std::atomic<bool> returned = false;
    std::thread caller([&] {
      call();
      returned = true;
    });
    while (!returned && host_.server().active_count() == 0) {
      absl::SleepFor(absl::Microseconds(100));
    }
    if (GetParam().death == Death::kHalfClose) victim.context.TryCancel();
    Die(victim);
    caller.join();
  }
  // On the fake: frames are mapped when nobody waits for it any more.
  void HoldMaps() {
    if (GetParam().engine != Engine::kFake) return;
    static_cast<FakeVm*>(host_.registry().FindVm("a")->get())
        ->SetMapHookForTest([](const WorkBudget& budget) {
          while (!budget.cancelled()) absl::SleepFor(absl::Milliseconds(1));
        });
  }

  // The lives of a client of each kind of stream. With a deadline they end by
  // themselves.
  template <typename Request, typename Response, typename Open>
  Life ServerStream(const Request& request, const Open& open) {
    return [this, request, open](Victim& victim) {
      const auto stream = open(victim, request);
      Response response;
      for (int i = 0; i < victim.messages; ++i) {
        if (!stream->Read(&response)) break;
      }
      // The server cannot see the half-close of a server stream: it has it with
      // the request.
      if (GetParam().death == Death::kHalfClose) victim.context.TryCancel();
      Die(victim);
      while (stream->Read(&response)) {
      }
      stream->Finish();
    };
  }
  template <typename Request, typename Response, typename Open>
  Life ClientStream(const Request& first, const Open& open) {
    return [this, first, open](Victim& victim) {
      Response response;
      const auto stream = open(victim, &response);
      for (int i = 0; i < victim.messages; ++i) {
        if (!stream->Write(first)) break;
      }
      if (GetParam().death == Death::kHalfClose) stream->WritesDone();
      Die(victim);
      stream->Finish();
    };
  }
  // Every other answer is read before it dies.
  template <typename Request, typename Response, typename Open>
  Life BidiStream(const Request& request, const Open& open) {
    return [this, request, open](Victim& victim) {
      const auto stream = open(victim);
      Response response;
      for (int i = 0; i < victim.messages; ++i) {
        if (!stream->Write(request)) break;
        if (i % 2 == 0) stream->Read(&response);
      }
      if (GetParam().death == Death::kHalfClose) stream->WritesDone();
      Die(victim);
      while (stream->Read(&response)) {
      }
      stream->Finish();
    };
  }

  template <typename Request>
  static Request OfVm() {
    Request request;
    request.set_vm("vms/a");
    return request;
  }
  template <typename Request>
  static Request OfRange(uint64_t end) {
    Request request = OfVm<Request>();
    request.mutable_range()->set_end_gfn(end);
    return request;
  }

 private:
  std::weak_ptr<Vm> CreateVm() {
    VmConfig config;
    config.vcpu_count = 1;
    EXPECT_TRUE(host_.registry().CreateVm("a", config, false).ok());
    auto vm = host_.registry().FindVm("a");
    EXPECT_TRUE(vm.ok());
    MemslotConfig memslot;
    memslot.frame_count = kFrames;
    memslot.dirty_log_enabled = true;
    EXPECT_TRUE((*vm)->CreateMemslot("ram", memslot, false).ok());
    return *vm;
  }

  void ExpectNothingLeft(const std::weak_ptr<Vm>& vm) {
    EXPECT_TRUE(host_.server().WaitUntilIdle(absl::Now() + kPatience));
    EXPECT_EQ(host_.server().active_count(), 0u);
    // A unary handler may outlive its call for a moment.
    const absl::Time patience = absl::Now() + kPatience;
    while (vm.use_count() > 1 && absl::Now() < patience) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    EXPECT_EQ(vm.use_count(), 1) << "somebody still holds the VM";
    if (GetParam().engine == Engine::kFake) {
      FakeVm& fake = *static_cast<FakeVm*>(vm.lock().get());
      EXPECT_EQ(fake.ListenerCountForTest(), 0);
      EXPECT_TRUE(fake.WatcherIntervalsForTest().empty());
    }
    const absl::Status deleted = host_.registry().DeleteVm("a", "");
    EXPECT_TRUE(deleted.ok()) << deleted;
    if (GetParam().engine == Engine::kReal) {
      EXPECT_TRUE(vm.expired());
    }
  }

  ServiceServer host_;
  std::unique_ptr<CutProxy> proxy_;
};

TEST_P(ClientDeathTest, WalkRange) {
  using R = v1::WalkRangeRequest;
  LiveAndDie(4, ServerStream<R, v1::WalkRangeResponse>(
                    OfRange<R>(kFrames), [](Victim& v, const R& request) {
                      return v1::MmuService::NewStub(v.channel)->WalkRange(
                          &v.context, request);
                    }));
}

TEST_P(ClientDeathTest, ReadGuestMemory) {
  using R = v1::ReadGuestMemoryRequest;
  R request = OfVm<R>();
  request.set_size_bytes(5 << 18);
  LiveAndDie(
      5,
      ServerStream<R, v1::ReadGuestMemoryResponse>(
          request, [](Victim& v, const R& request) {
            return v1::GuestMemoryService::NewStub(v.channel)->ReadGuestMemory(
                &v.context, request);
          }));
}

TEST_P(ClientDeathTest, ReadDirtyLog) {
  using R = v1::ReadDirtyLogRequest;
  R request;
  request.set_memslot("vms/a/memslots/ram");
  LiveAndDie(1,
             ServerStream<R, v1::ReadDirtyLogResponse>(
                 request, [](Victim& v, const R& request) {
                   return v1::DirtyLogService::NewStub(v.channel)->ReadDirtyLog(
                       &v.context, request);
                 }));
}

TEST_P(ClientDeathTest, WatchEvents) {
  using R = v1::WatchEventsRequest;
  R request = OfVm<R>();
  request.set_start_sequence(1);
  // The second message would be the heartbeat.
  LiveAndDie(1, ServerStream<R, v1::WatchEventsResponse>(
                    request, [](Victim& v, const R& request) {
                      return v1::EventService::NewStub(v.channel)->WatchEvents(
                          &v.context, request);
                    }));
}

TEST_P(ClientDeathTest, WatchVmStats) {
  using R = v1::WatchVmStatsRequest;
  R request = OfVm<R>();
  request.mutable_interval()->set_nanos(10'000'000);
  LiveAndDie(3, ServerStream<R, v1::WatchVmStatsResponse>(
                    request, [](Victim& v, const R& request) {
                      return v1::StatsService::NewStub(v.channel)->WatchVmStats(
                          &v.context, request);
                    }));
}

TEST_P(ClientDeathTest, WatchWorkingSet) {
  using R = v1::WatchWorkingSetRequest;
  R request = OfVm<R>();
  request.mutable_interval()->set_nanos(100'000'000);
  // The fake gives one and then nothing.
  LiveAndDie(
      1,
      ServerStream<R, v1::WatchWorkingSetResponse>(
          request, [](Victim& v, const R& request) {
            return v1::WorkingSetService::NewStub(v.channel)->WatchWorkingSet(
                &v.context, request);
          }));
}

TEST_P(ClientDeathTest, HealthWatch) {
  using grpc::health::v1::Health;
  using R = grpc::health::v1::HealthCheckRequest;
  LiveAndDie(1, ServerStream<R, grpc::health::v1::HealthCheckResponse>(
                    R(), [](Victim& v, const R& request) {
                      return Health::NewStub(v.channel)->Watch(&v.context,
                                                               request);
                    }));
}

TEST_P(ClientDeathTest, WriteGuestMemory) {
  using R = v1::WriteGuestMemoryRequest;
  R request = OfVm<R>();
  request.set_data(std::string(10000, 'x'));
  LiveAndDie(
      3,
      ClientStream<R, v1::WriteGuestMemoryResponse>(
          request, [](Victim& v, auto* response) {
            return v1::GuestMemoryService::NewStub(v.channel)->WriteGuestMemory(
                &v.context, response);
          }));
}

TEST_P(ClientDeathTest, ClearDirtyLog) {
  using R = v1::ClearDirtyLogRequest;
  R request;
  request.set_memslot("vms/a/memslots/ram");
  request.mutable_dirty()->set_frame_count(64);
  request.mutable_dirty()->set_bits(std::string(8, '\xff'));
  LiveAndDie(
      3, ClientStream<R, v1::ClearDirtyLogResponse>(
             request, [](Victim& v, auto* response) {
               return v1::DirtyLogService::NewStub(v.channel)->ClearDirtyLog(
                   &v.context, response);
             }));
}

TEST_P(ClientDeathTest, StreamOperations) {
  using R = v1::StreamOperationsRequest;
  R request = OfVm<R>();
  for (uint64_t gfn = 0; gfn < 100; ++gfn) {
    request.add_operations()->set_walk_gfn(gfn);
    auto& map = *request.add_operations()->mutable_map()->mutable_range();
    map.set_start_gfn(gfn);
    map.set_end_gfn(gfn + 1);
    *request.add_operations()->mutable_zap()->mutable_range() = map;
  }
  LiveAndDie(
      5, BidiStream<R, v1::StreamOperationsResponse>(request, [](Victim& v) {
        return v1::MmuService::NewStub(v.channel)->StreamOperations(&v.context);
      }));
}

TEST_P(ClientDeathTest, ServerReflectionInfo) {
  using grpc::reflection::v1::ServerReflection;
  using R = grpc::reflection::v1::ServerReflectionRequest;
  R request;
  request.set_list_services("");
  LiveAndDie(3, BidiStream<R, grpc::reflection::v1::ServerReflectionResponse>(
                    request, [](Victim& v) {
                      return ServerReflection::NewStub(v.channel)
                          ->ServerReflectionInfo(&v.context);
                    }));
}

TEST_P(ClientDeathTest, WaitVcpu) {
  LiveAndDie(0, [this](Victim& victim) {
    DieInUnary(victim, [&] {
      v1::WaitVcpuRequest request;
      request.set_name("vms/a/vcpus/0");
      v1::WaitVcpuResponse response;
      return v1::VcpuService::NewStub(victim.channel)
          ->WaitVcpu(&victim.context, request, &response);
    });
  });
}

// On the fake the handler goes on until it notices.
TEST_P(ClientDeathTest, MapRange) {
  LiveAndDie(2, [this](Victim& victim) {
    HoldMaps();
    DieInUnary(victim, [&] {
      v1::MapRangeResponse response;
      return v1::MmuService::NewStub(victim.channel)
          ->MapRange(&victim.context, OfRange<v1::MapRangeRequest>(kFrames),
                     &response);
    });
  });
}

std::string NameOf(const testing::TestParamInfo<Param>& info) {
  static constexpr const char* kDeaths[] = {"Cancel", "CutOff", "HalfClose",
                                            "Deadline"};
  return absl::StrCat(kDeaths[static_cast<int>(info.param.death)],
                      info.param.engine == Engine::kFake ? "Fake" : "Real");
}

INSTANTIATE_TEST_SUITE_P(
    All, ClientDeathTest,
    testing::Values(Param{Death::kCancel, Engine::kFake},
                    Param{Death::kCutOff, Engine::kFake},
                    Param{Death::kHalfClose, Engine::kFake},
                    Param{Death::kDeadline, Engine::kFake},
                    Param{Death::kCancel, Engine::kReal},
                    Param{Death::kCutOff, Engine::kReal},
                    Param{Death::kHalfClose, Engine::kReal},
                    Param{Death::kDeadline, Engine::kReal}),
    NameOf);

}  // namespace
}  // namespace tdp::server
