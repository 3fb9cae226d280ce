#include "client/lib/connection.h"

namespace tdp::client {

absl::StatusOr<bool> Client::IsServing() {
  using grpc::health::v1::Health;
  using grpc::health::v1::HealthCheckResponse;
  const auto response =
      connection_->Unary(*connection_->health, &Health::Stub::Check,
                         grpc::health::v1::HealthCheckRequest());
  if (!response.ok()) return response.status();
  return response->status() == HealthCheckResponse::SERVING;
}

}  // namespace tdp::client
