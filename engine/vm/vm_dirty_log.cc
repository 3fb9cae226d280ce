// The dirty log: switching it, its consumers, reading and clearing.

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "engine/vm/vm_impl.h"

namespace tdp {
namespace {

constexpr uint64_t kWordBits = 64;

bool NeverStop() { return false; }

Gfn AlignDownToWord(Gfn gfn) {
  return Gfn(gfn.value() - gfn.value() % kWordBits);
}

// The bits of a word from `first` on that stand for frames of `range`.
uint64_t MaskOf(Gfn first, GfnRange range) {
  const GfnRange inside = range.Intersect({first, first + kWordBits});
  if (inside.empty()) return 0;
  const uint64_t ones = inside.size() == kWordBits
                            ? ~uint64_t{0}
                            : (uint64_t{1} << inside.size()) - 1;
  return ones << (inside.start - first);
}

absl::Status DirtyLogOffError(absl::string_view memslot) {
  return MakeError(ErrorReason::kDirtyLogOff,
                   absl::StrCat(memslot,
                                " has no dirty log; set dirty_log_enabled with "
                                "UpdateMemslot"),
                   {{"memslot", std::string(memslot)}});
}

absl::Status ChangingError(absl::string_view memslot) {
  return MakeError(
      ErrorReason::kOperationConflict,
      absl::StrCat(memslot,
                   " is being moved or deleted; try again when that has ended"),
      {{"memslot", std::string(memslot)}});
}

int64_t CountBits(const std::vector<uint64_t>& words) {
  int64_t count = 0;
  for (const uint64_t word : words) count += std::popcount(word);
  return count;
}

// Both: bit i of byte j is frame 8 * j + i, which is the order of bytes in a
// word here.
static_assert(std::endian::native == std::endian::little);
std::string BytesOf(const std::vector<uint64_t>& words, uint64_t frame_count) {
  return std::string(reinterpret_cast<const char*>(words.data()),
                     (frame_count + 7) / 8);
}
std::vector<uint64_t> WordsOf(const std::string& bytes) {
  std::vector<uint64_t> words((bytes.size() + 7) / 8);
  memcpy(words.data(), bytes.data(), bytes.size());
  return words;
}

// Clears the bits of `words`, which begin at `first`, that stand for no frame
// of `range`. REQUIRES: only the first and the last word have such bits.
void MaskEnds(Gfn first, GfnRange range, std::vector<uint64_t>& words) {
  words.front() &= MaskOf(first, range);
  words.back() &= MaskOf(first + (words.size() - 1) * kWordBits, range);
}

}  // namespace

std::string VmImpl::DirtyConsumerName(absl::string_view id) const {
  return absl::StrCat(name(), "/dirtyConsumers/", id);
}

// The consumers come first, then writes are noticed, then nothing is writable
// that was not noticed. With every bit set there is nothing to notice until a
// bit is cleared, and that protects its frame.
absl::Status VmImpl::EnableDirtyLog(const MemslotRecord& record,
                                    bool initially_set, bool known) {
  std::map<std::string, DirtyConsumer> consumers;
  {
    MutexLock lock(state_mutex_);
    consumers = dirty_consumers_;
  }
  Memslot& memslot = *record.memslot;
  DirtyLog& log = memslot.dirty_log();
  const bool harvests = record.config.dirty_mode == DirtyMode::kHarvest;
  absl::Status status;
  for (const auto& [id, consumer] : consumers) {
    status = log.AddConsumer(consumer, initially_set);
    if (!status.ok()) break;
  }
  if (status.ok()) {
    log.set_mode(harvests ? DirtyLog::Mode::kHarvests
                          : DirtyLog::Mode::kTracks);
    if (harvests && known) {
      status = FollowDirtyLog(record);
    } else if (!harvests && !initially_set) {
      status =
          mmu_->WriteProtectRange(memslot.range(), PageLevel::k4K, NeverStop)
              .status;
    }
  }
  if (!status.ok()) DisableDirtyLog(record);
  return status;
}

// Huge leaves that were split for the log come back where they can.
void VmImpl::DisableDirtyLog(const MemslotRecord& record) {
  Memslot& memslot = *record.memslot;
  const bool harvests = memslot.dirty_log().mode() == DirtyLog::Mode::kHarvests;
  memslot.dirty_log().set_mode(DirtyLog::Mode::kOff);
  memslot.dirty_log().RemoveAllConsumers();
  if (harvests) {
    // Should it fail, KVM notes writes that nobody asks for.
    FollowDirtyLog(record).IgnoreError();
    return;
  }
  const GfnRange range = memslot.range();
  // Should either fail, the next writes are granted one by one, as always.
  (void)mmu_->GrantWrites(range, NeverStop);
  (void)mmu_->CollapseHugePages(range, PageLevel::k2M, NeverStop);
}

absl::Status VmImpl::FollowDirtyLog(const MemslotRecord& record) {
  Memslot& memslot = *record.memslot;
  if (kvm_vm_ != nullptr) {
    // KVM's call would wait for a vCPU that sleeps in a window.
    vcpus_->Park();
    const auto unpark = absl::MakeCleanup([this] { vcpus_->Unpark(); });
    return SetKvmMemslot(record, memslot.range().start);
  }
  if (!memslot.dirty_log().on()) return absl::OkStatus();
  // What was written before is nobody's.
  std::vector<uint64_t> before((memslot.range().size() + kWordBits - 1) /
                               kWordBits);
  return memslot.TakeWritten(absl::MakeSpan(before));
}

absl::Status VmImpl::Harvest(Memslot& memslot, uint32_t kvm_slot_id) const {
  if (memslot.dirty_log().mode() != DirtyLog::Mode::kHarvests) {
    return absl::OkStatus();
  }
  return memslot.dirty_log().Harvest([&](absl::Span<uint64_t> words) {
    return kvm_vm_ != nullptr ? kvm_vm_->TakeDirtyLog(kvm_slot_id, words)
                              : memslot.TakeWritten(words);
  });
}

std::vector<VmImpl::MemslotRecord> VmImpl::LoggedMemslots() const {
  std::vector<MemslotRecord> logged;
  MutexLock lock(state_mutex_);
  for (const auto& [id, record] : records_) {
    if (record.memslot->dirty_log().on()) logged.push_back(record);
  }
  return logged;
}

absl::Status VmImpl::CreateDirtyConsumer(absl::string_view id) {
  if (absl::Status s = CheckUsable("get a dirty consumer"); !s.ok()) return s;
  MutexLock lifecycle(lifecycle_mutex_);
  DirtyConsumer consumer;
  {
    MutexLock lock(state_mutex_);
    if (dirty_consumers_.contains(std::string(id))) {
      return AlreadyExistsError(DirtyConsumerName(id));
    }
    std::set<int> taken;
    for (const auto& [name, other] : dirty_consumers_) {
      taken.insert(other.place);
    }
    while (taken.contains(consumer.place)) ++consumer.place;
    consumer.id = next_dirty_consumer_id_++;
  }
  if (consumer.place >= DirtyLog::kMaxConsumers) {
    return LimitError("max_dirty_consumers", limits::kMaxDirtyConsumers,
                      "delete a consumer that nobody needs");
  }
  std::vector<std::shared_ptr<Memslot>> added;
  for (const MemslotRecord& record : LoggedMemslots()) {
    const std::shared_ptr<Memslot>& memslot = record.memslot;
    // What was written so far is for the others.
    absl::Status status = Harvest(*memslot, record.kvm_slot_id);
    if (status.ok()) {
      status = memslot->dirty_log().AddConsumer(consumer, /*all_set=*/false);
    }
    if (status.ok()) {
      added.push_back(memslot);
      // What is writable now would be written without notice.
      if (memslot->tracks_writes()) {
        status =
            mmu_->WriteProtectRange(memslot->range(), PageLevel::k4K, NeverStop)
                .status;
      }
    }
    if (!status.ok()) {
      for (const auto& one : added) one->dirty_log().RemoveConsumer(consumer);
      return status;
    }
  }
  MutexLock lock(state_mutex_);
  dirty_consumers_[std::string(id)] = consumer;
  return absl::OkStatus();
}

std::vector<std::string> VmImpl::ListDirtyConsumers() const {
  std::vector<std::string> ids;
  MutexLock lock(state_mutex_);
  for (const auto& [id, consumer] : dirty_consumers_) ids.push_back(id);
  return ids;
}

absl::Status VmImpl::DeleteDirtyConsumer(absl::string_view id) {
  if (absl::Status s = CheckExists(); !s.ok()) return s;
  if (id == kDefaultDirtyConsumer) {
    return FieldError("name", DirtyConsumerName(id),
                      "a consumer that was created; the default one stays");
  }
  MutexLock lifecycle(lifecycle_mutex_);
  DirtyConsumer consumer;
  {
    MutexLock lock(state_mutex_);
    const auto it = dirty_consumers_.find(std::string(id));
    if (it == dirty_consumers_.end()) {
      return NotFoundError(DirtyConsumerName(id));
    }
    consumer = it->second;
    dirty_consumers_.erase(it);
  }
  for (const MemslotRecord& record : LoggedMemslots()) {
    record.memslot->dirty_log().RemoveConsumer(consumer);
  }
  return absl::OkStatus();
}

absl::StatusOr<VmImpl::DirtyView> VmImpl::FindDirtyLog(
    absl::string_view memslot_id, absl::string_view consumer) const {
  if (absl::Status s = CheckExists(); !s.ok()) return s;
  if (consumer.empty()) consumer = kDefaultDirtyConsumer;
  const std::string memslot_name =
      absl::StrCat(name(), "/memslots/", memslot_id);
  DirtyView view;
  {
    MutexLock lock(state_mutex_);
    const auto record = records_.find(std::string(memslot_id));
    if (record == records_.end()) return NotFoundError(memslot_name);
    view.memslot = record->second.memslot;
    view.kvm_slot_id = record->second.kvm_slot_id;
    const auto it = dirty_consumers_.find(std::string(consumer));
    if (it == dirty_consumers_.end()) {
      return NotFoundError(DirtyConsumerName(consumer));
    }
    view.consumer = it->second;
  }
  if (!view.memslot->dirty_log().on()) {
    return DirtyLogOffError(memslot_name);
  }
  if (!view.memslot->TryPin(PinMode::kUnmap))
    return ChangingError(memslot_name);
  view.pin = BackingPin(view.memslot.get(), /*for_map=*/false);
  return view;
}

absl::Status VmImpl::DirtyLogError(const DirtyView& view,
                                   DirtyLog::Answer answer,
                                   absl::string_view memslot_id,
                                   absl::string_view consumer) const {
  if (consumer.empty()) consumer = kDefaultDirtyConsumer;
  const std::string memslot = absl::StrCat(name(), "/memslots/", memslot_id);
  if (answer == DirtyLog::Answer::kMoved) {
    return MakeError(
        ErrorReason::kOperationConflict,
        absl::StrCat(memslot, " was moved after ", DirtyConsumerName(consumer),
                     " read it, and its frames have other numbers now; read "
                     "the log again"),
        {{"memslot", memslot}, {"consumer", DirtyConsumerName(consumer)}});
  }
  return view.memslot->dirty_log().on()
             ? NotFoundError(DirtyConsumerName(consumer))
             : DirtyLogOffError(memslot);
}

absl::StatusOr<FrameBitmap> VmImpl::ReadDirtyLog(absl::string_view memslot_id,
                                                 absl::string_view consumer,
                                                 GfnRange range) {
  absl::StatusOr<DirtyView> view = FindDirtyLog(memslot_id, consumer);
  if (!view.ok()) return view.status();
  const GfnRange all = view->memslot->range();
  const GfnRange wanted = range.Intersect(all);
  if (range.start >= range.end || wanted.empty()) {
    return FieldError(
        "range",
        absl::StrCat(Hex(range.start.value()), "..", Hex(range.end.value())),
        absl::StrCat("frames of the memslot, which holds ",
                     Hex(all.start.value()), "..", Hex(all.end.value())));
  }
  if (absl::Status s = Harvest(*view->memslot, view->kvm_slot_id); !s.ok()) {
    const std::string memslot = absl::StrCat(name(), "/memslots/", memslot_id);
    if (!view->memslot->dirty_log().on()) return DirtyLogOffError(memslot);
    return view->memslot->closed_for_map() ? ChangingError(memslot) : s;
  }
  const Gfn first = AlignDownToWord(wanted.start);
  const uint64_t chunk = limits::kDirtyChunkFrames;
  const Gfn end =
      std::min(wanted.end, Gfn(first.value() - first.value() % chunk) + chunk);
  std::vector<uint64_t> words((end - first + kWordBits - 1) / kWordBits);
  const DirtyLog::Answer answer = view->memslot->dirty_log().Read(
      view->consumer, all.start, first, absl::MakeSpan(words));
  if (answer != DirtyLog::Answer::kDone) {
    return DirtyLogError(*view, answer, memslot_id, consumer);
  }
  MaskEnds(first, {wanted.start, end}, words);
  return FrameBitmap{.first_gfn = first,
                     .frame_count = static_cast<int64_t>(end - first),
                     .bits = BytesOf(words, end - first)};
}

absl::Status VmImpl::CheckDirtyBits(const FrameBitmap& bits) const {
  const uint64_t first = bits.first_gfn.value();
  if (first % kWordBits != 0 || first > max_gfn_.value()) {
    return FieldError(
        "dirty.first_gfn", Hex(first),
        absl::StrCat("a multiple of 64, at most ", Hex(max_gfn_.value())));
  }
  if (bits.frame_count < 0 || bits.frame_count > limits::kDirtyChunkFrames) {
    return FieldError("dirty.frame_count", absl::StrCat(bits.frame_count),
                      absl::StrCat("0 to ", limits::kDirtyChunkFrames));
  }
  const auto bytes = static_cast<uint64_t>(bits.frame_count + 7) / 8;
  if (bits.bits.size() != bytes) {
    return FieldError(
        "dirty.bits", absl::StrCat(bits.bits.size(), " bytes"),
        absl::StrCat(bytes, " bytes, a bit for each of frame_count frames"));
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> VmImpl::ClearDirtyLog(absl::string_view memslot_id,
                                              absl::string_view consumer,
                                              const FrameBitmap& bits) {
  absl::StatusOr<DirtyView> view = FindDirtyLog(memslot_id, consumer);
  if (!view.ok()) return view.status();
  if (absl::Status s = CheckDirtyBits(bits); !s.ok()) return s;
  const GfnRange all = view->memslot->range();
  DirtyLog& log = view->memslot->dirty_log();
  std::vector<uint64_t> words = WordsOf(bits.bits);
  const Gfn first = bits.first_gfn;
  const GfnRange named =
      GfnRange{first, first + static_cast<uint64_t>(bits.frame_count)}
          .Intersect(all);
  if (named.empty()) return 0;
  for (size_t i = 0; i < words.size(); ++i) {
    words[i] &= MaskOf(first + i * kWordBits, named);
  }
  // A frame that was clear already is protected too: a call that was broken off
  // may have cleared it and gone no further.
  const std::vector<uint64_t> wanted = words;
  const DirtyLog::Answer answer =
      log.Clear(view->consumer, all.start, first, absl::MakeSpan(words));
  if (answer != DirtyLog::Answer::kDone) {
    return DirtyLogError(*view, answer, memslot_id, consumer);
  }
  // The harvest that reported the frames has protected them.
  if (!view->memslot->tracks_writes()) return CountBits(words);
  // After the bits: a write in between is in what the caller copies next.
  const MmuProgress protect =
      mmu_->WriteProtectFrames(first, wanted, NeverStop);
  if (!protect.status.ok()) {
    // Their next write might not be noticed: they stay dirty, for everybody.
    for (Gfn gfn = named.start; gfn < named.end; gfn += 1) {
      const uint64_t index = gfn - first;
      if ((wanted[index / kWordBits] >> (index % kWordBits) & 1) == 0) continue;
      log.Mark(gfn - all.start, gfn - all.start + 1);
    }
    return protect.status;
  }
  return CountBits(words);
}

}  // namespace tdp
