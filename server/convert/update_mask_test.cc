#include "server/convert/update_mask.h"

#include <initializer_list>

#include "engine/base/errors.h"
#include "gtest/gtest.h"
#include "tdp/v1/memslot_service.pb.h"

namespace tdp::server {
namespace {

absl::StatusOr<std::set<std::string>> Parse(
    std::initializer_list<const char*> paths) {
  google::protobuf::FieldMask mask;
  for (const char* path : paths) mask.add_paths(path);
  return ParseUpdateMask(mask, *v1::Memslot::descriptor(),
                         {"base_gfn", "read_only"});
}

TEST(UpdateMaskTest, TakesMutableFields) {
  EXPECT_EQ(*Parse({"read_only"}), std::set<std::string>({"read_only"}));
  EXPECT_EQ(*Parse({"read_only", "base_gfn", "read_only"}),
            std::set<std::string>({"base_gfn", "read_only"}));
}

TEST(UpdateMaskTest, TakesAStarForEveryMutableField) {
  EXPECT_EQ(*Parse({"*"}), std::set<std::string>({"base_gfn", "read_only"}));
}

TEST(UpdateMaskTest, RefusesOtherPathsByName) {
  for (const char* path : {"frame_count", "name", "etag", "", "base_gfn.x",
                           "Base_Gfn", "baseGfn", "nonsense"}) {
    const auto parsed = Parse({"read_only", path});
    ASSERT_FALSE(parsed.ok()) << path;
    EXPECT_EQ(DetailOf(parsed.status())->reason, ErrorReason::kFieldInvalid);
    EXPECT_NE(parsed.status().message().find(path), absl::string_view::npos);
  }
  EXPECT_NE(Parse({"frame_count"}).status().message().find("cannot be written"),
            absl::string_view::npos);
  EXPECT_NE(Parse({"nonsense"}).status().message().find("no field"),
            absl::string_view::npos);
}

TEST(UpdateMaskTest, RefusesAnEmptyMask) { EXPECT_FALSE(Parse({}).ok()); }

}  // namespace
}  // namespace tdp::server
