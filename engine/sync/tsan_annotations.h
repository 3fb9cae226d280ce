// Tells ThreadSanitizer about an order that it cannot see, because the code
// that makes it (liburcu) is not instrumented. Nothing in other builds.
//
// Thread safety: free functions, from any thread.

#ifndef ENGINE_SYNC_TSAN_ANNOTATIONS_H_
#define ENGINE_SYNC_TSAN_ANNOTATIONS_H_

#if defined(__SANITIZE_THREAD__)
#define TDP_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TDP_TSAN 1
#endif
#endif

#ifdef TDP_TSAN
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace tdp::sync_internal {

// What came before TsanRelease(p), in any thread, comes before what follows a
// later TsanAcquire(p). Two threads that only release are not ordered.
inline void TsanAcquire([[maybe_unused]] void* address) {
#ifdef TDP_TSAN
  __tsan_acquire(address);
#endif
}
inline void TsanRelease([[maybe_unused]] void* address) {
#ifdef TDP_TSAN
  __tsan_release(address);
#endif
}

}  // namespace tdp::sync_internal

#endif  // ENGINE_SYNC_TSAN_ANNOTATIONS_H_
