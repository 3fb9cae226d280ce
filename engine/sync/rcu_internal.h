// The read side of liburcu's memb flavour, inlined, and the registration of
// threads with it. For rcu.h alone.
//
// Thread safety: free functions, from any thread.

#ifndef ENGINE_SYNC_RCU_INTERNAL_H_
#define ENGINE_SYNC_RCU_INTERNAL_H_

#include <cstdint>

#include "engine/sync/rcu_library.h"

#define _LGPL_SOURCE
#include <urcu/config.h>
// The inlined functions leave out the choice between membarrier and fences; see
// RcuThread, which makes it once.
#define CONFIG_RCU_FORCE_SYS_MEMBARRIER
#include <urcu/tls-compat.h>
// liburcu's reader state has no dynamic initialisation. `__thread` says so,
// where `thread_local` makes each access look for an initialiser first.
#undef URCU_TLS_STORAGE_CLASS
#define URCU_TLS_STORAGE_CLASS __thread
#include <urcu/urcu-memb.h>

namespace tdp::sync_internal {

// How a thread enters read sections. kUnfenced: inlined, because the kernel has
// membarrier for whoever waits. kByLibrary: by liburcu's own functions, which
// fence where it has not.
enum class RcuThread : uint8_t { kUnregistered, kByLibrary, kUnfenced };

// Trivial, so that it can be read at any time of a thread's life, its
// thread_local destructors included.
extern constinit thread_local RcuThread t_rcu_thread;

// Registers this thread until it ends.
void RegisterRcuThread();
// For a thread that liburcu has registered itself.
void NoteRegisteredRcuThread();

inline void EnsureRcuThread() {
  if (t_rcu_thread == RcuThread::kUnregistered) [[unlikely]]
    RegisterRcuThread();
}

// True if the section was entered without a fence.
inline bool EnterReadSection() {
  if (t_rcu_thread == RcuThread::kUnfenced) [[likely]] {
    urcu_memb_read_lock();
    return true;
  }
  EnsureRcuThread();
  EnterReadSectionByLibrary();
  return false;
}
inline void LeaveReadSection(bool unfenced) {
  if (unfenced) [[likely]] {
    urcu_memb_read_unlock();
  } else {
    LeaveReadSectionByLibrary();
  }
}
inline bool InRcuReadSection() { return urcu_memb_read_ongoing() != 0; }

}  // namespace tdp::sync_internal

#endif  // ENGINE_SYNC_RCU_INTERNAL_H_
