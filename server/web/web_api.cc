#include "server/web/web_api.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/errors.h"
#include "server/base/status_macros.h"
#include "server/convert/event_convert.h"
#include "server/convert/text.h"
#include "server/convert/working_set_convert.h"
#include "server/services/find_vm.h"
#include "server/web/charts.h"
#include "server/web/heatmap.h"
#include "server/web/json.h"
#include "server/web/query.h"
#include "tdp/v1/event_service.pb.h"
#include "tdp/v1/working_set_service.pb.h"

namespace tdp::server {
namespace {

constexpr int kReadAttempts = 4;
constexpr uint64_t kMaxSequence = std::numeric_limits<int64_t>::max();

HttpResponse JsonResponse(int status, std::string body) {
  return {.status = status,
          .content_type = "application/json",
          .body = std::move(body),
          .headers = {{"Referrer-Policy", "no-referrer"}}};
}

HttpResponse ErrorResponse(const absl::Status& status) {
  HttpResponse response = JsonResponse(HttpStatusOf(status), ErrorJson(status));
  if (response.status == 401) {
    response.headers.push_back({"WWW-Authenticate", "Bearer"});
  }
  return response;
}

absl::Status TokenError() {
  return MakeError(ErrorReason::kUnauthenticated,
                   "the token is missing or wrong; \"tdpctl web\" prints a "
                   "link with the right one");
}

// The sequence of the oldest event that is kept, if that is what `status` is
// about.
std::optional<int64_t> OldestSequence(const absl::Status& status) {
  const std::optional<ErrorDetail> detail = DetailOf(status);
  if (!detail.has_value() || detail->reason != ErrorReason::kEventsTruncated) {
    return std::nullopt;
  }
  for (const auto& [key, value] : detail->metadata) {
    int64_t sequence = 0;
    if (key == "oldestSequence" && absl::SimpleAtoi(value, &sequence)) {
      return sequence;
    }
  }
  return std::nullopt;
}

}  // namespace

HttpResponse WebApi::Answer(const HttpRequest& request) const {
  if (!token_.IsShownBy(request.authorization)) {
    return ErrorResponse(TokenError());
  }
  absl::StatusOr<std::string> json = Json(request);
  return json.ok() ? JsonResponse(200, *std::move(json))
                   : ErrorResponse(json.status());
}

absl::StatusOr<std::string> WebApi::Json(const HttpRequest& request) const {
  absl::string_view path = absl::StripPrefix(request.path, kWebApiPrefix);
  if (absl::ConsumePrefix(&path, "rpc/")) return Call(path, request.query);
  if (path == "events") return Events(request.query);
  if (path == "heatmap") return HeatmapOf(request.query);
  if (path == "workingSet") return WorkingSetOf(request.query);
  if (path == "charts") {
    TDP_RETURN_IF_ERROR(Query::Parse(request.query, {}).status());
    return RpcChartsJson(calls_);
  }
  return MakeError(ErrorReason::kResourceNotFound,
                   absl::StrCat(Shown(request.path), " is not served"),
                   {{"path", Shown(request.path)}});
}

absl::StatusOr<std::string> WebApi::Call(absl::string_view method,
                                         absl::string_view query_text) const {
  TDP_ASSIGN_OR_RETURN(const Query query,
                       Query::Parse(query_text, {"request"}));
  return bridge_.Call(method, query.Text("request"));
}

absl::StatusOr<std::string> WebApi::Events(absl::string_view query_text) const {
  TDP_ASSIGN_OR_RETURN(
      const Query query,
      Query::Parse(query_text, {"vm", "startSequence", "max"}));
  TDP_ASSIGN_OR_RETURN(const NamedVm vm,
                       FindVm(registry_, "vm", query.Text("vm")));
  TDP_ASSIGN_OR_RETURN(const uint64_t start,
                       query.Number("startSequence", 0, kMaxSequence, 0));
  TDP_ASSIGN_OR_RETURN(const uint64_t max,
                       query.Number("max", 1, kMaxWebEvents, kMaxWebEvents));
  absl::StatusOr<EventBatch> batch =
      vm->ReadEvents(static_cast<int64_t>(start), max);
  bool truncated = false;
  // Again if more events go while the oldest one is asked for.
  for (int i = 0; i < kReadAttempts && !batch.ok(); ++i) {
    const std::optional<int64_t> oldest = OldestSequence(batch.status());
    if (!oldest.has_value()) return batch.status();
    truncated = true;
    batch = vm->ReadEvents(*oldest, max);
  }
  if (!batch.ok()) return batch.status();
  v1::WatchEventsResponse events;
  for (const Event& event : batch->events) {
    ToProto(vm.id, event, events.add_events());
  }
  events.set_next_sequence(batch->next_sequence);
  TDP_ASSIGN_OR_RETURN(std::string json, ToJson(events));
  json.pop_back();  // of the object, which goes on
  return absl::StrCat(json, ",\"truncated\":", truncated ? "true" : "false",
                      "}");
}

absl::StatusOr<std::string> WebApi::HeatmapOf(
    absl::string_view query_text) const {
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  TDP_ASSIGN_OR_RETURN(
      const Query query,
      Query::Parse(query_text, {"vm", "firstGfn", "frameCount", "cellCount"}));
  TDP_ASSIGN_OR_RETURN(const NamedVm vm,
                       FindVm(registry_, "vm", query.Text("vm")));
  TDP_ASSIGN_OR_RETURN(const uint64_t first,
                       query.Number("firstGfn", 0, kMost, 0));
  TDP_ASSIGN_OR_RETURN(
      const uint64_t frames,
      query.Number("frameCount", 1,
                   std::min(kMost - first, kMaxHeatmapFrames)));
  TDP_ASSIGN_OR_RETURN(const uint64_t cells,
                       query.Number("cellCount", 1, kMaxHeatmapCells));
  TDP_ASSIGN_OR_RETURN(
      const Heatmap heatmap,
      MakeHeatmap(*vm.vm, {Gfn(first), Gfn(first + frames)}, cells));
  return absl::StrCat(
      "{\"firstGfn\":\"", heatmap.first_gfn.value(), "\",\"framesPerCell\":\"",
      heatmap.frames_per_cell, "\",\"cellCount\":", heatmap.cell_count,
      ",\"nextGfn\":\"", heatmap.next_gfn.value(), "\",\"cells\":\"",
      absl::Base64Escape(heatmap.cells), "\"}");
}

absl::StatusOr<std::string> WebApi::WorkingSetOf(
    absl::string_view query_text) const {
  TDP_ASSIGN_OR_RETURN(const Query query, Query::Parse(query_text, {"vm"}));
  TDP_ASSIGN_OR_RETURN(const NamedVm vm,
                       FindVm(registry_, "vm", query.Text("vm")));
  v1::EstimateWorkingSetResponse response;
  const std::optional<WorkingSet> newest = working_sets_.Of(*vm.vm);
  if (newest.has_value()) ToProto(*newest, response.mutable_working_set());
  return ToJson(response);
}

}  // namespace tdp::server
