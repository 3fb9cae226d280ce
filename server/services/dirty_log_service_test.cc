// DirtyLogHandler against the fake.

#include "server/services/dirty_log_service.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/testing/errors.h"
#include "server/testing/fake_vm_registry.h"

namespace tdp::server {
namespace {

constexpr uint64_t kChunk = uint64_t{1} << 19;
constexpr uint64_t kBase = 100;  // not at a multiple of 64
constexpr int64_t kFrames = 3 * kChunk;
constexpr char kRam[] = "vms/a/memslots/ram";

v1::ReadDirtyLogRequest ReadRequest(uint64_t start = 0, uint64_t end = 0) {
  v1::ReadDirtyLogRequest request;
  request.set_memslot(kRam);
  if (start != 0 || end != 0) {
    request.mutable_range()->set_start_gfn(start);
    request.mutable_range()->set_end_gfn(end);
  }
  return request;
}

// Clears `bits` from `first_gfn` on, for every frame that they have room for.
v1::ClearDirtyLogRequest ClearRequest(const std::string& memslot,
                                      uint64_t first_gfn, std::string bits) {
  v1::ClearDirtyLogRequest request;
  request.set_memslot(memslot);
  request.mutable_dirty()->set_first_gfn(first_gfn);
  request.mutable_dirty()->set_frame_count(static_cast<int64_t>(bits.size()) *
                                           8);
  request.mutable_dirty()->set_bits(std::move(bits));
  return request;
}

class DirtyLogServiceTest : public testing::Test {
 protected:
  using Messages = std::vector<v1::ReadDirtyLogResponse>;

  DirtyLogServiceTest() {
    MemslotConfig config;
    config.base_gfn = Gfn(kBase);
    config.frame_count = kFrames;
    config.dirty_log_enabled = true;
    EXPECT_TRUE(fake_->CreateMemslot("ram", config, false).ok());
  }

  absl::Status Create(const std::string& parent, const std::string& id) {
    v1::CreateDirtyConsumerRequest request;
    request.set_parent(parent);
    request.set_dirty_consumer_id(id);
    return handler_.CreateDirtyConsumer(context_, request, &created_);
  }

  absl::Status Delete(const std::string& name) {
    v1::DeleteDirtyConsumerRequest request;
    request.set_name(name);
    v1::DeleteDirtyConsumerResponse response;
    return handler_.DeleteDirtyConsumer(context_, request, &response);
  }

  absl::Status List(const v1::ListDirtyConsumersRequest& request) {
    listed_.Clear();
    return handler_.ListDirtyConsumers(context_, request, &listed_);
  }

  absl::StatusOr<Messages> Read(const v1::ReadDirtyLogRequest& request) {
    auto source = handler_.ReadDirtyLog(context_, request);
    if (!source.ok()) return source.status();
    Messages messages;
    while (true) {
      v1::ReadDirtyLogResponse message;
      const auto step = (*source)->Next(context_, &message);
      if (!step.ok()) return step.status();
      if (step->kind == StreamStep::Kind::kEnd) return messages;
      EXPECT_EQ(step->kind, StreamStep::Kind::kSend);
      EXPECT_LE(message.dirty().bits().size(), 1u << 16);
      messages.push_back(std::move(message));
    }
  }

  // The frames whose bits are set in `messages`.
  static std::vector<uint64_t> FramesOf(const Messages& messages) {
    std::vector<uint64_t> frames;
    for (const v1::ReadDirtyLogResponse& message : messages) {
      const size_t before = frames.size();
      const std::string& bits = message.dirty().bits();
      for (size_t bit = 0; bit < bits.size() * 8; ++bit) {
        if ((bits[bit / 8] >> bit % 8 & 1) == 0) continue;
        frames.push_back(message.dirty().first_gfn() + bit);
      }
      EXPECT_EQ(message.dirty_frame_count(),
                static_cast<int64_t>(frames.size() - before));
    }
    return frames;
  }

  std::string ReadError(const v1::ReadDirtyLogRequest& request) {
    return FieldErrorOf(Read(request).status());
  }

  // How a stream of these messages ends.
  absl::Status Clear(const std::vector<v1::ClearDirtyLogRequest>& messages) {
    cleared_.Clear();
    auto sink = handler_.ClearDirtyLog(context_);
    if (!sink.ok()) return sink.status();
    for (const v1::ClearDirtyLogRequest& message : messages) {
      const absl::Status taken = (*sink)->Take(context_, message);
      if (!taken.ok()) return taken;
    }
    return (*sink)->End(context_, &cleared_);
  }

  void SetDirtyLog(bool enabled) {
    MemslotUpdate update;
    update.dirty_log_enabled = enabled;
    EXPECT_TRUE(fake_->UpdateMemslot("ram", update, "").ok());
  }

  FakeVmRegistry registry_;
  std::shared_ptr<FakeVm> fake_ = registry_.MakeVmForTest("a");
  std::shared_ptr<FakeVm> other_ = registry_.MakeVmForTest("other");
  CallContext context_;
  DirtyLogHandler handler_{registry_};
  v1::CreateDirtyConsumerResponse created_;
  v1::ListDirtyConsumersResponse listed_;
  v1::ClearDirtyLogResponse cleared_;
};

TEST_F(DirtyLogServiceTest, CreatesListsAndDeletesConsumers) {
  ASSERT_TRUE(Create("vms/a", "migration").ok());
  EXPECT_EQ(created_.dirty_consumer().name(), "vms/a/dirtyConsumers/migration");
  ASSERT_TRUE(Create("vms/a", "backup").ok());
  v1::ListDirtyConsumersRequest list;
  list.set_parent("vms/a");
  ASSERT_TRUE(List(list).ok());
  ASSERT_EQ(listed_.dirty_consumers_size(), 3);
  EXPECT_EQ(listed_.dirty_consumers(0).name(), "vms/a/dirtyConsumers/backup");
  EXPECT_EQ(listed_.dirty_consumers(1).name(), "vms/a/dirtyConsumers/default");
  EXPECT_EQ(listed_.dirty_consumers(2).name(),
            "vms/a/dirtyConsumers/migration");
  EXPECT_TRUE(listed_.next_page_token().empty());
  ASSERT_TRUE(Delete("vms/a/dirtyConsumers/migration").ok());
  EXPECT_EQ(ReasonOf(Delete("vms/a/dirtyConsumers/migration")),
            "RESOURCE_NOT_FOUND");
  ASSERT_TRUE(List(list).ok());
  EXPECT_EQ(listed_.dirty_consumers_size(), 2);
}

TEST_F(DirtyLogServiceTest, RefusesToCreateWhatIsMalformedTakenOrTooMuch) {
  EXPECT_EQ(FieldErrorOf(Create("a", "x")), "FIELD_INVALID parent");
  for (const std::string& id : {std::string(), std::string("A"),
                                std::string("a/b"), std::string(64, 'a')}) {
    EXPECT_EQ(FieldErrorOf(Create("vms/a", id)),
              "FIELD_INVALID dirty_consumer_id")
        << id;
  }
  EXPECT_EQ(ReasonOf(Create("vms/b", "x")), "RESOURCE_NOT_FOUND");
  EXPECT_EQ(ReasonOf(Create("vms/a", "default")), "RESOURCE_EXISTS");
  ASSERT_TRUE(Create("vms/a", std::string(63, 'a')).ok());
  EXPECT_EQ(ReasonOf(Create("vms/a", std::string(63, 'a'))), "RESOURCE_EXISTS");
  for (int i = 2; i < 16; ++i) {
    ASSERT_TRUE(Create("vms/a", absl::StrCat("c", i)).ok());
  }
  const absl::Status one_past = Create("vms/a", "c16");
  EXPECT_EQ(ReasonOf(one_past), "LIMIT_REACHED");
  EXPECT_EQ(MetadataOf(one_past, "limit"), "max_dirty_consumers");
}

TEST_F(DirtyLogServiceTest, RefusesToDeleteWhatIsMalformedMissingOrDefault) {
  for (const char* name : {"", "x", "vms/a/dirtyConsumers/",
                           "vms/a/memslots/ram", "vms/a/dirtyConsumers/X"}) {
    EXPECT_EQ(FieldErrorOf(Delete(name)), "FIELD_INVALID name") << name;
  }
  EXPECT_EQ(ReasonOf(Delete("vms/a/dirtyConsumers/x")), "RESOURCE_NOT_FOUND");
  EXPECT_EQ(ReasonOf(Delete("vms/b/dirtyConsumers/x")), "RESOURCE_NOT_FOUND");
  EXPECT_EQ(FieldErrorOf(Delete("vms/a/dirtyConsumers/default")),
            "FIELD_INVALID name");
}

TEST_F(DirtyLogServiceTest, ListsConsumersPageByPage) {
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(Create("vms/a", absl::StrCat("c", i)).ok());
  }
  v1::ListDirtyConsumersRequest request;
  request.set_parent("vms/a");
  request.set_page_size(3);
  std::vector<int> sizes;
  std::string last;
  do {
    ASSERT_TRUE(List(request).ok());
    sizes.push_back(listed_.dirty_consumers_size());
    for (const v1::DirtyConsumer& consumer : listed_.dirty_consumers()) {
      EXPECT_GT(consumer.name(), last);
      last = consumer.name();
    }
    request.set_page_token(listed_.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(sizes, std::vector<int>({3, 3, 1}));
  // The consumer that a token names may be gone by then.
  request.set_page_size(1);
  ASSERT_TRUE(List(request).ok());
  ASSERT_TRUE(Delete("vms/a/dirtyConsumers/c0").ok());
  request.set_page_token(listed_.next_page_token());
  ASSERT_TRUE(List(request).ok());
  EXPECT_EQ(listed_.dirty_consumers(0).name(), "vms/a/dirtyConsumers/c1");
}

TEST_F(DirtyLogServiceTest, RefusesBadLists) {
  ASSERT_TRUE(Create("vms/a", "x").ok());
  v1::ListDirtyConsumersRequest request;
  EXPECT_EQ(FieldErrorOf(List(request)), "FIELD_INVALID parent");
  request.set_parent("vms/b");
  EXPECT_EQ(ReasonOf(List(request)), "RESOURCE_NOT_FOUND");
  request.set_parent("vms/a");
  request.set_page_size(-1);
  EXPECT_EQ(FieldErrorOf(List(request)), "FIELD_INVALID page_size");
  request.set_page_size(1);
  request.set_page_token("nonsense");
  EXPECT_EQ(FieldErrorOf(List(request)), "FIELD_INVALID page_token");
  request.clear_page_token();
  ASSERT_TRUE(List(request).ok());
  request.set_page_token(listed_.next_page_token());
  request.set_parent("vms/other");
  EXPECT_EQ(FieldErrorOf(List(request)), "FIELD_INVALID page_token")
      << "of another list";
}

TEST_F(DirtyLogServiceTest, ReadsTheWholeMemslotInChunks) {
  const std::vector<uint64_t> written = {kBase, kChunk - 1, kChunk,
                                         kBase + kFrames - 1};
  for (const uint64_t gfn : written) fake_->MarkDirtyForTest(Gfn(gfn));
  const auto messages = Read(ReadRequest());
  ASSERT_TRUE(messages.ok()) << messages.status();
  EXPECT_EQ(FramesOf(*messages), written);
  // The base is inside a chunk, so there is one more than the frames fill.
  ASSERT_EQ(messages->size(), 4u);
  EXPECT_EQ((*messages)[0].dirty().first_gfn(), 64u);
  EXPECT_EQ((*messages)[0].dirty().frame_count(), int64_t{kChunk - 64});
  EXPECT_EQ((*messages)[0].dirty_frame_count(), 2);
  EXPECT_EQ((*messages)[1].dirty().first_gfn(), kChunk);
  EXPECT_EQ((*messages)[1].dirty().bits().size(), 1u << 16);
  EXPECT_EQ((*messages)[2].dirty_frame_count(), 0);
  EXPECT_EQ((*messages)[3].dirty().frame_count(), int64_t{kBase});
  EXPECT_EQ(FramesOf(*Read(ReadRequest())), written) << "reading clears none";
}

TEST_F(DirtyLogServiceTest, LeavesOutChunksWithoutABitIfAskedTo) {
  v1::ReadDirtyLogRequest request = ReadRequest();
  request.set_sparse(true);
  EXPECT_TRUE(Read(request)->empty());
  fake_->MarkDirtyForTest(Gfn(2 * kChunk + 5));
  const auto messages = Read(request);
  ASSERT_EQ(messages->size(), 1u);
  EXPECT_EQ((*messages)[0].dirty().first_gfn(), 2 * kChunk);
  EXPECT_EQ(FramesOf(*messages), std::vector<uint64_t>({2 * kChunk + 5}));
}

TEST_F(DirtyLogServiceTest, StopsLeavingOutChunksWhenNobodyWantsThem) {
  v1::ReadDirtyLogRequest request = ReadRequest();
  request.set_sparse(true);
  context_.Cancel();
  EXPECT_EQ(ReadError(request), "CANCELLED");
}

TEST_F(DirtyLogServiceTest, ReadsTheFramesOfARangeThatAreInTheMemslot) {
  for (const uint64_t gfn :
       {kBase, kBase + 9, kBase + 10, kBase + 11, kBase + kFrames - 1}) {
    fake_->MarkDirtyForTest(Gfn(gfn));
  }
  EXPECT_EQ(FramesOf(*Read(ReadRequest(kBase + 9, kBase + 11))),
            std::vector<uint64_t>({kBase + 9, kBase + 10}));
  EXPECT_EQ(FramesOf(*Read(ReadRequest(0, kBase + 1))),
            std::vector<uint64_t>({kBase}));
  EXPECT_EQ(FramesOf(*Read(ReadRequest(kBase + kFrames - 1, ~uint64_t{0}))),
            std::vector<uint64_t>({kBase + kFrames - 1}));
  v1::ReadDirtyLogRequest no_frames = ReadRequest();
  no_frames.mutable_range();
  EXPECT_EQ(FramesOf(*Read(no_frames)).size(), 5u);
}

TEST_F(DirtyLogServiceTest, RefusesRangesWithoutAFrameOfTheMemslot) {
  EXPECT_EQ(ReadError(ReadRequest(200, 200)), "FIELD_INVALID range.end_gfn");
  EXPECT_EQ(ReadError(ReadRequest(201, 200)), "FIELD_INVALID range.end_gfn");
  EXPECT_EQ(ReadError(ReadRequest(1, kBase)), "FIELD_INVALID range");
  EXPECT_EQ(ReadError(ReadRequest(kBase + kFrames, ~uint64_t{0})),
            "FIELD_INVALID range");
}

TEST_F(DirtyLogServiceTest, RefusesBadReads) {
  v1::ReadDirtyLogRequest request;
  EXPECT_EQ(ReadError(request), "FIELD_INVALID memslot");
  request.set_memslot("vms/a");
  EXPECT_EQ(ReadError(request), "FIELD_INVALID memslot");
  request.set_memslot("vms/b/memslots/ram");
  EXPECT_EQ(ReadError(request), "RESOURCE_NOT_FOUND");
  request.set_memslot("vms/a/memslots/none");
  EXPECT_EQ(ReadError(request), "RESOURCE_NOT_FOUND");
  request.set_memslot(kRam);
  request.set_consumer("default");
  EXPECT_EQ(ReadError(request), "FIELD_INVALID consumer");
  request.set_consumer("vms/a/dirtyConsumers/none");
  EXPECT_EQ(ReadError(request), "RESOURCE_NOT_FOUND");
  request.set_consumer("vms/other/dirtyConsumers/default");
  EXPECT_EQ(ReadError(request), "FIELD_INVALID consumer");
  EXPECT_EQ(Read(request).status().message(),
            "field consumer is \"vms/other/dirtyConsumers/default\"; it must "
            "be a consumer of vms/a, the VM of the memslot");
  SetDirtyLog(false);
  EXPECT_EQ(ReadError(ReadRequest()), "DIRTY_LOG_OFF");
}

TEST_F(DirtyLogServiceTest, EndsAReadWhenTheMemslotGoes) {
  auto source = *handler_.ReadDirtyLog(context_, ReadRequest());
  v1::ReadDirtyLogResponse message;
  ASSERT_TRUE(source->Next(context_, &message).ok());
  ASSERT_TRUE(fake_->DeleteMemslot("ram", "").ok());
  message.Clear();
  EXPECT_EQ(ReasonOf(source->Next(context_, &message).status()),
            "RESOURCE_NOT_FOUND");
}

TEST_F(DirtyLogServiceTest, ClearsBitsAndSaysHowManyWereSet) {
  for (const uint64_t gfn : {128, 129, 140, 192}) {
    fake_->MarkDirtyForTest(Gfn(gfn));
  }
  ASSERT_TRUE(Clear({ClearRequest(kRam, 128, "\x07"),
                     ClearRequest("", 192, "\x01"), ClearRequest(kRam, 0, "")})
                  .ok());
  EXPECT_EQ(cleared_.cleared_frame_count(), 3) << "130 was clear";
  EXPECT_EQ(FramesOf(*Read(ReadRequest())), std::vector<uint64_t>({140}));
  ASSERT_TRUE(Clear({ClearRequest(kRam, 128, "\x07")}).ok());
  EXPECT_EQ(cleared_.cleared_frame_count(), 0) << "again";
}

TEST_F(DirtyLogServiceTest, TakesBackWhatAReadGave) {
  for (const uint64_t gfn : {kBase, kChunk, kBase + kFrames - 1}) {
    fake_->MarkDirtyForTest(Gfn(gfn));
  }
  std::vector<v1::ClearDirtyLogRequest> clears;
  const Messages read = *Read(ReadRequest());
  for (const v1::ReadDirtyLogResponse& message : read) {
    v1::ClearDirtyLogRequest& clear = clears.emplace_back();
    clear.set_memslot(kRam);
    *clear.mutable_dirty() = message.dirty();
  }
  ASSERT_EQ(clears.size(), 4u);
  ASSERT_TRUE(Clear(clears).ok());
  EXPECT_EQ(cleared_.cleared_frame_count(), 3);
  EXPECT_TRUE(FramesOf(*Read(ReadRequest())).empty());
}

TEST_F(DirtyLogServiceTest, ClearsForOneConsumerOnly) {
  ASSERT_TRUE(Create("vms/a", "backup").ok());
  fake_->MarkDirtyForTest(Gfn(128));
  v1::ClearDirtyLogRequest clear = ClearRequest(kRam, 128, "\x01");
  clear.set_consumer("vms/a/dirtyConsumers/backup");
  ASSERT_TRUE(Clear({clear}).ok());
  EXPECT_EQ(cleared_.cleared_frame_count(), 1);
  v1::ReadDirtyLogRequest read = ReadRequest();
  EXPECT_EQ(FramesOf(*Read(read)), std::vector<uint64_t>({128}));
  read.set_consumer("vms/a/dirtyConsumers/default");
  EXPECT_EQ(FramesOf(*Read(read)), std::vector<uint64_t>({128}));
  read.set_consumer("vms/a/dirtyConsumers/backup");
  EXPECT_TRUE(FramesOf(*Read(read)).empty());
}

TEST_F(DirtyLogServiceTest, TakesNamesInTheFirstMessageOrTheSameAgain) {
  v1::ClearDirtyLogRequest first = ClearRequest(kRam, 128, "\x01");
  v1::ClearDirtyLogRequest next = ClearRequest(kRam, 192, "\x01");
  next.set_consumer("vms/a/dirtyConsumers/default");
  const absl::Status late = Clear({first, next});
  EXPECT_EQ(FieldErrorOf(late), "FIELD_INVALID consumer");
  first.set_consumer("vms/a/dirtyConsumers/default");
  EXPECT_TRUE(Clear({first, next}).ok());
  next.clear_consumer();
  EXPECT_TRUE(Clear({first, next}).ok());
  next.set_consumer("vms/a/dirtyConsumers/other");
  EXPECT_EQ(FieldErrorOf(Clear({first, next})), "FIELD_INVALID consumer");
  next.clear_consumer();
  next.set_memslot("vms/a/memslots/other");
  EXPECT_EQ(FieldErrorOf(Clear({first, next})), "FIELD_INVALID memslot");
}

TEST_F(DirtyLogServiceTest, SaysHowManyFramesAFailedClearHasCleared) {
  fake_->MarkDirtyForTest(Gfn(128));
  fake_->MarkDirtyForTest(Gfn(129));
  const absl::Status status =
      Clear({ClearRequest(kRam, 128, "\x01"), ClearRequest(kRam, 128, "\x03"),
             ClearRequest(kRam, 129, "\x01")});
  EXPECT_EQ(FieldErrorOf(status), "FIELD_INVALID dirty.first_gfn");
  EXPECT_EQ(MetadataOf(status, "clearedFrameCount"), "2");
  EXPECT_NE(status.message().find("2 frames"), absl::string_view::npos);
  auto sink = *handler_.ClearDirtyLog(context_);
  fake_->MarkDirtyForTest(Gfn(128));
  ASSERT_TRUE(sink->Take(context_, ClearRequest(kRam, 128, "\x01")).ok());
  SetDirtyLog(false);
  const absl::Status off = sink->Take(context_, ClearRequest("", 128, "\x01"));
  EXPECT_EQ(ReasonOf(off), "DIRTY_LOG_OFF");
  EXPECT_EQ(MetadataOf(off, "clearedFrameCount"), "1");
}

TEST_F(DirtyLogServiceTest, TakesSixtyFourKibibytesAMessageAndNotMore) {
  fake_->MarkDirtyForTest(Gfn(kBase));
  EXPECT_TRUE(
      Clear({ClearRequest(kRam, 0, std::string(1 << 16, '\xff'))}).ok());
  EXPECT_EQ(cleared_.cleared_frame_count(), 1);
  const absl::Status status =
      Clear({ClearRequest(kRam, 0, std::string((1 << 16) + 1, '\xff'))});
  EXPECT_EQ(FieldErrorOf(status), "FIELD_INVALID dirty.bits");
  EXPECT_EQ(MetadataOf(status, "clearedFrameCount"), "0");
}

TEST_F(DirtyLogServiceTest, RefusesBadClears) {
  EXPECT_EQ(FieldErrorOf(Clear({})), "FIELD_INVALID memslot");
  EXPECT_EQ(FieldErrorOf(Clear({ClearRequest("", 0, "x")})),
            "FIELD_INVALID memslot");
  EXPECT_EQ(ReasonOf(Clear({ClearRequest("vms/b/memslots/ram", 0, "x")})),
            "RESOURCE_NOT_FOUND");
  EXPECT_EQ(ReasonOf(Clear({ClearRequest("vms/a/memslots/none", 0, "")})),
            "RESOURCE_NOT_FOUND");
  v1::ClearDirtyLogRequest request = ClearRequest(kRam, 128, "x");
  request.set_consumer("vms/other/dirtyConsumers/default");
  EXPECT_EQ(FieldErrorOf(Clear({request})), "FIELD_INVALID consumer");
  request.set_consumer("x");
  EXPECT_EQ(FieldErrorOf(Clear({request})), "FIELD_INVALID consumer");
  request.set_consumer("vms/a/dirtyConsumers/none");
  EXPECT_EQ(ReasonOf(Clear({request})), "RESOURCE_NOT_FOUND");
  request.clear_consumer();
  request.mutable_dirty()->set_frame_count(9);
  EXPECT_EQ(FieldErrorOf(Clear({request})), "FIELD_INVALID dirty.frame_count");
}

}  // namespace
}  // namespace tdp::server
