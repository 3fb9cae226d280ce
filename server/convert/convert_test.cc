// Conversions in both directions: what is kept, what is refused.

#include <functional>
#include <limits>
#include <string>
#include <variant>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "gtest/gtest.h"
#include "server/convert/common_convert.h"
#include "server/convert/event_convert.h"
#include "server/convert/image_path.h"
#include "server/convert/memslot_convert.h"
#include "server/convert/mmu_convert.h"
#include "server/convert/vcpu_convert.h"
#include "server/convert/vm_convert.h"

namespace tdp::server {
namespace {

// The field that a FIELD_INVALID error names, or what else it is.
std::string FieldOf(const absl::Status& status) {
  if (status.ok()) return "(ok)";
  const auto detail = DetailOf(status);
  if (!detail || detail->reason != ErrorReason::kFieldInvalid) {
    return status.ToString();
  }
  for (const auto& [key, value] : detail->metadata) {
    if (key == "field") return value;
  }
  return "(none)";
}

TEST(CommonConvertTest, KeepsTimesToTheNanosecond) {
  google::protobuf::Timestamp out;
  ToProto(absl::FromUnixNanos(1500000000000000001), &out);
  EXPECT_EQ(out.seconds(), 1500000000);
  EXPECT_EQ(out.nanos(), 1);
  ToProto(absl::FromUnixNanos(-1), &out);
  EXPECT_EQ(out.seconds(), -1);
  EXPECT_EQ(out.nanos(), 999999999);
}

TEST(CommonConvertTest, KeepsDurationsToTheNanosecond) {
  google::protobuf::Duration out;
  ToProto(absl::Seconds(3) + absl::Nanoseconds(999999999), &out);
  EXPECT_EQ(out.seconds(), 3);
  EXPECT_EQ(out.nanos(), 999999999);
  ToProto(absl::ZeroDuration(), &out);
  EXPECT_EQ(out.seconds(), 0);
  EXPECT_EQ(out.nanos(), 0);
}

TEST(CommonConvertTest, TellsNoAccessFromAMissingOne) {
  v1::Access access;
  EXPECT_EQ(FieldOf(AccessFrom("access", false, access).status()), "access");
  EXPECT_EQ(*AccessFrom("access", true, access), Access());
  access.set_write(true);
  EXPECT_EQ(*AccessFrom("access", true, access),
            (Access{.read = false, .write = true}));
}

TEST(CommonConvertTest, RefusesMissingEmptyAndReversedRanges) {
  v1::GfnRange range;
  EXPECT_EQ(FieldOf(RangeFrom("range", false, range).status()), "range");
  EXPECT_EQ(FieldOf(RangeFrom("range", true, range).status()), "range.end_gfn");
  range.set_start_gfn(5);
  range.set_end_gfn(5);
  EXPECT_FALSE(RangeFrom("range", true, range).ok());
  range.set_end_gfn(4);
  EXPECT_FALSE(RangeFrom("range", true, range).ok());
  range.set_end_gfn(6);
  EXPECT_EQ(*RangeFrom("range", true, range), (GfnRange{Gfn(5), Gfn(6)}));
  range.set_end_gfn(std::numeric_limits<uint64_t>::max());
  EXPECT_TRUE(RangeFrom("range", true, range).ok()) << "the engine's question";
}

TEST(CommonConvertTest, TakesTheLevelsThatAMethodTakes) {
  EXPECT_EQ(*SmallLevelFrom("max_level", v1::PAGE_LEVEL_UNSPECIFIED), 0);
  EXPECT_EQ(*SmallLevelFrom("max_level", v1::PAGE_LEVEL_4K), 1);
  EXPECT_EQ(*SmallLevelFrom("max_level", v1::PAGE_LEVEL_2M), 2);
  for (int level : {3, 4, 5, 6, 99, -1, std::numeric_limits<int>::min()}) {
    EXPECT_EQ(
        FieldOf(SmallLevelFrom("max_level", static_cast<v1::PageLevel>(level))
                    .status()),
        "max_level")
        << level;
  }
  EXPECT_EQ(*LevelFrom("min_level", v1::PAGE_LEVEL_UNSPECIFIED, PageLevel::k4K),
            PageLevel::k4K);
  for (int level = 1; level <= 5; ++level) {
    EXPECT_EQ(
        static_cast<int>(*LevelFrom(
            "min_level", static_cast<v1::PageLevel>(level), PageLevel::k4K)),
        level);
  }
  for (int level = 0; level <= 5; ++level) {
    EXPECT_EQ(*LevelNumberFrom("min_level", static_cast<v1::PageLevel>(level)),
              level);
  }
  for (int level : {6, 99, -1}) {
    EXPECT_EQ(
        FieldOf(LevelNumberFrom("min_level", static_cast<v1::PageLevel>(level))
                    .status()),
        "min_level");
    EXPECT_EQ(FieldOf(LevelFrom("min_level", static_cast<v1::PageLevel>(level),
                                PageLevel::k4K)
                          .status()),
              "min_level");
  }
}

TEST(ImagePathTest, TakesPathsBelowTheFolderOnly) {
  for (const char* path : {"a", "a/b.img", "..a/b", "a..", "./a"}) {
    EXPECT_TRUE(CheckImagePath("path", path).ok()) << path;
  }
  for (const std::string& path :
       {std::string(), std::string("/etc/passwd"), std::string(".."),
        std::string("../a"), std::string("a/.."), std::string("a/../../b"),
        std::string("a\0b", 3), std::string(1025, 'a')}) {
    EXPECT_EQ(FieldOf(CheckImagePath("path", path)), "path") << path;
  }
}

v1::Vm GoodVm() {
  v1::Vm vm;
  vm.set_vcpu_count(2);
  vm.set_page_table_limit_bytes(1 << 20);
  (*vm.mutable_labels())["owner"] = "me";
  vm.set_hypervisor(v1::Vm::HYPERVISOR_SOFTWARE);
  vm.set_root_level(5);
  return vm;
}

TEST(VmConvertTest, RoundTripsAVm) {
  VmInfo info;
  info.id = "a";
  info.config = *VmConfigFrom(GoodVm());
  info.state = VmState::kPaused;
  info.create_time = absl::FromUnixSeconds(7);
  info.etag = "e";
  v1::Vm out;
  ToProto(info, &out);
  v1::Vm expected = GoodVm();
  expected.set_name("vms/a");
  expected.set_state(v1::Vm::STATE_PAUSED);
  expected.mutable_create_time()->set_seconds(7);
  expected.set_etag("e");
  EXPECT_EQ(out.DebugString(), expected.DebugString());
}

TEST(VmConvertTest, RefusesBadFieldsByName) {
  const std::pair<const char*, std::function<void(v1::Vm&)>> kCases[] = {
      {"vm.vcpu_count", [](v1::Vm& vm) { vm.set_vcpu_count(0); }},
      {"vm.vcpu_count", [](v1::Vm& vm) { vm.set_vcpu_count(-1); }},
      {"vm.vcpu_count", [](v1::Vm& vm) { vm.set_vcpu_count(65); }},
      {"vm.page_table_limit_bytes",
       [](v1::Vm& vm) { vm.set_page_table_limit_bytes(-1); }},
      {"vm.page_table_limit_bytes",
       [](v1::Vm& vm) { vm.set_page_table_limit_bytes(65535); }},
      {"vm.labels", [](v1::Vm& vm) { (*vm.mutable_labels())[""] = "x"; }},
      {"vm.labels",
       [](v1::Vm& vm) { (*vm.mutable_labels())["x"] = std::string(256, 'x'); }},
      {"vm.labels",
       [](v1::Vm& vm) {
         for (int i = 0; i < 64; ++i) {
           (*vm.mutable_labels())[absl::StrCat(i)] = "x";
         }
       }},
      {"vm.hypervisor",
       [](v1::Vm& vm) {
         vm.set_hypervisor(static_cast<v1::Vm::Hypervisor>(3));
       }},
      {"vm.root_level", [](v1::Vm& vm) { vm.set_root_level(3); }},
      {"vm.root_level", [](v1::Vm& vm) { vm.set_root_level(-4); }},
  };
  for (const auto& [field, spoil] : kCases) {
    v1::Vm vm = GoodVm();
    spoil(vm);
    EXPECT_EQ(FieldOf(VmConfigFrom(vm).status()), field) << vm.DebugString();
  }
}

v1::Memslot GoodMemslot() {
  v1::Memslot memslot;
  memslot.set_base_gfn(512);
  memslot.set_frame_count(1024);
  memslot.set_read_only(true);
  memslot.set_dirty_log_enabled(true);
  memslot.set_host_page_level(v1::PAGE_LEVEL_2M);
  memslot.mutable_source()->set_path("a/b");
  memslot.mutable_source()->set_offset_bytes(4096);
  memslot.set_fault_policy(v1::FAULT_POLICY_WAIT);
  memslot.set_dirty_mode(v1::DIRTY_MODE_HARVEST);
  memslot.set_map_around_frame_count(16);
  memslot.set_dirty_log_initially_set(true);
  return memslot;
}

TEST(MemslotConvertTest, RoundTripsAMemslot) {
  const MemslotInfo info{"b", *MemslotConfigFrom(GoodMemslot()), "e"};
  v1::Memslot out;
  ToProto("a", info, &out);
  v1::Memslot expected = GoodMemslot();
  expected.set_name("vms/a/memslots/b");
  expected.set_etag("e");
  EXPECT_EQ(out.DebugString(), expected.DebugString());
}

TEST(MemslotConvertTest, RefusesBadFieldsByName) {
  const std::pair<const char*, std::function<void(v1::Memslot&)>> kCases[] = {
      {"memslot.frame_count",
       [](v1::Memslot& slot) { slot.set_frame_count(0); }},
      {"memslot.frame_count",
       [](v1::Memslot& slot) { slot.set_frame_count(-1); }},
      {"memslot.frame_count",
       [](v1::Memslot& slot) {
         slot.set_frame_count(limits::kMaxMemslotFrames + 1);
       }},
      {"memslot.host_page_level",
       [](v1::Memslot& slot) { slot.set_host_page_level(v1::PAGE_LEVEL_1G); }},
      {"memslot.source.path",
       [](v1::Memslot& slot) { slot.mutable_source()->set_path("../x"); }},
      {"memslot.source.offset_bytes",
       [](v1::Memslot& slot) { slot.mutable_source()->set_offset_bytes(1); }},
      {"memslot.source.offset_bytes",
       [](v1::Memslot& slot) {
         slot.mutable_source()->set_offset_bytes(-4096);
       }},
      {"memslot.fault_policy",
       [](v1::Memslot& slot) {
         slot.set_fault_policy(static_cast<v1::FaultPolicy>(3));
       }},
      {"memslot.dirty_mode",
       [](v1::Memslot& slot) {
         slot.set_dirty_mode(static_cast<v1::DirtyMode>(-1));
       }},
      {"memslot.map_around_frame_count",
       [](v1::Memslot& slot) { slot.set_map_around_frame_count(-1); }},
  };
  for (const auto& [field, spoil] : kCases) {
    v1::Memslot memslot = GoodMemslot();
    spoil(memslot);
    EXPECT_EQ(FieldOf(MemslotConfigFrom(memslot).status()), field)
        << memslot.DebugString();
  }
}

TEST(MemslotConvertTest, UpdatesWhatTheMaskNames) {
  google::protobuf::FieldMask mask;
  mask.add_paths("read_only");
  MemslotUpdate update = *MemslotUpdateFrom(GoodMemslot(), mask);
  EXPECT_EQ(update.read_only, true);
  EXPECT_FALSE(update.base_gfn || update.dirty_log_enabled ||
               update.fault_policy || update.map_around_frame_count ||
               update.dirty_log_initially_set);
  mask.set_paths(0, "*");
  update = *MemslotUpdateFrom(GoodMemslot(), mask);
  EXPECT_TRUE(update.base_gfn && update.read_only && update.dirty_log_enabled &&
              update.fault_policy && update.map_around_frame_count &&
              update.dirty_log_initially_set);
  v1::Memslot bad = GoodMemslot();
  bad.set_fault_policy(static_cast<v1::FaultPolicy>(9));
  EXPECT_FALSE(MemslotUpdateFrom(bad, mask).ok());
  mask.set_paths(0, "read_only");
  EXPECT_TRUE(MemslotUpdateFrom(bad, mask).ok())
      << "a field that is not written is not looked at";
}

TEST(VcpuConvertTest, TakesEachGuest) {
  v1::Guest guest;
  guest.mutable_touch()->mutable_range()->set_end_gfn(10);
  guest.mutable_touch()->set_pattern(v1::TouchGuest::PATTERN_UNIFORM);
  guest.mutable_touch()->set_write(true);
  guest.mutable_touch()->set_pass_count(-1);
  guest.mutable_touch()->set_seed(7);
  const auto touch = std::get<TouchGuestConfig>(*GuestFrom(guest));
  EXPECT_EQ(touch.range, (GfnRange{Gfn(0), Gfn(10)}));
  EXPECT_EQ(touch.pattern, TouchPattern::kUniform);
  EXPECT_TRUE(touch.write);
  EXPECT_EQ(touch.pass_count, -1);
  EXPECT_EQ(touch.seed, 7u);

  guest.mutable_code()->set_code("\xf4");
  guest.mutable_code()->set_entry_gpa(0x1000);
  EXPECT_EQ(std::get<CodeGuestConfig>(*GuestFrom(guest)).mode, CodeMode::kLong);
  guest.mutable_code()->set_mode(v1::CodeGuest::MODE_REAL);
  const auto code = std::get<CodeGuestConfig>(*GuestFrom(guest));
  EXPECT_EQ(code.mode, CodeMode::kReal);
  EXPECT_EQ(code.code, "\xf4");
  EXPECT_EQ(code.entry_gpa, Gpa(0x1000));

  guest.mutable_elf()->set_path("a.elf");
  EXPECT_EQ(std::get<ElfGuestConfig>(*GuestFrom(guest)).path, "a.elf");
}

TEST(VcpuConvertTest, RefusesBadGuestsByField) {
  v1::Guest guest;
  EXPECT_EQ(FieldOf(GuestFrom(guest).status()), "guest");
  guest.mutable_touch();
  EXPECT_EQ(FieldOf(GuestFrom(guest).status()), "guest.touch.range");
  guest.mutable_touch()->mutable_range()->set_end_gfn(1);
  guest.mutable_touch()->set_pass_count(-2);
  EXPECT_EQ(FieldOf(GuestFrom(guest).status()), "guest.touch.pass_count");
  guest.mutable_touch()->set_pattern(static_cast<v1::TouchGuest::Pattern>(5));
  EXPECT_EQ(FieldOf(GuestFrom(guest).status()), "guest.touch.pattern");
  guest.mutable_code();
  EXPECT_EQ(FieldOf(GuestFrom(guest).status()), "guest.code.code");
  guest.mutable_code()->set_code(std::string((1 << 20) + 1, 'x'));
  EXPECT_EQ(FieldOf(GuestFrom(guest).status()), "guest.code.code");
  guest.mutable_code()->set_code("x");
  guest.mutable_code()->set_mode(static_cast<v1::CodeGuest::Mode>(3));
  EXPECT_EQ(FieldOf(GuestFrom(guest).status()), "guest.code.mode");
  guest.mutable_elf()->set_path("/etc/passwd");
  EXPECT_EQ(FieldOf(GuestFrom(guest).status()), "guest.elf.path");
}

TEST(VcpuConvertTest, ShowsAVcpu) {
  VcpuInfo info;
  info.index = 3;
  info.state = VcpuState::kWaiting;
  info.exit_reason = "HLT";
  info.instruction_pointer = 0x7c00;
  info.console = "hi";
  info.touched_frame_count = 9;
  info.waiting_access = WaitingAccess{
      11, Gfn(12), {true, false}, 3, WaitCause::kSourceFailed, "EIO"};
  v1::Vcpu out;
  ToProto("a", info, &out);
  EXPECT_EQ(out.name(), "vms/a/vcpus/3");
  EXPECT_EQ(out.state(), v1::Vcpu::STATE_WAITING);
  EXPECT_EQ(out.exit_reason(), "HLT");
  EXPECT_EQ(out.instruction_pointer(), 0x7c00u);
  EXPECT_EQ(out.console(), "hi");
  EXPECT_EQ(out.touched_frame_count(), 9);
  EXPECT_EQ(out.waiting_access().access_id(), 11);
  EXPECT_EQ(out.waiting_access().cause(),
            v1::AccessWaiting::CAUSE_SOURCE_FAILED);
}

TEST(MmuConvertTest, ShowsALeafInFullAndATableInShort) {
  SpteView view;
  view.level = PageLevel::k2M;
  view.base_gfn = Gfn(512);
  view.raw = 0xabc;
  view.present = view.leaf = true;
  view.pfn = Pfn(99);
  view.access = {true, true};
  view.accessed = view.dirty = view.host_writable = view.mmu_writable = true;
  v1::Spte leaf;
  ToProto(view, &leaf);
  EXPECT_EQ(leaf.level(), v1::PAGE_LEVEL_2M);
  EXPECT_EQ(leaf.base_gfn(), 512u);
  EXPECT_EQ(leaf.raw(), 0xabcu);
  EXPECT_EQ(leaf.pfn(), 99u);
  EXPECT_TRUE(leaf.present() && leaf.leaf() && leaf.access().read() &&
              leaf.access().write() && leaf.accessed() && leaf.dirty() &&
              leaf.host_writable() && leaf.mmu_writable());
  view.leaf = false;
  v1::Spte table;
  ToProto(view, &table);
  EXPECT_TRUE(table.present());
  EXPECT_EQ(table.pfn(), 0u);
  EXPECT_FALSE(table.has_access());
}

TEST(MmuConvertTest, ShowsYoungFramesWhereThereIsABitmap) {
  AgeResult result;
  result.next_gfn = Gfn(9);
  result.young_frame_count = 8;
  v1::AgeRangeResponse out;
  ToProto(result, &out);
  EXPECT_EQ(out.next_gfn(), 9u);
  EXPECT_EQ(out.young_frame_count(), 8);
  EXPECT_FALSE(out.has_young());
  result.young = FrameBitmap{Gfn(64), 3, "\x05"};
  ToProto(result, &out);
  EXPECT_EQ(out.young().first_gfn(), 64u);
  EXPECT_EQ(out.young().frame_count(), 3);
  EXPECT_EQ(out.young().bits(), "\x05");
}

TEST(MmuConvertTest, ShowsAudits) {
  AuditResult result;
  result.next_gfn = Gfn(7);
  result.compared_frame_count = 6;
  result.divergent_frame_count = 5;
  result.host_stricter_frame_count = 4;
  result.divergences.push_back({Gfn(3), SpteView(), true, false});
  v1::AuditRangeResponse out;
  ToProto(result, &out);
  EXPECT_EQ(out.next_gfn(), 7u);
  EXPECT_EQ(out.compared_frame_count(), 6);
  EXPECT_EQ(out.divergent_frame_count(), 5);
  EXPECT_EQ(out.host_stricter_frame_count(), 4);
  ASSERT_EQ(out.divergences_size(), 1);
  EXPECT_EQ(out.divergences(0).gfn(), 3u);
  EXPECT_TRUE(out.divergences(0).host_present());
}

// Every counter has its own value, so that no two can be mixed up.
TEST(MmuConvertTest, ShowsEveryStatistic) {
  VmStats stats;
  int64_t next = 1;
  for (int64_t* counter :
       {&stats.leaf_4k_count, &stats.leaf_2m_count, &stats.leaf_1g_count,
        &stats.page_table_bytes, &stats.deferred_free_count,
        &stats.fault_fixed_count, &stats.fault_spurious_count,
        &stats.fault_retry_count, &stats.host_call_count, &stats.yield_count,
        &stats.fault_write_protected_count, &stats.fault_unbacked_count,
        &stats.fault_source_error_count, &stats.waiting_access_count}) {
    *counter = next++;
  }
  stats.exclusive_hold_count = 101;
  stats.exclusive_hold_nanoseconds = 102;
  stats.fault_outcomes.push_back({"fixed", 3, {1, 2, 0}});
  v1::VmStats out;
  ToProto(stats, &out);
  // Fields 2 to 15 hold 1 to 14, in this order.
  for (int64_t i = 1; i < next; ++i) {
    const auto* field =
        v1::VmStats::descriptor()->FindFieldByNumber(static_cast<int>(i) + 1);
    ASSERT_NE(field, nullptr);
    EXPECT_EQ(out.GetReflection()->GetInt64(out, field), i) << field->name();
  }
  EXPECT_EQ(out.exclusive_hold_count(), 101);
  EXPECT_EQ(out.exclusive_hold_ns(), 102);
  ASSERT_EQ(out.fault_outcomes_size(), 1);
  EXPECT_EQ(out.fault_outcomes(0).outcome(), "fixed");
  EXPECT_EQ(out.fault_outcomes(0).latency_us_log2_counts_size(), 3);
}

TEST(EventConvertTest, ShowsEachKindOfEvent) {
  const auto convert = [](decltype(Event::detail) detail) {
    v1::Event out;
    ToProto("a", Event{5, absl::FromUnixSeconds(6), std::move(detail)}, &out);
    EXPECT_EQ(out.sequence(), 5);
    EXPECT_EQ(out.event_time().seconds(), 6);
    return out;
  };
  const v1::Event state =
      convert(VmStateChangedEvent{VmState::kCreated, VmState::kRunning});
  EXPECT_EQ(state.vm_state_changed().old_state(), v1::Vm::STATE_CREATED);
  EXPECT_EQ(state.vm_state_changed().new_state(), v1::Vm::STATE_RUNNING);
  const v1::Event memslot = convert(MemslotChangedEvent{"b", true});
  EXPECT_EQ(memslot.memslot_changed().memslot(), "vms/a/memslots/b");
  EXPECT_TRUE(memslot.memslot_changed().deleted());
  const v1::Event unbacked =
      convert(UnbackedAccessEvent{Gfn(8), {false, true}});
  EXPECT_EQ(unbacked.unbacked_access().gfn(), 8u);
  EXPECT_TRUE(unbacked.unbacked_access().access().write());
  const v1::Event waiting = convert(
      WaitingAccess{1, Gfn(2), {true, false}, 3, WaitCause::kProtection, "x"});
  EXPECT_EQ(waiting.access_waiting().cause(),
            v1::AccessWaiting::CAUSE_PROTECTION);
  const v1::Event exited = convert(VcpuExitedEvent{4, "HLT"});
  EXPECT_EQ(exited.vcpu_exited().vcpu_index(), 4);
  EXPECT_EQ(exited.vcpu_exited().reason(), "HLT");
}

}  // namespace
}  // namespace tdp::server
