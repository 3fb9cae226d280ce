// liburcu's own functions, for who has it inlined (rcu_internal.h) and cannot
// call them.
//
// Thread safety: free functions, from any thread that is registered.

#ifndef ENGINE_SYNC_RCU_LIBRARY_H_
#define ENGINE_SYNC_RCU_LIBRARY_H_

namespace tdp::sync_internal {

bool LibraryUsesMembarrier();
void EnterReadSectionByLibrary();
void LeaveReadSectionByLibrary();

}  // namespace tdp::sync_internal

#endif  // ENGINE_SYNC_RCU_LIBRARY_H_
