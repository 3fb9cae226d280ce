// Touches one byte of a window on a host thread, and survives that the host
// refuses it: a window page that is made PROT_NONE while the thread sleeps in
// a fault on it answers with SIGSEGV, one beyond its file with SIGBUS.
//
// The handler acts on a fault of the two touch instructions only; every other
// one goes to the handler that was there before.
//
// Thread safety: any thread. SIGSEGV and SIGBUS must not be blocked in it.

#ifndef ENGINE_VM_GUARDED_TOUCH_H_
#define ENGINE_VM_GUARDED_TOUCH_H_

#include <cstdint>

#include "absl/status/status.h"

namespace tdp {

// Installs the handler. Idempotent. Call it before the first touch, and after
// anything that installs handlers of its own for these signals, such as a
// crash reporter.
absl::Status InstallGuardedTouch();

// Reads, or writes, the byte. Returns false if the host refused; then memory
// is as before.
bool GuardedRead(const volatile uint8_t* address);
bool GuardedWrite(volatile uint8_t* address, uint8_t value);

}  // namespace tdp

#endif  // ENGINE_VM_GUARDED_TOUCH_H_
