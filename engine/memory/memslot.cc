// Creation, life cycle, faults and ejection. The host calls are in
// memslot_host.cc, the bytes in memslot_content.cc.

#include "engine/memory/memslot.h"

#include <sys/mman.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace tdp {
namespace {

constexpr uint64_t kRegisterModes = UFFDIO_REGISTER_MODE_MISSING |
                                    UFFDIO_REGISTER_MODE_MINOR |
                                    UFFDIO_REGISTER_MODE_WP;
constexpr size_t kEventsPerRead = 64;

FaultEvent FaultEventOf(const uffd_msg& message, Hva window, Gfn base_gfn) {
  const auto& fault = message.arg.pagefault;
  FaultEvent event;
  event.index = (Hva(fault.address) - window) >> kPageShift;
  event.gfn = base_gfn + event.index;
  event.write = (fault.flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0;
  event.write_protect = (fault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0;
  event.minor = (fault.flags & UFFD_PAGEFAULT_FLAG_MINOR) != 0;
  event.thread = static_cast<pid_t>(fault.feat.ptid);
  return event;
}

}  // namespace

absl::StatusOr<std::shared_ptr<Memslot>> Memslot::Create(
    MemslotOptions options) {
  assert(!options.range.empty());
  assert(((options.base_pfn.value() - options.range.start.value()) &
          (FramesPerEntry(kMaxLeafLevel) - 1)) == 0);
  assert(IsAligned(options.range.start.value(), options.host_page_level));
  assert(IsAligned(options.range.end.value(), options.host_page_level));
  auto own_calls =
      options.host_calls == nullptr ? std::make_unique<HostCalls>() : nullptr;
  HostCalls* calls =
      options.host_calls == nullptr ? own_calls.get() : options.host_calls;
  const uint64_t frame_count = options.range.size();

  options.userfaultfd.asynchronous_write_protection = options.notes_writes;
  absl::StatusOr<Userfaultfd> userfaultfd =
      Userfaultfd::Create(options.userfaultfd);
  if (!userfaultfd.ok()) return userfaultfd.status();
  absl::StatusOr<std::unique_ptr<GuestMemory>> memory = GuestMemory::Create(
      options.name, frame_count, calls, options.host_page_level);
  if (!memory.ok()) return memory.status();
  const uint64_t page_count =
      (*memory)->size_bytes() >> (*memory)->page_shift();
  absl::StatusOr<std::unique_ptr<ContentMap>> content =
      ContentMap::Create(page_count);
  if (!content.ok()) return content.status();
  std::optional<LazyBitmap> discarded;
  if (options.source.has_value() || options.host_page_level > PageLevel::k4K) {
    absl::StatusOr<LazyBitmap> bitmap = LazyBitmap::Create(page_count);
    if (!bitmap.ok()) return bitmap.status();
    discarded.emplace(*std::move(bitmap));
  }
  const int error = userfaultfd->Register(
      (*memory)->window(), (*memory)->size_bytes(), kRegisterModes);
  if (error != 0) return HostCallError("ioctl(UFFDIO_REGISTER)", error);
  return std::shared_ptr<Memslot>(
      new Memslot(std::move(options), *std::move(memory), *std::move(content),
                  std::move(discarded), *std::move(userfaultfd),
                  std::move(own_calls), calls));
}

Memslot::Memslot(MemslotOptions options, std::unique_ptr<GuestMemory> memory,
                 std::unique_ptr<ContentMap> content,
                 std::optional<LazyBitmap> discarded, Userfaultfd userfaultfd,
                 std::unique_ptr<HostCalls> own_calls, HostCalls* calls)
    : name_(std::move(options.name)),
      max_fault_level_(
          std::max(options.max_fault_level, options.host_page_level)),
      notes_writes_(options.notes_writes),
      own_calls_(std::move(own_calls)),
      calls_(calls),
      memory_(std::move(memory)),
      content_(std::move(content)),
      source_(std::move(options.source)),
      discarded_(std::move(discarded)),
      userfaultfd_(std::move(userfaultfd)),
      frame_count_(options.range.size()),
      base_gfn_(options.range.start.value()),
      base_pfn_(options.base_pfn.value()),
      read_only_(options.read_only),
      dirty_log_(frame_count_),
      idle_ages_(frame_count_) {}

Memslot::~Memslot() {
  userfaultfd_.Unregister(memory_->window(), memory_->size_bytes());
}

GfnRange Memslot::range() const {
  // Relaxed: it changes only while there are no pins, and taking a pin orders
  // the change before.
  const Gfn start(base_gfn_.load(std::memory_order_relaxed));
  return {start, start + frame_count_};
}

Pfn Memslot::base_pfn() const {
  return Pfn(base_pfn_.load(std::memory_order_relaxed));  // as range()
}

bool Memslot::writable() const {
  return !read_only_.load(std::memory_order_relaxed);  // as range()
}

Hva Memslot::HvaOf(Gfn gfn) const {
  return memory_->window() + (IndexOf(gfn) << kPageShift);
}

bool Memslot::TryPin(PinMode mode) {
  return mode == PinMode::kMap ? map_pins_.TryPin() : unmap_pins_.TryPin();
}

void Memslot::Unpin(bool for_map) {
  if (for_map) {
    map_pins_.Unpin();
  } else {
    unmap_pins_.Unpin();
  }
}

void Memslot::set_read_only(bool read_only) {
  assert(closed_for_map());
  read_only_.store(read_only, std::memory_order_relaxed);  // as range()
}

void Memslot::Rebase(Gfn base_gfn, Pfn base_pfn) {
  assert(closed_for_map() && closed_for_unmap());
  base_gfn_.store(base_gfn.value(), std::memory_order_relaxed);  // as range()
  base_pfn_.store(base_pfn.value(), std::memory_order_relaxed);
}

absl::StatusOr<size_t> Memslot::ReadFaults(absl::Span<FaultEvent> events) {
  const Gfn base_gfn = range().start;
  size_t count = 0;
  while (count < events.size()) {
    uffd_msg messages[kEventsPerRead];
    const size_t room = std::min(events.size() - count, kEventsPerRead);
    const absl::StatusOr<size_t> got =
        userfaultfd_.ReadEvents(absl::MakeSpan(messages, room));
    if (!got.ok()) {
      // What was read before must be answered, so it is not lost here.
      if (count > 0) return count;
      return got.status();
    }
    for (size_t i = 0; i < *got; ++i) {
      // Nothing else was asked for.
      if (messages[i].event != UFFD_EVENT_PAGEFAULT) continue;
      events[count++] = FaultEventOf(messages[i], memory_->window(), base_gfn);
    }
    if (*got < room) break;
  }
  return count;
}

uint64_t Memslot::pages_per_granule() const {
  constexpr uint64_t kMaxGranules = 64;
  if (host_page_level() == PageLevel::k4K) return 1;
  const uint64_t pages = size_bytes() >> page_shift();
  return (pages + kMaxGranules - 1) / kMaxGranules;
}

int Memslot::SetAccess(uint64_t granule, int protection) {
  const uint64_t bytes = pages_per_granule() << page_shift();
  const uint64_t offset = granule * bytes;
  return calls_->Mprotect(memory_->window() + offset,
                          std::min(bytes, size_bytes() - offset), protection);
}

void Memslot::GiveBackPages() {
  if (host_page_level() == PageLevel::k4K) return;
  // Should it fail, they go with the last reference.
  memory_->PunchHole(0, size_bytes() >> page_shift());
}

absl::Status Memslot::Refuse(Gfn gfn) {
  const uint64_t granule = GranuleOf(gfn);
  {
    MutexLock lock(refused_mutex_);
    int& count = refused_[granule];
    if (count == 0) {
      const int error = SetAccess(granule, PROT_NONE);
      if (error != 0) {
        refused_.erase(granule);
        return HostCallError("mprotect(PROT_NONE)", error);
      }
    }
    ++count;
  }
  // Whoever touched the page before the protection changed sleeps by now;
  // whoever touches it later does not fall asleep. Every call wakes, because
  // every event must end in a wake.
  Wake({gfn, gfn + 1});
  return absl::OkStatus();
}

absl::Status Memslot::Admit(Gfn gfn) {
  const uint64_t granule = GranuleOf(gfn);
  MutexLock lock(refused_mutex_);
  const auto found = refused_.find(granule);
  if (found == refused_.end()) {
    return InternalError(
        absl::StrCat("frame ", Hex(gfn.value()), " is not refused"),
        {{"gfn", Hex(gfn.value())}});
  }
  if (found->second == 1) {
    const int error = SetAccess(granule, PROT_READ | PROT_WRITE);
    if (error != 0) return HostCallError("mprotect(PROT_READ|WRITE)", error);
    refused_.erase(found);
  } else {
    --found->second;
  }
  return absl::OkStatus();
}

int64_t Memslot::RefusedCount() const {
  MutexLock lock(refused_mutex_);
  return static_cast<int64_t>(refused_.size());
}

}  // namespace tdp
