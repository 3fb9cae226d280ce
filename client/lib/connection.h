// What stands behind Client: the channel with its stubs, and the shapes of
// calls. Only Client's own source files include it.
//
// Thread safety: any thread, as Client.

#ifndef CLIENT_LIB_CONNECTION_H_
#define CLIENT_LIB_CONNECTION_H_

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/lib/call_error.h"
#include "client/lib/client.h"
#include "client/lib/effect.h"
#include "client/lib/ranged_call.h"
#include "client/lib/resume.h"
#include "client/lib/retry.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tdp/v1/dirty_log_service.grpc.pb.h"
#include "tdp/v1/event_service.grpc.pb.h"
#include "tdp/v1/guest_memory_service.grpc.pb.h"
#include "tdp/v1/info_service.grpc.pb.h"
#include "tdp/v1/memslot_service.grpc.pb.h"
#include "tdp/v1/mmu_service.grpc.pb.h"
#include "tdp/v1/stats_service.grpc.pb.h"
#include "tdp/v1/vcpu_service.grpc.pb.h"
#include "tdp/v1/vm_service.grpc.pb.h"
#include "tdp/v1/working_set_service.grpc.pb.h"

namespace tdp::client {

inline constexpr int kListPageSize = 1000;
inline constexpr size_t kWriteChunkBytes = size_t{256} << 10;

class Client::Connection {
 public:
  Connection(std::string address, ClientOptions options,
             const std::shared_ptr<grpc::Channel>& channel)
      : health(grpc::health::v1::Health::NewStub(channel)),
        info(v1::InfoService::NewStub(channel)),
        vm(v1::VmService::NewStub(channel)),
        memslot(v1::MemslotService::NewStub(channel)),
        vcpu(v1::VcpuService::NewStub(channel)),
        mmu(v1::MmuService::NewStub(channel)),
        dirty_log(v1::DirtyLogService::NewStub(channel)),
        stats(v1::StatsService::NewStub(channel)),
        event(v1::EventService::NewStub(channel)),
        memory(v1::GuestMemoryService::NewStub(channel)),
        working_set(v1::WorkingSetService::NewStub(channel)),
        address_(std::move(address)),
        options_(std::move(options)),
        channel_(channel) {}

  void SetDefaultTimeout(absl::Duration timeout) { default_timeout_ = timeout; }

  // The same connection with an end for every call.
  std::unique_ptr<Connection> WithDeadline(absl::Time deadline) const {
    ClientOptions options = options_;
    options.deadline = std::min(options.deadline, deadline);
    auto result =
        std::make_unique<Connection>(address_, std::move(options), channel_);
    result->default_timeout_ = default_timeout_;
    return result;
  }

  // The request with a `request_id`, so that it may be repeated.
  template <typename Request>
  Request Repeatable(Request request) const {
    if (options_.retry.max_tries > 1 && !request.validate_only() &&
        request.request_id().empty()) {
      request.set_request_id(NewRequestId());
    }
    return request;
  }

  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Unary(
      Stub& stub,
      grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                   Response*),
      const Request& request) {
    Retries retries = NewRetries(options_.timeout.value_or(default_timeout_));
    // gRPC may still send what is too late.
    if (retries.remaining() <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError("the deadline has passed");
    }
    absl::Status error;
    do {
      grpc::ClientContext context;
      SetTimeout(context, retries.remaining());
      Response response;
      const grpc::Status status = (stub.*method)(&context, request, &response);
      if (status.ok()) return response;
      error = ToStatus(status);
    } while (retries.WaitForNextTry(error, EffectOf(request)));
    return retries.Final(error);
  }

  // Calls a ranged method until the end of the range. `count` and `set_count`
  // access the field of its responses that is summed.
  template <typename Stub, typename Request, typename Response, typename Count,
            typename SetCount>
  absl::StatusOr<Response> SumRange(
      Stub& stub,
      grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                   Response*),
      const Request& request, Count count, SetCount set_count,
      OnFrame on_frame) {
    Response sum;
    const absl::Status status = CallUntilEnd(
        request, [&](const Request& part) { return Unary(stub, method, part); },
        [&](const Response& part) {
          sum.set_next_gfn(part.next_gfn());
          (sum.*set_count)((sum.*count)() + (part.*count)());
          on_frame(part.next_gfn());
        });
    if (!status.ok()) return status;
    return sum;
  }

  // Joins the pages of a list; `items` names its repeated field.
  template <typename Stub, typename Request, typename Response, typename Items>
  absl::StatusOr<Response> List(
      Stub& stub,
      grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                   Response*),
      Request request, Items items) {
    Response all;
    request.set_page_size(kListPageSize);
    do {
      auto page = Unary(stub, method, request);
      if (!page.ok()) return page.status();
      for (auto& item : *items(*page)) *items(all)->Add() = std::move(item);
      request.set_page_token(page->next_page_token());
    } while (!request.page_token().empty());
    return all;
  }

  // Delivers what a stream of answers has, over as many streams as it takes.
  // `advance(response, request)` moves the request behind a response.
  template <typename Stub, typename Request, typename Response,
            typename AdvanceFn>
  absl::Status Stream(Stub& stub,
                      std::unique_ptr<grpc::ClientReader<Response>> (
                          Stub::*method)(grpc::ClientContext*, const Request&),
                      Request request, OnMessage<Response> on_message,
                      AdvanceFn advance) {
    Retries retries = NewRetries(StreamTimeout());
    AfterBreak after_break = AfterBreak::kGoOn;
    absl::Status error;
    do {
      grpc::ClientContext context;
      SetTimeout(context, retries.remaining());
      const auto reader = (stub.*method)(&context, request);
      Response response;
      while (reader->Read(&response)) {
        retries.NoteProgress();
        after_break = advance(response, request);
        if (on_message(response)) continue;
        context.TryCancel();
        while (reader->Read(&response)) {
        }
        reader->Finish();
        return absl::OkStatus();
      }
      const grpc::Status status = reader->Finish();
      if (status.ok()) return absl::OkStatus();
      error = ToStatus(status);
      if (after_break == AfterBreak::kCannot) break;
      if (after_break == AfterBreak::kComplete &&
          AdviceOf(error) != Advice::kGiveUp) {
        return absl::OkStatus();
      }
    } while (retries.WaitForNextTry(error, Effect::kIdempotent));
    return retries.Final(error);
  }
  template <typename Stub, typename Request, typename Response>
  absl::Status Stream(Stub& stub,
                      std::unique_ptr<grpc::ClientReader<Response>> (
                          Stub::*method)(grpc::ClientContext*, const Request&),
                      const Request& request, OnMessage<Response> on_message) {
    return Stream(stub, method, request, on_message,
                  [](const Response& response, Request& next) {
                    return Advance(response, next);
                  });
  }

  // Sends each request that `fill` makes of the one before, until it gives
  // false.
  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Upload(Stub& stub,
                                  std::unique_ptr<grpc::ClientWriter<Request>> (
                                      Stub::*method)(grpc::ClientContext*,
                                                     Response*),
                                  absl::FunctionRef<bool(Request&)> fill) {
    grpc::ClientContext context;
    SetTimeout(context, NewRetries(StreamTimeout()).remaining());
    Response response;
    const auto writer = (stub.*method)(&context, &response);
    Request request;
    bool open = true;
    while (open && fill(request)) open = writer->Write(request);
    if (open) writer->WritesDone();
    const grpc::Status status = writer->Finish();
    if (!status.ok()) return ToStatus(status);
    return response;
  }

  absl::StatusOr<v1::WriteGuestMemoryResponse> Write(const std::string& vm_name,
                                                     uint64_t gpa,
                                                     std::istream& bytes,
                                                     OnBytes on_bytes) {
    grpc::ClientContext context;
    SetTimeout(context, NewRetries(StreamTimeout()).remaining());
    v1::WriteGuestMemoryResponse response;
    const auto writer = memory->WriteGuestMemory(&context, &response);
    v1::WriteGuestMemoryRequest request;
    request.set_vm(vm_name);
    request.set_gpa(gpa);
    bool open = true;
    do {
      std::string& data = *request.mutable_data();
      data.resize(kWriteChunkBytes);
      bytes.read(data.data(), data.size());
      data.resize(bytes.gcount());
      if (bytes.bad()) {
        context.TryCancel();
        writer->Finish();
        return absl::DataLossError("the input could not be read to its end");
      }
      open = writer->Write(request);
      request.set_gpa(request.gpa() + data.size());
      request.clear_vm();
      on_bytes(request.gpa() - gpa);
    } while (open && bytes);
    if (open) writer->WritesDone();
    const grpc::Status status = writer->Finish();
    if (!status.ok()) return ToStatus(status);
    return response;
  }

  absl::Status StreamOperations(
      absl::FunctionRef<bool(v1::StreamOperationsRequest&)> fill,
      OnMessage<v1::StreamOperationsResponse> on_answer, int window);

  const std::unique_ptr<grpc::health::v1::Health::Stub> health;
  const std::unique_ptr<v1::InfoService::Stub> info;
  const std::unique_ptr<v1::VmService::Stub> vm;
  const std::unique_ptr<v1::MemslotService::Stub> memslot;
  const std::unique_ptr<v1::VcpuService::Stub> vcpu;
  const std::unique_ptr<v1::MmuService::Stub> mmu;
  const std::unique_ptr<v1::DirtyLogService::Stub> dirty_log;
  const std::unique_ptr<v1::StatsService::Stub> stats;
  const std::unique_ptr<v1::EventService::Stub> event;
  const std::unique_ptr<v1::GuestMemoryService::Stub> memory;
  const std::unique_ptr<v1::WorkingSetService::Stub> working_set;

 private:
  absl::Duration StreamTimeout() const {
    return options_.timeout.value_or(absl::InfiniteDuration());
  }

  Retries NewRetries(absl::Duration timeout) const {
    return Retries(options_.retry, options_.clock,
                   std::min(options_.deadline, options_.clock.now() + timeout));
  }

  static void SetTimeout(grpc::ClientContext& context, absl::Duration timeout) {
    if (timeout == absl::InfiniteDuration()) return;
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  }

  absl::Status ToStatus(const grpc::Status& status) const {
    if (status.error_code() == grpc::StatusCode::UNAVAILABLE &&
        absl::StartsWith(status.error_message(), "failed to connect")) {
      return NobodyListensError(absl::StrCat(
          "cannot reach tdpd at ", address_, " (", status.error_message(),
          "); start it, ",
          absl::StartsWith(address_, "unix:") ? "" : "check the TLS flags, ",
          "or name another with --target or TDPD_TARGET"));
    }
    return MakeCallError(status.error_code(), status.error_message(),
                         status.error_details());
  }

  const std::string address_;
  const ClientOptions options_;
  const std::shared_ptr<grpc::Channel> channel_;
  absl::Duration default_timeout_ = kDefaultTimeout;
};

}  // namespace tdp::client

#endif  // CLIENT_LIB_CONNECTION_H_
