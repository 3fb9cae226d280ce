#include "server/convert/batch_convert.h"

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "gtest/gtest.h"
#include "server/testing/errors.h"

namespace tdp::server {
namespace {

using Kind = BatchOperation::Kind;

// A good operation of each kind, one after the other.
v1::ApplyBatchRequest GoodBatch() {
  v1::ApplyBatchRequest batch;
  const auto set_range = [](v1::GfnRange* range, uint64_t start) {
    range->set_start_gfn(start);
    range->set_end_gfn(start + 10);
  };
  set_range(batch.add_operations()->mutable_zap()->mutable_range(), 0);
  v1::ProtectRangeRequest* protect = batch.add_operations()->mutable_protect();
  set_range(protect->mutable_range(), 10);
  protect->mutable_access()->set_read(true);
  v1::WriteProtectRangeRequest* write_protect =
      batch.add_operations()->mutable_write_protect();
  set_range(write_protect->mutable_range(), 20);
  write_protect->set_min_level(v1::PAGE_LEVEL_1G);
  v1::MapRangeRequest* map = batch.add_operations()->mutable_map();
  set_range(map->mutable_range(), 30);
  map->set_max_level(v1::PAGE_LEVEL_2M);
  map->set_write(true);
  return batch;
}

TEST(BatchConvertTest, TakesEachKindWithItsFields) {
  const auto operations = BatchFrom(GoodBatch());
  ASSERT_TRUE(operations.ok()) << operations.status();
  ASSERT_EQ(operations->size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ((*operations)[i].range,
              (GfnRange{Gfn(10 * i), Gfn(10 * i + 10)}));
  }
  EXPECT_EQ((*operations)[0].kind, Kind::kZap);
  const BatchOperation& protect = (*operations)[1];
  EXPECT_EQ(protect.kind, Kind::kProtect);
  EXPECT_EQ(protect.access, (Access{.read = true, .write = false}));
  const BatchOperation& write_protect = (*operations)[2];
  EXPECT_EQ(write_protect.kind, Kind::kWriteProtect);
  EXPECT_EQ(write_protect.level, 3);
  const BatchOperation& map = (*operations)[3];
  EXPECT_EQ(map.kind, Kind::kMap);
  EXPECT_EQ(map.level, 2);
  EXPECT_TRUE(map.write);
}

TEST(BatchConvertTest, LeavesOutWhatIsLeftOut) {
  v1::ApplyBatchRequest batch = GoodBatch();
  batch.mutable_operations(2)->mutable_write_protect()->clear_min_level();
  batch.mutable_operations(3)->mutable_map()->clear_max_level();
  batch.mutable_operations(3)->mutable_map()->clear_write();
  const auto operations = BatchFrom(batch);
  ASSERT_TRUE(operations.ok());
  EXPECT_EQ((*operations)[2].level, 0);
  EXPECT_EQ((*operations)[3].level, 0);
  EXPECT_FALSE((*operations)[3].write);
  EXPECT_TRUE(BatchFrom(v1::ApplyBatchRequest())->empty())
      << "the engine's question";
}

TEST(BatchConvertTest, RefusesBadOperationsByTheirPath) {
  using Spoil = std::function<void(v1::ApplyBatchRequest&)>;
  const std::pair<const char*, Spoil> kCases[] = {
      {"operations[3]",
       [](auto& batch) { batch.mutable_operations(3)->clear_map(); }},
      {"operations[4]", [](auto& batch) { batch.add_operations(); }},
      {"operations[0].zap.range",
       [](auto& batch) {
         batch.mutable_operations(0)->mutable_zap()->clear_range();
       }},
      {"operations[1].protect.range.end_gfn",
       [](auto& batch) {
         batch.mutable_operations(1)
             ->mutable_protect()
             ->mutable_range()
             ->set_end_gfn(10);
       }},
      {"operations[1].protect.access",
       [](auto& batch) {
         batch.mutable_operations(1)->mutable_protect()->clear_access();
       }},
      {"operations[2].write_protect.range",
       [](auto& batch) {
         batch.mutable_operations(2)->mutable_write_protect()->clear_range();
       }},
      {"operations[2].write_protect.min_level",
       [](auto& batch) {
         batch.mutable_operations(2)->mutable_write_protect()->set_min_level(
             static_cast<v1::PageLevel>(-1));
       }},
      {"operations[3].map.range",
       [](auto& batch) {
         batch.mutable_operations(3)->mutable_map()->clear_range();
       }},
      {"operations[3].map.max_level",
       [](auto& batch) {
         batch.mutable_operations(3)->mutable_map()->set_max_level(
             v1::PAGE_LEVEL_512G);
       }},
  };
  for (const auto& [field, spoil] : kCases) {
    v1::ApplyBatchRequest batch = GoodBatch();
    spoil(batch);
    EXPECT_EQ(FieldErrorOf(BatchFrom(batch).status()),
              std::string("FIELD_INVALID ") + field);
  }
}

TEST(BatchConvertTest, RefusesTooManyOperationsBeforeItLooksAtAny) {
  v1::ApplyBatchRequest batch;
  for (int i = 0; i < limits::kMaxBatchOperations; ++i) {
    *batch.add_operations() = GoodBatch().operations(0);
  }
  EXPECT_TRUE(BatchFrom(batch).ok());
  batch.mutable_operations(0)->Clear();
  EXPECT_EQ(FieldErrorOf(BatchFrom(batch).status()),
            "FIELD_INVALID operations[0]");
  batch.add_operations();
  EXPECT_EQ(BatchFrom(batch).status().message(),
            "field operations is 257 operations; it must be 1 to 256 "
            "operations");
}

TEST(BatchConvertTest, SaysWhatAnAccessAndALevelMayBe) {
  v1::ApplyBatchRequest batch = GoodBatch();
  batch.mutable_operations(1)->mutable_protect()->clear_access();
  EXPECT_EQ(BatchFrom(batch).status().message(),
            "field operations[1].protect.access is empty; it must be set: to "
            "read, to read and write, or to neither, which is no access");
  batch = GoodBatch();
  batch.mutable_operations(3)->mutable_map()->set_max_level(v1::PAGE_LEVEL_1G);
  EXPECT_EQ(BatchFrom(batch).status().message(),
            "field operations[3].map.max_level is PAGE_LEVEL_1G (3); it must "
            "be PAGE_LEVEL_4K, PAGE_LEVEL_2M or unspecified");
}

TEST(BatchConvertTest, SaysWhatAnOperationMayBe) {
  v1::ApplyBatchRequest batch;
  batch.add_operations();
  EXPECT_EQ(BatchFrom(batch).status().message(),
            "field operations[0] is empty; it must be zap, protect, "
            "write_protect or map");
}

}  // namespace
}  // namespace tdp::server
