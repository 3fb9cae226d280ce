#include "client/lib/mmu_operation.h"

#include <string>

#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using ::testing::HasSubstr;

void ExpectParses(const std::string& text, const std::string& expected_text) {
  v1::MmuOperation expected;
  ASSERT_TRUE(
      google::protobuf::TextFormat::ParseFromString(expected_text, &expected));
  const auto operation = ParseMmuOperation(text);
  ASSERT_TRUE(operation.ok()) << operation.status();
  EXPECT_TRUE(
      google::protobuf::util::MessageDifferencer::Equals(*operation, expected))
      << text << " gives " << operation->ShortDebugString();
}

TEST(MmuOperationTest, EachVerbTakesARange) {
  ExpectParses("zap:0..4K", "zap { range { start_gfn: 0 end_gfn: 1 } }");
  ExpectParses("zap:1M+8K",
               "zap { range { start_gfn: 0x100 end_gfn: 0x102 } }");
  ExpectParses("zap:gfn:3..5", "zap { range { start_gfn: 3 end_gfn: 5 } }");
  ExpectParses("map:0..4K", "map { range { start_gfn: 0 end_gfn: 1 } }");
  ExpectParses("write-protect:0..4K",
               "write_protect { range { start_gfn: 0 end_gfn: 1 } }");
}

TEST(MmuOperationTest, ProtectNamesItsAccess) {
  const std::string range = "range { start_gfn: 3 end_gfn: 5 }";
  ExpectParses("protect:gfn:3..5:none", "protect { " + range + " access {} }");
  ExpectParses("protect:gfn:3..5:read",
               "protect { " + range + " access { read: true } }");
  ExpectParses("protect:0x3000..0x5000:read-write",
               "protect { " + range + " access { read: true write: true } }");
}

TEST(MmuOperationTest, OptionsComeInAnyOrder) {
  const std::string range = "range { start_gfn: 0 end_gfn: 512 }";
  const std::string full =
      "map { " + range + " write: true max_level: PAGE_LEVEL_2M }";
  ExpectParses("map:0..2M:write:2M", full);
  ExpectParses("map:gfn:0..512:2m:write", full);
  ExpectParses("map:0..2M:4K",
               "map { " + range + " max_level: PAGE_LEVEL_4K }");
  ExpectParses("write-protect:0..2M:1g",
               "write_protect { " + range + " min_level: PAGE_LEVEL_1G }");
}

TEST(MmuOperationTest, EachMistakeHasItsSentence) {
  const struct {
    const char* text;
    const char* sentence;
  } cases[] = {
      {"", "\"\" is no operation; write zap:RANGE, protect:RANGE"},
      {"zap", "\"zap\" has no range; write zap:RANGE"},
      {"zap:", "\"zap:\" has no range"},
      {"zap::read", "has no range"},
      {"unmap:0..4K", "\"unmap:0..4K\" is no operation"},
      {"0..4K", "is no operation"},
      {"ZAP:0..4K", "is no operation"},
      {"zap:4K", "\"zap:4K\": \"4K\" is no range"},
      {"zap:0x100-0x200", "\"0x100-0x200\" is no range"},
      {"zap:8K..4K", "ends before it starts"},
      {"zap:1..4K", "start that is not 4K aligned"},
      {"zap:gfn:", "\"gfn:\" is no range"},
      {"zap:0..4K:read", "\"zap:0..4K:read\" says too much; write zap:RANGE"},
      {"zap:0..4K:", "says too much"},
      {"protect:0..4K", "names no access; write protect:RANGE:none|read|"},
      {"protect:0..4K:write", "names no access that there is; write protect"},
      {"protect:0..4K:", "names no access that there is"},
      {"protect:0..4K:read:write", "says too much"},
      {"write-protect:0..4K:512G", "names no level of 4K|2M|1G"},
      {"write-protect:0..4K:2M:4K", "says too much"},
      {"map:0..4K:read", "has \"read\", which is none of write|4K|2M;"},
      {"map:0..1G:1G", "has \"1G\", which is none of write|4K|2M; write map"},
      {"map:0..4K:", "has \"\", which is none of"},
      {"map:0..4K:write:write", "says write twice; write map:RANGE"},
      {"map:0..4K:4K:2M", "names two levels"},
  };
  for (const auto& c : cases) {
    const absl::Status status = ParseMmuOperation(c.text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.sentence));
  }
}

TEST(MmuOperationTest, AccessesStandAlone) {
  EXPECT_TRUE(ParseAccess("read-write")->write());
  EXPECT_FALSE(ParseAccess("read")->write());
  EXPECT_FALSE(ParseAccess("none")->read());
  EXPECT_EQ(ParseAccess("rw").status().message(),
            "\"rw\" is none of none|read|read-write");
}

}  // namespace
}  // namespace tdp::client
