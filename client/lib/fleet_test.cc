#include "client/lib/fleet.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<std::vector<std::string>> TwoNodes(const std::string& host) {
  if (host != "tdpd.nodes") return absl::NotFoundError("cannot resolve");
  return std::vector<std::string>{"10.0.0.7", "fd00::7"};
}

std::vector<std::string> Addresses(const Target& target) {
  const auto targets = ExpandTarget(target, TwoNodes);
  EXPECT_TRUE(targets.ok()) << targets.status();
  std::vector<std::string> addresses;
  if (targets.ok()) {
    for (const Target& one : *targets) addresses.push_back(one.address);
  }
  return addresses;
}

std::string ErrorOf(const std::string& address) {
  return std::string(
      ExpandTarget({.address = address}, TwoNodes).status().message());
}

TEST(FleetTest, OneTargetStaysAsItIs) {
  EXPECT_THAT(Addresses({.address = "unix:/run/a"}),
              ElementsAre("unix:/run/a"));
  EXPECT_THAT(Addresses({.address = "node:7443"}), ElementsAre("node:7443"));
}

TEST(FleetTest, AListHasOneTargetForEachDaemon) {
  EXPECT_THAT(Addresses({.address = "unix:/run/a,node:7443"}),
              ElementsAre("unix:/run/a", "node:7443"));
}

TEST(FleetTest, ANameStandsForAllItsAddressesAndItsCertificatesCarryIt) {
  EXPECT_THAT(Addresses({.address = "dns:///tdpd.nodes:7443"}),
              ElementsAre("10.0.0.7:7443", "[fd00::7]:7443"));
  const auto targets =
      ExpandTarget({.address = "dns:///tdpd.nodes:7443"}, TwoNodes);
  ASSERT_TRUE(targets.ok());
  EXPECT_EQ(targets->front().tls_name, "tdpd.nodes");
  const auto named = ExpandTarget(
      {.address = "dns:///tdpd.nodes:7443", .tls_name = "other"}, TwoNodes);
  ASSERT_TRUE(named.ok());
  EXPECT_EQ(named->front().tls_name, "other");
}

TEST(FleetTest, EachPartOfAListIsChecked) {
  EXPECT_THAT(ErrorOf("unix:/run/a,"), HasSubstr("neither unix:PATH"));
  EXPECT_THAT(ErrorOf("unix:/run/a,node"), HasSubstr("\"node\""));
  EXPECT_THAT(ErrorOf("dns:///tdpd.nodes"), HasSubstr("needs a port"));
  EXPECT_THAT(ErrorOf("dns:///gone:1"), HasSubstr("cannot resolve"));
}

TEST(FleetTest, TheSystemResolvesALoopbackName) {
  const auto addresses = ResolveHost("127.0.0.1");
  ASSERT_TRUE(addresses.ok()) << addresses.status();
  EXPECT_THAT(*addresses, ElementsAre("127.0.0.1"));
}

}  // namespace
}  // namespace tdp::client
