#include "server/access/access_policy.h"

#include <string>

#include "gtest/gtest.h"

namespace tdp::server {
namespace {

constexpr uid_t kOwn = 500;
constexpr uid_t kSomebody = 1000;
constexpr gid_t kUsers = 100;
constexpr gid_t kStaff = 50;

TEST(AccessPolicyTest, LetsInRootAndTheOwnUserAndNobodyElse) {
  const AccessPolicy policy(kOwn);
  EXPECT_EQ(policy.RoleOfProcess(0, 0, {}), Role::kAdmin);
  EXPECT_EQ(policy.RoleOfProcess(kOwn, kUsers, {}), Role::kAdmin);
  EXPECT_EQ(policy.RoleOfProcess(kSomebody, 0, {0}), Role::kNone)
      << "root's group is not root";
  EXPECT_EQ(policy.RoleOfCertificate({"spiffe://td/a"}), Role::kNone);
  EXPECT_EQ(policy.RoleOfLoopback(), Role::kAdmin);
}

TEST(AccessPolicyTest, TheHighestRoleOfAllLinesHolds) {
  AccessPolicy policy(kOwn);
  policy.GrantUser(kSomebody, Role::kObserver);
  policy.GrantGroup(kStaff, Role::kOperator);
  EXPECT_EQ(policy.RoleOfProcess(kSomebody, kUsers, {}), Role::kObserver);
  EXPECT_EQ(policy.RoleOfProcess(kSomebody, kStaff, {}), Role::kOperator);
  EXPECT_EQ(policy.RoleOfProcess(kSomebody, kUsers, {7, kStaff}),
            Role::kOperator);
  EXPECT_EQ(policy.RoleOfProcess(kSomebody + 1, kUsers, {kStaff}),
            Role::kOperator);
  EXPECT_EQ(policy.RoleOfProcess(kSomebody + 1, kUsers, {}), Role::kNone);
}

TEST(AccessPolicyTest, NoneTakesEveryRoleAway) {
  AccessPolicy policy(kOwn);
  policy.GrantUser(kSomebody, Role::kNone);
  policy.GrantUser(kSomebody, Role::kAdmin);
  policy.GrantGroup(kStaff, Role::kOperator);
  EXPECT_EQ(policy.RoleOfProcess(kSomebody, kStaff, {}), Role::kNone);
  policy.GrantGroup(kStaff, Role::kNone);
  EXPECT_EQ(policy.RoleOfProcess(kSomebody + 1, kStaff, {}), Role::kNone);
  EXPECT_EQ(policy.RoleOfProcess(0, kStaff, {kStaff}), Role::kAdmin)
      << "root is admin whatever its groups";
  EXPECT_EQ(policy.RoleOfProcess(kOwn, kStaff, {}), Role::kAdmin);
}

TEST(AccessPolicyTest, ACertificateHasTheRoleOfAllItsNames) {
  AccessPolicy policy(kOwn);
  policy.GrantSan(SanPattern("dns:a.example"), Role::kObserver);
  policy.GrantSan(SanPattern("dns:b*.example"), Role::kOperator);
  policy.GrantSan(SanPattern("dns:bad.example"), Role::kNone);
  EXPECT_EQ(policy.RoleOfCertificate({"dns:a.example"}), Role::kObserver);
  EXPECT_EQ(policy.RoleOfCertificate({"dns:b7.example"}), Role::kOperator);
  EXPECT_EQ(policy.RoleOfCertificate({"dns:a.example", "dns:b.example"}),
            Role::kOperator);
  EXPECT_EQ(policy.RoleOfCertificate({"dns:b.example", "dns:bad.example"}),
            Role::kNone);
  EXPECT_EQ(policy.RoleOfCertificate({"dns:c.example"}), Role::kNone);
  EXPECT_EQ(policy.RoleOfCertificate({}), Role::kNone);
}

TEST(AccessPolicyTest, LoopbackHasTheRoleThatALineGives) {
  AccessPolicy policy(kOwn);
  policy.GrantLoopback(Role::kObserver);
  EXPECT_EQ(policy.RoleOfLoopback(), Role::kObserver);
  policy.GrantLoopback(Role::kOperator);
  EXPECT_EQ(policy.RoleOfLoopback(), Role::kOperator);
  policy.GrantLoopback(Role::kNone);
  EXPECT_EQ(policy.RoleOfLoopback(), Role::kNone);
}

TEST(AccessPolicyTest, RolesHaveNames) {
  for (const Role role :
       {Role::kNone, Role::kObserver, Role::kOperator, Role::kAdmin}) {
    EXPECT_EQ(RoleOfName(RoleName(role)), role);
  }
  EXPECT_EQ(RoleName(Role::kOperator), "operator");
  EXPECT_EQ(RoleOfName("Admin"), std::nullopt);
  EXPECT_EQ(RoleOfName(""), std::nullopt);
}

}  // namespace
}  // namespace tdp::server
