#include "engine/sync/mmu_lock.h"

#include <time.h>

namespace tdp {
namespace {

int64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

using sync_internal::CheckMayAcquire;
using sync_internal::HoldMode;
using sync_internal::NoteAcquired;
using sync_internal::NoteReleased;

// The gate refused: a writer holds or wants the lock, or did a moment ago.
void MmuLock::ReaderLockSlow() {
  MutexLock lock(mu_);
  if (!writer_chosen_ && waiting_writers_ == 0) {
    // No writer can be chosen before mu_ is released, so none drains now.
    readers_.AdmitCounted(1);
    return;
  }
  ++waiting_readers_;
  PublishState();
  const uint64_t admissions = admissions_;
  // The writer that admits also counts this thread as inside.
  while (admissions_ == admissions) readers_admitted_.Wait(mu_);
}

void MmuLock::WriterLock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  test_hooks::BeforeStep(TestStep::kWriterLock, this);
  CheckMayAcquire(this);
  {
    MutexLock lock(mu_);
    ++waiting_writers_;
    PublishState();
    while (writer_chosen_) writer_left_.Wait(mu_);
    --waiting_writers_;
    writer_chosen_ = true;
    PublishState();
  }
  readers_.Drain();
  {
    MutexLock lock(mu_);
    writer_holds_ = true;
    PublishState();
  }
  NoteAcquired(this, HoldMode::kExclusive);
  held_since_ = Now();
}

void MmuLock::WriterUnlock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  test_hooks::BeforeStep(TestStep::kWriterUnlock, this);
  NoteReleased(this, HoldMode::kExclusive);
  const int64_t held = Now() - held_since_;
  MutexLock lock(mu_);
  writer_hold_count_.fetch_add(1, std::memory_order_relaxed);
  writer_hold_nanoseconds_.fetch_add(held, std::memory_order_relaxed);
  writer_chosen_ = false;
  writer_holds_ = false;
  if (waiting_readers_ > 0) {
    readers_.AdmitCounted(waiting_readers_);
    waiting_readers_ = 0;
    ++admissions_;
    readers_admitted_.NotifyAll();
  }
  // With a writer waiting the gate stays shut: readers that come now go after
  // it.
  if (waiting_writers_ > 0) writer_left_.NotifyOne();
  PublishState();
}

void MmuLock::PublishState() {
  uint32_t state = 0;
  if (writer_chosen_ || waiting_writers_ > 0) state |= kWriterPresent;
  if (writer_holds_) state |= kHeldByWriter;
  if (waiting_writers_ > 0 || waiting_readers_ > 0) state |= kHasWaiters;
  state_.store(state, std::memory_order_seq_cst);
}

MmuLock::WriterHolds MmuLock::writer_holds() const {
  return {writer_hold_count_.load(std::memory_order_relaxed),
          writer_hold_nanoseconds_.load(std::memory_order_relaxed)};
}

int MmuLock::WaitingReadersForTest() {
  MutexLock lock(mu_);
  return waiting_readers_;
}

int MmuLock::WaitingWritersForTest() {
  MutexLock lock(mu_);
  return waiting_writers_;
}

}  // namespace tdp
