// What the API's comments say of each method's role is what the server asks
// for.

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/access/access_policy.h"
#include "server/base/executor.h"
#include "server/rpc/rpc_server.h"
#include "server/services/services.h"
#include "server/testing/fake_vm_registry.h"

namespace tdp::server {
namespace {

constexpr char kProtos[] = "proto/tdp/v1";

using RoleByMethod = std::map<std::string, std::string>;

// "VmService.GetVm" to "observer"; a method with no such line, or more than
// one, to what stands there instead.
RoleByMethod DocumentedRoles(const std::string& proto) {
  RoleByMethod roles;
  std::string service;
  std::string comment_roles;
  for (absl::string_view line : absl::StrSplit(proto, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (absl::ConsumePrefix(&line, "service ")) {
      service = std::string(line.substr(0, line.find(' ')));
    } else if (absl::ConsumePrefix(&line, "// Role: ")) {
      absl::ConsumeSuffix(&line, ".");
      absl::StrAppend(&comment_roles, comment_roles.empty() ? "" : ",", line);
    } else if (absl::ConsumePrefix(&line, "rpc ")) {
      roles[absl::StrCat(service, ".", line.substr(0, line.find('(')))] =
          comment_roles.empty() ? "(no line \"Role: x.\")" : comment_roles;
      comment_roles.clear();
    } else if (!absl::StartsWith(line, "//")) {
      comment_roles.clear();
    }
  }
  return roles;
}

RoleByMethod DocumentedRoles() {
  RoleByMethod roles;
  for (const auto& entry : std::filesystem::directory_iterator(kProtos)) {
    std::ifstream file(entry.path());
    roles.merge(DocumentedRoles({std::istreambuf_iterator<char>(file), {}}));
  }
  return roles;
}

RoleByMethod RegisteredRoles() {
  Executor executor({.thread_count = 1, .max_queued = 1});
  FakeVmRegistry registry;
  Services services(registry, executor);
  RpcServer server({}, executor);
  services.AddTo(server);
  RoleByMethod roles;
  for (const MethodTraits& method : server.method_traits()) {
    const std::string role(RoleName(method.role));
    EXPECT_TRUE(roles.emplace(method.name, role).second ||
                roles[method.name] == role)
        << method.name;
  }
  return roles;
}

TEST(DocumentedRolesTest, EveryMethodAsksForTheRoleThatItsCommentNames) {
  RoleByMethod registered = RegisteredRoles();
  // Open to whoever may connect, and not of this API.
  for (const char* open : {"(unknown)", "Health.Check", "Health.Watch",
                           "ServerReflection.ServerReflectionInfo"}) {
    EXPECT_EQ(registered[open], "none") << open;
    registered.erase(open);
  }
  EXPECT_THAT(registered, testing::ContainerEq(DocumentedRoles()));
  EXPECT_GT(registered.size(), 40u);
}

TEST(DocumentedRolesTest, AMethodWithoutARoleIsNoticed) {
  const RoleByMethod roles = DocumentedRoles(
      "service A {\n  // Role: admin.\n  rpc X(R) returns (S);\n"
      "  // Nothing.\n  rpc Y(R) returns (S);\n"
      "  // Role: none.\n  // Role: observer.\n  rpc Z(R) returns (S);\n}\n");
  EXPECT_EQ(roles.at("A.X"), "admin");
  EXPECT_EQ(roles.at("A.Y"), "(no line \"Role: x.\")");
  EXPECT_EQ(roles.at("A.Z"), "none,observer");
}

}  // namespace
}  // namespace tdp::server
