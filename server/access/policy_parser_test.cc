#include "server/access/policy_parser.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/limits.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::server {
namespace {

using testing::HasSubstr;

constexpr uid_t kOwn = 500;

NameLookup FakeNames() {
  return {
      .user = [](const std::string& name) -> std::optional<uid_t> {
        if (name == "root") return 0;
        if (name == "tdpd") return kOwn;
        if (name == "bob") return 1000;
        return std::nullopt;
      },
      .group = [](const std::string& name) -> std::optional<gid_t> {
        if (name == "staff") return 50;
        return std::nullopt;
      },
  };
}

absl::StatusOr<AccessPolicy> Parse(absl::string_view text) {
  return ParsePolicy(text, "p.policy", kOwn, FakeNames());
}

std::string Refusal(absl::string_view text) {
  return std::string(Parse(text).status().message());
}

TEST(PolicyParserTest, ReadsEveryKindOfLine) {
  const auto policy = Parse(
      "# who may call\n"
      "\n"
      "observer\tuid:1001   # a comment\r\n"
      "  operator user:bob\n"
      "observer gid:60\n"
      "operator group:staff#and more\n"
      "admin spiffe://td/ops/**\n"
      "observer dns:*.example\n"
      "none dns:bad.example\n"
      "operator loopback");
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_EQ(policy->RoleOfProcess(1001, 1, {}), Role::kObserver);
  EXPECT_EQ(policy->RoleOfProcess(1000, 1, {}), Role::kOperator);
  EXPECT_EQ(policy->RoleOfProcess(7, 60, {}), Role::kObserver);
  EXPECT_EQ(policy->RoleOfProcess(7, 60, {50}), Role::kOperator);
  EXPECT_EQ(policy->RoleOfCertificate({"spiffe://td/ops/a"}), Role::kAdmin);
  EXPECT_EQ(policy->RoleOfCertificate({"dns:good.example"}), Role::kObserver);
  EXPECT_EQ(policy->RoleOfCertificate({"dns:bad.example"}), Role::kNone);
  EXPECT_EQ(policy->RoleOfLoopback(), Role::kOperator);
}

TEST(PolicyParserTest, NothingLetsInWhomTheDefaultLetsIn) {
  for (const char* text : {"", "\n", "# nothing", "\n\n \t\r\n"}) {
    const auto policy = Parse(text);
    ASSERT_TRUE(policy.ok()) << policy.status();
    EXPECT_EQ(policy->RoleOfProcess(0, 0, {}), Role::kAdmin);
    EXPECT_EQ(policy->RoleOfProcess(kOwn, 1, {}), Role::kAdmin);
    EXPECT_EQ(policy->RoleOfProcess(1000, 1, {}), Role::kNone);
  }
}

TEST(PolicyParserTest, AMistakeIsShownWithItsPlaceAndWhatIsAllowed) {
  const struct {
    const char* text;
    const char* place;
    const char* rule;
  } kCases[] = {
      {"\n\n  root uid:1", "line 3, column 3: \"root\"",
       "begins with observer"},
      {"ADMIN uid:1", "line 1, column 1: \"ADMIN\"", "begins with observer"},
      {"admin", "line 1, column 6: ", "uid:N, user:NAME, gid:N"},
      {"admin # uid:1", "line 1, column 6: ", "whom a line names"},
      {"admin bob", "line 1, column 7: \"bob\"", "whom a line names"},
      {"admin *", "column 7: \"*\"", "whom a line names"},
      {"admin uid:1 uid:2", "column 13: \"uid:2\"", "has two words"},
      {"admin uid:", "column 11: \"uid:\"", "0 to 4294967294"},
      {"admin uid:-1", "column 11", "0 to 4294967294"},
      {"admin uid:1x", "column 11", "0 to 4294967294"},
      {"admin uid:4294967295", "column 11", "0 to 4294967294"},
      {"admin uid:4294967296", "column 11", "0 to 4294967294"},
      {"admin gid:+1", "column 11", "0 to 4294967294"},
      {"admin user:eve", "column 12: \"user:eve\"", "no user of this name"},
      {"admin group:", "column 13", "no group of this name"},
      {"observer uid:0", "column 10", "root is admin always"},
      {"none user:root", "column 6", "root is admin always"},
      {"none uid:500", "column 6", "user whom the daemon runs as"},
      {"admin dns:a..b", "column 13: \"dns:a..b\"", "label of a host name"},
      {"admin spiffe://*/a", "column 16", "trust domain takes no *"},
      {"admin spiffe://td/**/x", "column 20", "after its last /"},
      {"admin \x01", "column 7: ", "whom a line names"},
  };
  for (const auto& c : kCases) {
    const std::string message = Refusal(c.text);
    EXPECT_THAT(message, HasSubstr("policy file p.policy, line ")) << c.text;
    EXPECT_THAT(message, HasSubstr(c.place)) << c.text;
    EXPECT_THAT(message, HasSubstr(c.rule)) << c.text;
  }
}

TEST(PolicyParserTest, RootAndTheOwnUserMayBeNamedAsWhatTheyAre) {
  EXPECT_TRUE(Parse("admin uid:0\nadmin user:tdpd\nadmin uid:500").ok());
  EXPECT_TRUE(Parse("admin uid:4294967294").ok());
}

TEST(PolicyParserTest, SizeAndLinesAndPatternsHaveLimits) {
  std::string lines;
  for (int i = 0; i < limits::kMaxPolicyLines; ++i) lines += "admin uid:7\n";
  EXPECT_TRUE(Parse(lines).ok());
  EXPECT_THAT(Refusal(lines + "#"), HasSubstr("more than 4096 lines"));

  std::string patterns;
  for (int i = 0; i < limits::kMaxPolicyPatterns; ++i) {
    patterns += absl::StrCat("admin dns:*.n", i, "\nadmin dns:n", i, "\n");
  }
  EXPECT_TRUE(Parse(patterns).ok());
  EXPECT_THAT(Refusal(patterns + "admin dns:*"),
              HasSubstr("at most 256 lines with a *"));

  const std::string bytes(limits::kMaxPolicyBytes, '#');
  EXPECT_TRUE(Parse(bytes).ok());
  EXPECT_THAT(Refusal(bytes + "#"), HasSubstr("more than 262144 bytes"));
}

TEST(PolicyParserTest, TheSystemKnowsItsRoot) {
  const NameLookup names = SystemNames();
  EXPECT_EQ(names.user("root"), std::optional<uid_t>(0));
  EXPECT_EQ(names.group("root"), std::optional<gid_t>(0));
  EXPECT_EQ(names.user("no such user"), std::nullopt);
  EXPECT_EQ(names.group("no such group"), std::nullopt);
}

}  // namespace
}  // namespace tdp::server
