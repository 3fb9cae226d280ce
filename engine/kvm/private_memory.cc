#include "engine/kvm/private_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace tdp {
namespace {

constexpr uint64_t kPresent = 1;
constexpr uint64_t kWritable = 2;
constexpr uint64_t kAccessed = 0x20;
constexpr uint64_t kDirty = 0x40;
constexpr uint64_t kLargePage = 0x80;
// Accessed and dirty in advance: nobody has to write to the tables.
constexpr uint64_t kTableBits = kPresent | kWritable | kAccessed;
constexpr uint64_t kLeafBits = kTableBits | kDirty | kLargePage;
constexpr uint64_t kAddressMask = 0x000ffffffffff000;

// Flat descriptors: base 0, limit 4 GiB, present, ring 0, accessed.
constexpr uint64_t kGdt[] = {
    0,
    0x00af9b000000ffff,  // kCodeSelector: 64-bit code
    0x00cf93000000ffff,  // kDataSelector
};

constexpr Gfn kLowHalfEnd = GfnOf(Gpa(kCanonicalLowHalfEnd));

}  // namespace

absl::StatusOr<std::unique_ptr<PrivateMemory>> PrivateMemory::Create(
    Gpa base, int vcpu_count) {
  void* memory = mmap(nullptr, kPrivateBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    return MakeError(ErrorReason::kHostMemoryExhausted,
                     absl::StrCat("mmap() of a VM's private memory: ",
                                  strerror(errno), "; free memory"),
                     {{"sizeBytes", absl::StrCat(kPrivateBytes)}});
  }
  madvise(memory, kPrivateBytes, MADV_DONTFORK);
  // Most of it stays unused: a huge page would make it all real.
  madvise(memory, kPrivateBytes, MADV_NOHUGEPAGE);
  std::unique_ptr<PrivateMemory> result(
      new PrivateMemory(base, static_cast<uint8_t*>(memory)));
  // Written once, so that no vCPU has to wait for it.
  memset(result->memory_ + kTouchBlockOffset, 0,
         vcpu_count * kTouchBlockStride);
  memset(result->memory_ + kStackOffset, 0, vcpu_count * kStackBytes);
  return result;
}

PrivateMemory::~PrivateMemory() { munmap(memory_, kPrivateBytes); }

absl::Status PrivateMemory::Install(KvmVm& vm, uint32_t slot_id,
                                    absl::Span<const GfnRange> ranges) {
  absl::Status status = Remove(vm);
  if (!status.ok()) return status;
  status = BuildIdentityMap(ranges);
  if (!status.ok()) return status;
  WriteGdt();
  const absl::Span<const uint8_t> program = TouchProgramCode();
  std::copy(program.begin(), program.end(), memory_ + kTouchProgramOffset);
  status = vm.SetMemslot(
      {.id = slot_id, .gpa = base_, .size = kPrivateBytes, .hva = hva()});
  if (!status.ok()) return status;
  installed_ = true;
  slot_id_ = slot_id;
  return absl::OkStatus();
}

absl::Status PrivateMemory::Remove(KvmVm& vm) {
  if (!installed_) return absl::OkStatus();
  const absl::Status status = vm.DeleteMemslot(slot_id_);
  if (status.ok()) installed_ = false;
  return status;
}

Hva PrivateMemory::hva() const {
  return Hva(reinterpret_cast<uintptr_t>(memory_));
}

Gpa PrivateMemory::stack_top(int vcpu_index) const {
  return base_ + kStackOffset + (vcpu_index + 1) * kStackBytes;
}

Gpa PrivateMemory::touch_block_gpa(int vcpu_index) const {
  return base_ + kTouchBlockOffset + vcpu_index * kTouchBlockStride;
}

TouchBlock* PrivateMemory::touch_block(int vcpu_index) const {
  return reinterpret_cast<TouchBlock*>(memory_ + kTouchBlockOffset +
                                       vcpu_index * kTouchBlockStride);
}

absl::Status PrivateMemory::BuildIdentityMap(
    absl::Span<const GfnRange> ranges) {
  memset(memory_ + kPageTableRootOffset, 0, kPageSize);
  next_table_offset_ = kTablesOffset;
  const GfnRange own = {GfnOf(base_), GfnOf(base_ + kPrivateBytes)};
  std::vector<GfnRange> all(ranges.begin(), ranges.end());
  all.push_back(own);
  for (const GfnRange& range : all) {
    if (range.end > kLowHalfEnd) {
      return InternalError("an identity map ends below the canonical hole",
                           {{"endGfn", Hex(range.end.value())}});
    }
    for (Gfn gfn = AlignDown(range.start, PageLevel::k2M); gfn < range.end;
         gfn += FramesPerEntry(PageLevel::k2M)) {
      const absl::Status status = MapLargePage(GpaOf(gfn));
      if (!status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

absl::Status PrivateMemory::MapLargePage(Gpa gpa) {
  uint64_t* table = reinterpret_cast<uint64_t*>(memory_ + kPageTableRootOffset);
  for (const PageLevel level : {PageLevel::k512G, PageLevel::k1G}) {
    table = TableBelow(table, IndexIn(GfnOf(gpa), level));
    if (table == nullptr) {
      return LimitError(
          "identity_map_bytes", kPrivateBytes - kTablesOffset,
          "give the VM smaller or fewer memslots, or run the guest in real "
          "mode");
    }
  }
  table[IndexIn(GfnOf(gpa), PageLevel::k2M)] = gpa.value() | kLeafBits;
  return absl::OkStatus();
}

uint64_t* PrivateMemory::TableBelow(uint64_t* table, uint64_t index) {
  if ((table[index] & kPresent) == 0) {
    if (next_table_offset_ == kPrivateBytes) return nullptr;
    memset(memory_ + next_table_offset_, 0, kPageSize);
    table[index] = (base_ + next_table_offset_).value() | kTableBits;
    next_table_offset_ += kPageSize;
  }
  const uint64_t offset = Gpa(table[index] & kAddressMask) - base_;
  return reinterpret_cast<uint64_t*>(memory_ + offset);
}

void PrivateMemory::WriteGdt() {
  memcpy(memory_ + kGdtOffset, kGdt, sizeof kGdt);
}

}  // namespace tdp
