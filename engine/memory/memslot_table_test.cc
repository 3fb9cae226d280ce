#include "engine/memory/memslot_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <utility>
#include <vector>

#include "engine/base/errors.h"
#include "engine/memory/memory_test_util.h"

namespace tdp {
namespace {

std::shared_ptr<Memslot> MakeMemslot(const std::string& name, uint64_t first,
                                     uint64_t end) {
  absl::StatusOr<std::shared_ptr<Memslot>> memslot = Memslot::Create(
      {.name = name, .range = {Gfn(first), Gfn(end)}, .base_pfn = Pfn(first)});
  EXPECT_TRUE(memslot.ok()) << memslot.status();
  return *std::move(memslot);
}

class MemslotTableTest : public testing::Test {
 protected:
  // Takes a memslot out as a VM does, with nothing to zap.
  void Remove(std::shared_ptr<Memslot> memslot) {
    memslot->CloseForMap();
    table_.Remove(memslot);
  }

  bool CanPin(uint64_t gfn, PinMode mode = PinMode::kMap) {
    return static_cast<bool>(table_.Pin(Gfn(gfn), mode).pin);
  }

  RcuDomain rcu_{1 << 20};
  MemslotTable table_{rcu_, 4};
};

TEST_F(MemslotTableTest, AFrameLeadsToItsMemslot) {
  const auto low = MakeMemslot("low", 0x10, 0x20);
  const auto high = MakeMemslot("high", 0x40, 0x50);
  ASSERT_TRUE(table_.Add(high).ok());
  ASSERT_TRUE(table_.Add(low).ok());
  EXPECT_EQ(table_.Find(Gfn(0x15)), low);
  const PinResult result = table_.Pin(Gfn(0x4f), PinMode::kMap);
  ASSERT_TRUE(result.pin);
  EXPECT_EQ(&*result.pin, high.get());
  EXPECT_EQ(result.pin->range(), (GfnRange{Gfn(0x40), Gfn(0x50)}));
  const std::vector<std::shared_ptr<Memslot>> all = table_.Snapshot();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0], low);
  EXPECT_EQ(all[1], high);
}

TEST_F(MemslotTableTest, OnlyTheFramesOfAMemslotAreBacked) {
  const uint64_t top = uint64_t{1} << 40;
  ASSERT_TRUE(table_.Add(MakeMemslot("a", 0x10, 0x20)).ok());
  ASSERT_TRUE(table_.Add(MakeMemslot("b", 0x20, 0x30)).ok());
  ASSERT_TRUE(table_.Add(MakeMemslot("c", top - 1, top)).ok());
  for (const uint64_t gfn : {uint64_t{0x10}, uint64_t{0x1f}, uint64_t{0x20},
                             uint64_t{0x2f}, top - 1}) {
    EXPECT_TRUE(CanPin(gfn)) << gfn;
  }
  for (const uint64_t gfn :
       {uint64_t{0}, uint64_t{0xf}, uint64_t{0x30}, top - 2, top}) {
    const PinResult result = table_.Pin(Gfn(gfn), PinMode::kMap);
    EXPECT_FALSE(result.pin) << gfn;
    EXPECT_FALSE(result.changing);
    EXPECT_EQ(table_.Find(Gfn(gfn)), nullptr);
  }
  Gfn next;
  ASSERT_TRUE(table_.NextBacked(Gfn(0), &next));
  EXPECT_EQ(next, Gfn(0x10));
  ASSERT_TRUE(table_.NextBacked(Gfn(0x1f), &next));
  EXPECT_EQ(next, Gfn(0x1f));
  ASSERT_TRUE(table_.NextBacked(Gfn(0x30), &next));
  EXPECT_EQ(next, Gfn(top - 1));
  EXPECT_FALSE(table_.NextBacked(Gfn(top), &next));
}

TEST_F(MemslotTableTest, AnEmptyTableBacksNothing) {
  Gfn next;
  EXPECT_FALSE(CanPin(0));
  EXPECT_FALSE(table_.NextBacked(Gfn(0), &next));
  EXPECT_TRUE(table_.Snapshot().empty());
}

TEST_F(MemslotTableTest, AnOverlapNamesBothMemslots) {
  ASSERT_TRUE(table_.Add(MakeMemslot("old", 0x10, 0x20)).ok());
  for (const auto& [first, end] : std::vector<std::pair<uint64_t, uint64_t>>{
           {0x0, 0x11}, {0x1f, 0x30}, {0x12, 0x13}, {0x0, 0x100}}) {
    const absl::Status status = table_.Add(MakeMemslot("new", first, end));
    EXPECT_EQ(ReasonOf(status), ErrorReason::kMemslotOverlap);
    EXPECT_EQ(MetadataOf(status, "memslot"), "new");
    EXPECT_EQ(MetadataOf(status, "otherMemslot"), "old");
    EXPECT_NE(status.message().find("\"old\""), absl::string_view::npos);
  }
  EXPECT_EQ(table_.Snapshot().size(), 1u);
  EXPECT_TRUE(table_.CheckAdd("next", {Gfn(0x20), Gfn(0x21)}).ok());
}

TEST_F(MemslotTableTest, TheNumberOfMemslotsIsLimited) {
  for (uint64_t i = 0; i < 4; ++i) {
    ASSERT_TRUE(table_.Add(MakeMemslot("m", i * 16, i * 16 + 16)).ok());
  }
  const absl::Status status = table_.Add(MakeMemslot("m", 0x100, 0x110));
  EXPECT_EQ(ReasonOf(status), ErrorReason::kLimitReached);
  EXPECT_EQ(MetadataOf(status, "limit"), "max_memslots");
  Remove(table_.Find(Gfn(0)));
  EXPECT_TRUE(table_.Add(MakeMemslot("m", 0x100, 0x110)).ok());
}

TEST_F(MemslotTableTest, AMemslotClosedForMapCanStillBeZapped) {
  const auto memslot = MakeMemslot("m", 0, 16);
  ASSERT_TRUE(table_.Add(memslot).ok());
  memslot->CloseForMap();
  const PinResult result = table_.Pin(Gfn(3), PinMode::kMap);
  EXPECT_FALSE(result.pin);
  EXPECT_TRUE(result.changing);
  EXPECT_TRUE(CanPin(3, PinMode::kUnmap));
  memslot->set_read_only(true);
  EXPECT_FALSE(memslot->writable());
  memslot->ReopenForMap();
  EXPECT_TRUE(CanPin(3, PinMode::kMap));
}

TEST_F(MemslotTableTest, ClosingForMapWaitsForMapPinsOnly) {
  const auto memslot = MakeMemslot("m", 0, 16);
  ASSERT_TRUE(table_.Add(memslot).ok());
  const PinResult unmap = table_.Pin(Gfn(0), PinMode::kUnmap);
  std::atomic<bool> closed{false};
  PinResult map = table_.Pin(Gfn(0), PinMode::kMap);
  Runner closer([&] {
    memslot->CloseForMap();
    closed.store(true);
  });
  while (CanPin(0)) std::this_thread::yield();
  closer.WaitUntilAsleep();
  EXPECT_FALSE(closed.load());
  map.pin.Reset();
  closer.Join();
  EXPECT_TRUE(closed.load());
}

TEST_F(MemslotTableTest, RemovingWaitsForEveryPin) {
  auto memslot = MakeMemslot("m", 0, 16);
  const std::weak_ptr<Memslot> watch = memslot;
  ASSERT_TRUE(table_.Add(memslot).ok());
  PinResult pin = table_.Pin(Gfn(0), PinMode::kUnmap);
  memslot->CloseForMap();
  std::atomic<bool> removed{false};
  Runner remover([&] {
    table_.Remove(memslot);
    removed.store(true);
  });
  // Unpublished first.
  while (table_.Find(Gfn(0)) != nullptr) std::this_thread::yield();
  remover.WaitUntilAsleep();
  EXPECT_FALSE(removed.load());
  EXPECT_EQ(pin.pin->range().size(), 16u);
  pin.pin.Reset();
  remover.Join();
  EXPECT_FALSE(CanPin(0, PinMode::kUnmap));
  memslot.reset();
  EXPECT_TRUE(watch.expired());
}

TEST_F(MemslotTableTest, AMovedMemslotKeepsItsBytes) {
  const auto memslot = MakeMemslot("m", 0x10, 0x20);
  ASSERT_TRUE(table_.Add(memslot).ok());
  ASSERT_TRUE(table_.Add(MakeMemslot("other", 0x40, 0x50)).ok());
  uint64_t written = 0;
  ASSERT_TRUE(memslot->WriteBytes(GpaOf(Gfn(0x11)), "bytes", &written).ok());
  memslot->CloseForMap();
  // Onto another: refused, nothing changes.
  EXPECT_EQ(ReasonOf(table_.Move(memslot, Gfn(0x3f), Pfn(0x3f))),
            ErrorReason::kMemslotOverlap);
  EXPECT_EQ(memslot->range().start, Gfn(0x10));
  // Behind the other, and then onto part of itself.
  ASSERT_TRUE(table_.Move(memslot, Gfn(0x100), Pfn(0x40100)).ok());
  ASSERT_TRUE(table_.Move(memslot, Gfn(0x108), Pfn(0x80108)).ok());
  EXPECT_TRUE(memslot->closed_for_map());
  memslot->ReopenForMap();
  EXPECT_EQ(memslot->base_pfn(), Pfn(0x80108));
  EXPECT_FALSE(CanPin(0x10));
  EXPECT_TRUE(CanPin(0x117));
  EXPECT_EQ(table_.Snapshot()[1], memslot);
  char bytes[5];
  ASSERT_TRUE(
      memslot->ReadBytes(GpaOf(Gfn(0x109)), absl::MakeSpan(bytes)).ok());
  EXPECT_EQ(absl::string_view(bytes, 5), "bytes");
}

// Two threads pin what they find while memslots come, move and go. Whoever has
// a pin finds the frame in its memslot, for as long as it holds the pin.
TEST_F(MemslotTableTest, APinnedMemslotNeitherMovesNorGoes) {
  std::atomic<bool> stop{false};
  std::atomic<int> failures{0};
  std::atomic<int> pins{0};
  const auto look = [&](PinMode mode) {
    for (uint64_t i = 0; !stop.load(); ++i) {
      const Gfn gfn(i % 64);
      const PinResult result = table_.Pin(gfn, mode);
      if (!result.pin) continue;
      ++pins;
      for (int j = 0; j < 3; ++j) {
        if (!result.pin->range().Contains(gfn)) ++failures;
        HostFrame frame;
        if (!result.pin->Inspect({gfn, gfn + 1}, absl::MakeSpan(&frame, 1))
                 .ok()) {
          ++failures;
        }
      }
    }
  };
  Runner mapper([&] { look(PinMode::kMap); });
  Runner zapper([&] { look(PinMode::kUnmap); });
  for (uint64_t i = 0; i < 200 || pins.load() < 100; ++i) {
    auto memslot = MakeMemslot("m", i % 48, i % 48 + 16);
    ASSERT_TRUE(table_.Add(memslot).ok());
    if (i % 2 == 0) {
      const uint64_t target = (i * 7) % 48;
      memslot->CloseForMap();
      ASSERT_TRUE(table_.Move(memslot, Gfn(target), Pfn(target)).ok());
      memslot->ReopenForMap();
    }
    Remove(memslot);
    const std::weak_ptr<Memslot> watch = memslot;
    memslot.reset();
    EXPECT_TRUE(watch.expired());
  }
  stop.store(true);
  mapper.Join();
  zapper.Join();
  EXPECT_EQ(failures.load(), 0);
}

}  // namespace
}  // namespace tdp
