#include "engine/testing/mmu_fixture.h"

#include <sched.h>

#include <map>
#include <thread>

#include "engine/testing/event.h"
#include "engine/testing/tree_check.h"

namespace tdp::testing {

void TdpMmuTest::Start(PageLevel root_level, int64_t page_table_limit_bytes) {
  absl::StatusOr<std::unique_ptr<TdpMmu>> mmu =
      TdpMmu::Create(rcu_, backings_, root_level, page_table_limit_bytes);
  ASSERT_TRUE(mmu.ok()) << mmu.status();
  mmu_ = *std::move(mmu);
  host().set_is_frozen(
      [this](Gfn gfn) { return TdpMmuPeer::IsFrozen(*mmu_, gfn); });
}

void TdpMmuTest::TearDown() {
  if (mmu_ == nullptr) return;
  host().ClearHook();
  ExpectConsistent(host_at_end_);
  ZapAll();
  ExpectConsistent(HostMustBe::kEqual);
  for (const auto& slot : backings_.slots()) {
    for (Gfn gfn = slot->range().start; gfn < slot->range().end; gfn += 1) {
      ASSERT_FALSE(slot->At(gfn).present) << gfn.value();
    }
  }
  rcu_.Barrier();
  EXPECT_EQ(mmu_->page_table_bytes(), static_cast<int64_t>(kPageSize));
  EXPECT_EQ(TdpMmuPeer::Pool(*mmu_).used_count(), 1);
  mmu_.reset();
  EXPECT_THAT(host().violations(), ::testing::IsEmpty());
}

FakeBacking& TdpMmuTest::AddSlot(uint64_t start, uint64_t frames,
                                 PageLevel max_fault_level, bool writable) {
  return backings_.Add({.range = {Gfn(start), Gfn(start + frames)},
                        .writable = writable,
                        .max_fault_level = max_fault_level});
}

MmuProgress TdpMmuTest::Map(uint64_t start, uint64_t end, MapOptions options) {
  return mmu_->MapRange(Frames(start, end), options, [] { return false; });
}

MmuProgress TdpMmuTest::Zap(uint64_t start, uint64_t end) {
  return mmu_->ZapRange(Frames(start, end), [] { return false; });
}

void TdpMmuTest::ZapAll() {
  ASSERT_TRUE(mmu_->InvalidateRoots().ok());
  const absl::Status zapped = mmu_->ZapInvalidatedRoots();
  ASSERT_TRUE(zapped.ok()) << zapped;
}

void TdpMmuTest::InstallGiantLeaf(FakeBacking& slot, Gfn gfn, bool writable) {
  const GfnRange covered = {gfn, gfn + FramesPerEntry(PageLevel::k1G)};
  ASSERT_TRUE(slot.range().Contains(covered));
  slot.SetHost(covered, {.present = true, .writable = writable});
  TdpMmuPeer::InstallLeaf(
      *mmu_, gfn, PageLevel::k1G,
      Spte::MakeLeaf({.pfn = PfnOf(gfn, slot.range(), slot.base_pfn()),
                      .writable = writable,
                      .mmu_writable = slot.writable(),
                      .host_writable = slot.writable(),
                      .accessed = true},
                     PageLevel::k1G));
}

void TdpMmuTest::ExpectTableFrozenBy(uint64_t gfn,
                                     const std::function<void()>& unlink) {
  Event inside;
  Event unlinked;
  std::thread reader([&] {
    RcuReadGuard rcu(rcu_);
    PageTable* table = TdpMmuPeer::LastTable(*mmu_, Gfn(gfn));
    inside.Set();
    EXPECT_TRUE(unlinked.Wait());
    for (int i = 0; i < kEntriesPerTable; ++i) {
      ASSERT_THAT(ReadSpte(table->EntryAt(i)), IsFrozenEntry()) << i;
    }
  });
  EXPECT_TRUE(inside.Wait());
  unlink();
  unlinked.Set();
  reader.join();
}

void TdpMmuTest::SlowHost() {
  host().set_hook([](const HostCall& call) {
    for (int64_t i = 0; i <= call.number % 3; ++i) sched_yield();
    return HostFailure{};
  });
}

int64_t TdpMmuTest::Leaves(PageLevel level) {
  switch (level) {
    case PageLevel::k4K:
      return mmu_->Read(MmuCounter::kLeaf4K);
    case PageLevel::k2M:
      return mmu_->Read(MmuCounter::kLeaf2M);
    default:
      return mmu_->Read(MmuCounter::kLeaf1G);
  }
}

std::vector<AuditFinding> TdpMmuTest::Audit() {
  std::vector<AuditFinding> findings;
  const AuditProgress progress = mmu_->AuditRange(
      mmu_->span(), [] { return false; },
      [&](const AuditFinding& finding) { findings.push_back(finding); });
  EXPECT_TRUE(progress.status.ok()) << progress.status;
  EXPECT_EQ(progress.next_gfn, mmu_->span().end);
  return findings;
}

void TdpMmuTest::ExpectConsistent(HostMustBe host_must_be) {
  std::map<uint64_t, HostFrame> granted;
  int64_t tables = 0;
  int64_t leaves[static_cast<int>(kMaxLeafLevel) + 1] = {};
  for (const TdpRoot& root : TdpMmuPeer::Roots(*mmu_)) {
    const TreeCensus census =
        CheckTree(rcu_, root.tree(), [&](Gfn gfn, PageLevel level, Spte spte) {
          const FakeBacking* slot = backings_.Find(gfn);
          ASSERT_NE(slot, nullptr) << gfn.value();
          ASSERT_TRUE(slot->range().Contains(
              GfnRange{gfn, gfn + FramesPerEntry(level)}));
          ASSERT_EQ(spte.pfn(), PfnOf(gfn, slot->range(), slot->base_pfn()));
          ASSERT_EQ(spte.IsHostWritable(), slot->writable());
          const Spte limited = spte.WithLimit(mmu_->LimitOf(gfn));
          ASSERT_EQ(limited.IsMmuWritable() || !spte.IsMmuWritable(), true)
              << "frame " << gfn.value() << " is granted more than its limit";
          ASSERT_EQ(limited.IsReadable() || !spte.IsReadable(), true)
              << "frame " << gfn.value() << " is granted more than its limit";
          if (host_must_be == HostMustBe::kEqual) {
            ASSERT_EQ(spte, limited)
                << "frame " << gfn.value() << " is granted less than its limit";
          }
          for (uint64_t i = 0; i < FramesPerEntry(level); ++i) {
            const bool first = granted
                                   .insert({gfn.value() + i,
                                            {.present = spte.IsHostMapped(),
                                             .writable = spte.IsHostMapped() &&
                                                         spte.IsWritable()}})
                                   .second;
            ASSERT_TRUE(first) << "two entries for frame " << gfn.value() + i;
          }
        });
    EXPECT_THAT(census.faults, ::testing::IsEmpty())
        << DumpTree(rcu_, root.tree());
    tables += census.tables;
    for (int level = 1; level <= static_cast<int>(kMaxLeafLevel); ++level) {
      leaves[level] += census.leaves[level];
    }
  }
  EXPECT_EQ(mmu_->Read(MmuCounter::kLinkedTables), tables);
  EXPECT_EQ(Leaves(PageLevel::k4K), leaves[1]);
  EXPECT_EQ(Leaves(PageLevel::k2M), leaves[2]);
  EXPECT_EQ(Leaves(PageLevel::k1G), leaves[3]);
  for (const auto& slot : backings_.slots()) {
    for (Gfn gfn = slot->range().start; gfn < slot->range().end; gfn += 1) {
      const HostFrame host = slot->At(gfn);
      const auto found = granted.find(gfn.value());
      const HostFrame entry =
          found == granted.end() ? HostFrame{} : found->second;
      ASSERT_TRUE(!host.present || entry.present) << gfn.value();
      ASSERT_TRUE(!host.writable || entry.writable) << gfn.value();
      if (host_must_be == HostMustBe::kEqual) {
        ASSERT_EQ(host.present, entry.present) << gfn.value();
        ASSERT_EQ(host.writable, entry.writable) << gfn.value();
      }
    }
  }
}

}  // namespace tdp::testing
