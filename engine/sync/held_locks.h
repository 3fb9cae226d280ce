// Which MmuLocks this thread holds: the debug builds' checks. Internal to
// engine/sync. Does nothing in release builds.
//
// Thread safety: free functions on the calling thread's own record.

#ifndef ENGINE_SYNC_HELD_LOCKS_H_
#define ENGINE_SYNC_HELD_LOCKS_H_

namespace tdp::sync_internal {

enum class HoldMode { kShared, kExclusive };

#ifndef NDEBUG
// Aborts unless this thread may acquire `lock`: it does not hold it yet and is
// in no RCU read section.
void CheckMayAcquire(const void* lock);
void NoteAcquired(const void* lock, HoldMode mode);
// Aborts unless `lock` is held in `mode`.
void NoteReleased(const void* lock, HoldMode mode);
// Aborts unless `lock` is held in `mode` or a stronger one.
void CheckHeld(const void* lock, HoldMode mode);
// Aborts if this thread holds any lock or is in an RCU read section: it is
// about to wait for readers.
void CheckMayWaitForReaders();
#else
inline void CheckMayAcquire(const void*) {}
inline void NoteAcquired(const void*, HoldMode) {}
inline void NoteReleased(const void*, HoldMode) {}
inline void CheckHeld(const void*, HoldMode) {}
inline void CheckMayWaitForReaders() {}
#endif

}  // namespace tdp::sync_internal

#endif  // ENGINE_SYNC_HELD_LOCKS_H_
