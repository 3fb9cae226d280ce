#include "server/services/health_service.h"

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "server/convert/text.h"

namespace tdp::server {
namespace {

using Response = HealthHandler::Response;

Response::ServingStatus StatusNow(const CallContext& context) {
  return context.draining() ? Response::NOT_SERVING : Response::SERVING;
}

class HealthSource final : public StreamSource<Response> {
 public:
  explicit HealthSource(bool known) : known_(known) {}

  absl::StatusOr<StreamStep> Next(CallContext& context,
                                  Response* message) override {
    const Response::ServingStatus status =
        known_ ? StatusNow(context) : Response::SERVICE_UNKNOWN;
    if (status != last_sent_) {
      last_sent_ = status;
      message->set_status(status);
      return StreamStep::Send();
    }
    if (context.draining()) return DrainingError();
    return StreamStep::Park();
  }

 private:
  const bool known_;
  Response::ServingStatus last_sent_ = Response::UNKNOWN;  // never sent
};

}  // namespace

void HealthHandler::SetServices(const std::vector<std::string>& service_names) {
  services_ = {service_names.begin(), service_names.end()};
}

absl::Status HealthHandler::Check(CallContext& context, const Request& request,
                                  Response* response) {
  if (!IsKnown(request.service())) {
    const std::string name = Shown(request.service());
    return MakeError(ErrorReason::kResourceNotFound,
                     absl::StrCat("no service here is named ", name,
                                  "; server reflection lists what there is"),
                     {{"resource", name}});
  }
  response->set_status(StatusNow(context));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<StreamSource<Response>>> HealthHandler::Watch(
    CallContext&, const Request& request) {
  return std::make_unique<HealthSource>(IsKnown(request.service()));
}

}  // namespace tdp::server
