#include "engine/sync/rcu_library.h"

// Without _LGPL_SOURCE: nothing is inlined.
#include <urcu/urcu-memb.h>

extern "C" int urcu_memb_has_sys_membarrier;

namespace tdp::sync_internal {

bool LibraryUsesMembarrier() { return urcu_memb_has_sys_membarrier != 0; }
void EnterReadSectionByLibrary() { urcu_memb_read_lock(); }
void LeaveReadSectionByLibrary() { urcu_memb_read_unlock(); }

}  // namespace tdp::sync_internal
