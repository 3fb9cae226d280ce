// Any bytes are a policy or an error; a policy can be asked anything.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "server/access/policy_parser.h"

namespace {

using tdp::server::AccessPolicy;
using tdp::server::NameLookup;
using tdp::server::Role;

constexpr uid_t kOwn = 500;
constexpr uid_t kSomebody = 1000;

void Require(bool condition) {
  if (!condition) abort();
}

// Names of an even length exist.
std::optional<uint32_t> IdOf(const std::string& name) {
  if (name.size() % 2 != 0) return std::nullopt;
  return static_cast<uint32_t>(name.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<AccessPolicy> policy = tdp::server::ParsePolicy(
      text, "fuzz", kOwn, NameLookup{.user = IdOf, .group = IdOf});
  if (!policy.ok()) {
    Require(!policy.status().message().empty());
    return 0;
  }
  Require(policy->RoleOfProcess(0, 0, {}) == Role::kAdmin);
  Require(policy->RoleOfProcess(kOwn, 1, {2, 3}) == Role::kAdmin);
  // Without a line that names somebody, there is nobody.
  if (text.find("id:") == text.npos && text.find("user:") == text.npos &&
      text.find("group:") == text.npos) {
    Require(policy->RoleOfProcess(kSomebody, 1, {2, 3}) == Role::kNone);
  }
  for (const char* name : {"spiffe://td/a/b", "dns:node-7.example.com"}) {
    const Role role = policy->RoleOfCertificate({name});
    if (text.find(':') == text.npos) Require(role == Role::kNone);
  }
  policy->RoleOfLoopback();
  return 0;
}
