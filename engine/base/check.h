// TDP_CHECK: a broken invariant ends the process.
//
// For conditions that no input can cause: going on would let the guest see
// memory that the tables do not grant. Untrusted input is answered with an
// error instead (errors.h).

#ifndef ENGINE_BASE_CHECK_H_
#define ENGINE_BASE_CHECK_H_

#include <cstdio>
#include <cstdlib>

#define TDP_CHECK(condition, what)                                         \
  do {                                                                     \
    if (!(condition)) [[unlikely]] {                                       \
      std::fprintf(stderr, "%s:%d: broken invariant: %s (%s)\n", __FILE__, \
                   __LINE__, what, #condition);                            \
      std::abort();                                                        \
    }                                                                      \
  } while (false)

#endif  // ENGINE_BASE_CHECK_H_
