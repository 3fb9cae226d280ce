#include "engine/sync/rcu_internal.h"

#include <pthread.h>

#include "absl/base/internal/raw_logging.h"
#include "engine/sync/tsan_annotations.h"

namespace tdp::sync_internal {
namespace {

pthread_key_t g_exit_key;
pthread_once_t g_exit_key_once = PTHREAD_ONCE_INIT;

void UnregisterRcuThread(void*) {
  urcu_memb_unregister_thread();
  t_rcu_thread = RcuThread::kUnregistered;
}

void MakeExitKey() {
  const int error = pthread_key_create(&g_exit_key, UnregisterRcuThread);
  if (error != 0) {
    ABSL_RAW_LOG(FATAL, "no thread key for liburcu: error %d", error);
  }
}

}  // namespace

constinit thread_local RcuThread t_rcu_thread = RcuThread::kUnregistered;

void NoteRegisteredRcuThread() {
#ifdef TDP_TSAN
  // Inlined, the plain accesses to liburcu's state would be reported as races.
  t_rcu_thread = RcuThread::kByLibrary;
#else
  t_rcu_thread =
      LibraryUsesMembarrier() ? RcuThread::kUnfenced : RcuThread::kByLibrary;
#endif
}

// The key's destructor runs after all C++ thread_local destructors, so that
// these may still read. A later key's destructor that reads registers the
// thread again, and pthreads then calls this key's destructor again.
void RegisterRcuThread() {
  pthread_once(&g_exit_key_once, MakeExitKey);
  urcu_memb_register_thread();
  NoteRegisteredRcuThread();
  const int error = pthread_setspecific(g_exit_key, &t_rcu_thread);
  if (error != 0) {
    ABSL_RAW_LOG(FATAL, "no memory to register with liburcu: error %d", error);
  }
}

}  // namespace tdp::sync_internal
