#include "server/access/access_policy.h"

#include <algorithm>
#include <utility>

namespace tdp::server {
namespace {

constexpr std::pair<absl::string_view, Role> kRoles[] = {
    {"none", Role::kNone},
    {"observer", Role::kObserver},
    {"operator", Role::kOperator},
    {"admin", Role::kAdmin},
};

}  // namespace

absl::string_view RoleName(Role role) {
  return kRoles[static_cast<int>(role)].first;
}

std::optional<Role> RoleOfName(absl::string_view name) {
  for (const auto& [role_name, role] : kRoles) {
    if (role_name == name) return role;
  }
  return std::nullopt;
}

void AccessPolicy::Grant::Add(Role role) {
  if (role == Role::kNone) is_denied = true;
  highest = std::max(highest, role);
}

void AccessPolicy::Grant::Add(const Grant& other) {
  is_denied = is_denied || other.is_denied;
  highest = std::max(highest, other.highest);
}

void AccessPolicy::GrantLoopback(Role role) {
  names_loopback_ = true;
  loopback_.Add(role);
}

void AccessPolicy::GrantSan(SanPattern pattern, Role role) {
  if (pattern.is_literal()) {
    names_[pattern.text()].Add(role);
  } else {
    patterns_.push_back({std::move(pattern), role});
  }
}

Role AccessPolicy::RoleOfProcess(uid_t user, gid_t group,
                                 absl::Span<const gid_t> supplementary) const {
  if (IsAlwaysAdmin(user)) return Role::kAdmin;
  Grant grant;
  const auto of_user = users_.find(user);
  if (of_user != users_.end()) grant.Add(of_user->second);
  const auto add_group = [&](gid_t id) {
    const auto found = groups_.find(id);
    if (found != groups_.end()) grant.Add(found->second);
  };
  if (!groups_.empty()) {
    add_group(group);
    for (const gid_t id : supplementary) add_group(id);
  }
  return grant.role();
}

Role AccessPolicy::RoleOfCertificate(
    absl::Span<const std::string> names) const {
  Grant grant;
  for (const std::string& name : names) {
    const auto found = names_.find(name);
    if (found != names_.end()) grant.Add(found->second);
    for (const PatternGrant& line : patterns_) {
      if (line.pattern.Matches(name)) grant.Add(line.role);
    }
  }
  return grant.role();
}

Role AccessPolicy::RoleOfLoopback() const {
  return names_loopback_ ? loopback_.role() : Role::kAdmin;
}

}  // namespace tdp::server
