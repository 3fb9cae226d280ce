#include "engine/base/errors.h"

#include <cerrno>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

constexpr int kLastReason = static_cast<int>(ErrorReason::kGranuleUnsupported);

// Path of error.proto, the first argument.
std::string* error_proto = nullptr;

struct ProtoReason {
  std::string code;
  std::string name;
  int number = 0;
};

// The values of the enum ErrorReason, but for UNSPECIFIED, read as text: the
// engine must not link the API.
std::vector<ProtoReason> ReadProtoReasons() {
  const std::regex code_line(R"(^\s*// \[([A-Z_]+)\].*)");
  const std::regex value_line(R"(^\s*ERROR_REASON_([A-Z_]+) = (\d+);.*)");
  std::ifstream file(*error_proto);
  std::vector<ProtoReason> reasons;
  std::string line;
  std::string code;
  std::smatch match;
  while (std::getline(file, line)) {
    if (std::regex_match(line, match, code_line)) {
      code = match[1];
    } else if (std::regex_match(line, match, value_line) && match[2] != "0") {
      reasons.push_back({code, match[1], std::stoi(match[2])});
      code.clear();
    }
  }
  return reasons;
}

TEST(ErrorReasonTest, EveryReasonOfTheApiHasItsNameAndItsCode) {
  const std::vector<ProtoReason> reasons = ReadProtoReasons();
  ASSERT_FALSE(reasons.empty()) << "no reason found in " << *error_proto;
  for (const ProtoReason& row : reasons) {
    SCOPED_TRACE(absl::StrCat(row.name, " = ", row.number));
    ASSERT_LE(row.number, kLastReason);
    const auto reason = static_cast<ErrorReason>(row.number);
    EXPECT_EQ(NameOf(reason), row.name);
    EXPECT_EQ(absl::StatusCodeToString(CodeOf(reason)), row.code);
  }
  EXPECT_EQ(reasons.size(), size_t{kLastReason});
}

TEST(MakeErrorTest, TheDetailComesBackAsItWasGiven) {
  const absl::Status status =
      MakeError(ErrorReason::kMemslotOverlap, "memslot overlaps",
                {{"memslot", "vms/a/memslots/ram"}, {"startGfn", "0x100"}});
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(status.message(), "memslot overlaps");
  const std::optional<ErrorDetail> detail = DetailOf(status);
  ASSERT_TRUE(detail.has_value());
  EXPECT_EQ(detail->reason, ErrorReason::kMemslotOverlap);
  EXPECT_THAT(detail->metadata,
              ElementsAre(Pair("memslot", "vms/a/memslots/ram"),
                          Pair("startGfn", "0x100")));
}

TEST(MakeErrorTest, NoMetadataComesBackAsNone) {
  const std::optional<ErrorDetail> detail =
      DetailOf(MakeError(ErrorReason::kInternal, "broken"));
  ASSERT_TRUE(detail.has_value());
  EXPECT_EQ(detail->reason, ErrorReason::kInternal);
  EXPECT_THAT(detail->metadata, IsEmpty());
}

TEST(MakeErrorTest, EmptyAndUnusualTextComesBackUnchanged) {
  const ErrorMetadata metadata = {
      {"empty", ""},
      {"", "empty key"},
      {"quotes", "a \"b\" 'c' \\ d"},
      {"lines", "one\ntwo\r\n\tthree"},
      {"separators", "a,b;c:d=e|f\x1fg\x1eh"},
      {"zero", std::string("a\0b", 3)},
      {"unicode", "gr\xc3\xbc\xc3\x9f"},
      {"bytes", "\xff\xfe\x80"},
  };
  const std::optional<ErrorDetail> detail =
      DetailOf(MakeError(ErrorReason::kFieldInvalid, "text", metadata));
  ASSERT_TRUE(detail.has_value());
  EXPECT_EQ(detail->metadata, metadata);
}

TEST(DetailOfTest, AStatusOfSomebodyElseHasNone) {
  EXPECT_FALSE(DetailOf(absl::OkStatus()).has_value());
  EXPECT_FALSE(DetailOf(absl::NotFoundError("gone")).has_value());
}

TEST(ErrorsTest, MessagesNameTheThingItsValueAndTheWayOut) {
  const absl::Status field =
      FieldError("range.start_gfn", "7", "a multiple of 512");
  EXPECT_EQ(field.message(),
            "field range.start_gfn is 7; it must be a multiple of 512");
  EXPECT_THAT(std::string(FieldError("name", "", "set").message()),
              HasSubstr("is empty"));
  EXPECT_THAT(std::string(NotFoundError("vms/a").message()),
              HasSubstr("\"vms/a\""));
  EXPECT_THAT(std::string(GfnNotBackedError(Gfn(256)).message()),
              HasSubstr("0x100"));
  EXPECT_THAT(std::string(LimitError("max_vms", 64, "delete one").message()),
              HasSubstr("max_vms of 64 is reached; delete one"));
}

TEST(ErrorsTest, AFailedHostCallShowsTheCallAndTheErrno) {
  const absl::Status status = HostCallError("ioctl(KVM_RUN)", EFAULT);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(status.message(), "ioctl(KVM_RUN): Bad address (errno 14)");
  EXPECT_THAT(DetailOf(status)->metadata,
              ElementsAre(Pair("call", "ioctl(KVM_RUN)"), Pair("errno", "14")));
}

TEST(HexTest, ShowsBothEndsOfTheSpace) {
  EXPECT_EQ(Hex(0), "0x0");
  EXPECT_EQ(Hex(UINT64_MAX), "0xffffffffffffffff");
}

}  // namespace
}  // namespace tdp

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc < 2) {
    fprintf(stderr, "usage: %s ERROR_PROTO\n", argv[0]);
    return 2;
  }
  tdp::error_proto = new std::string(argv[1]);
  return RUN_ALL_TESTS();
}
