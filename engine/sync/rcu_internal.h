// The read side of liburcu's memb flavour, inlined, and the registration of
// threads with it. For rcu.h alone.
//
// Thread safety: free functions, from any thread.

#ifndef ENGINE_SYNC_RCU_INTERNAL_H_
#define ENGINE_SYNC_RCU_INTERNAL_H_

#include "engine/sync/tsan_annotations.h"

// Under ThreadSanitizer the library's own functions are called: inlined, their
// plain accesses to liburcu's state would be reported as races.
#ifndef TDP_TSAN
#define _LGPL_SOURCE
#endif

#include <urcu/config.h>
#include <urcu/tls-compat.h>
// liburcu's reader state has no dynamic initialisation. `__thread` says so,
// where `thread_local` makes each access look for an initialiser first.
#undef URCU_TLS_STORAGE_CLASS
#define URCU_TLS_STORAGE_CLASS __thread
#include <urcu/urcu-memb.h>

namespace tdp::sync_internal {

// liburcu knows this thread. Trivial, so that it can be read at any time of a
// thread's life, its thread_local destructors included.
extern constinit thread_local bool t_rcu_registered;

// Registers this thread until it ends.
void RegisterRcuThread();

inline void EnsureRcuThread() {
  if (!t_rcu_registered) [[unlikely]]
    RegisterRcuThread();
}
inline bool InRcuReadSection() { return urcu_memb_read_ongoing() != 0; }

}  // namespace tdp::sync_internal

#endif  // ENGINE_SYNC_RCU_INTERNAL_H_
