#include "engine/sync/rcu_internal.h"

#include <pthread.h>

#include "absl/base/internal/raw_logging.h"

namespace tdp::sync_internal {
namespace {

pthread_key_t g_exit_key;
pthread_once_t g_exit_key_once = PTHREAD_ONCE_INIT;

void UnregisterRcuThread(void*) {
  urcu_memb_unregister_thread();
  t_rcu_registered = false;
}

void MakeExitKey() {
  const int error = pthread_key_create(&g_exit_key, UnregisterRcuThread);
  if (error != 0) {
    ABSL_RAW_LOG(FATAL, "no thread key for liburcu: error %d", error);
  }
}

}  // namespace

constinit thread_local bool t_rcu_registered = false;

// The key's destructor runs after all C++ thread_local destructors, so that
// these may still read. A later key's destructor that reads registers the
// thread again, and pthreads then calls this key's destructor again.
void RegisterRcuThread() {
  pthread_once(&g_exit_key_once, MakeExitKey);
  urcu_memb_register_thread();
  t_rcu_registered = true;
  const int error = pthread_setspecific(g_exit_key, &t_rcu_registered);
  if (error != 0) {
    ABSL_RAW_LOG(FATAL, "no memory to register with liburcu: error %d", error);
  }
}

}  // namespace tdp::sync_internal
