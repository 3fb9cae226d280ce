// HugePagePool: a number of free 2M pages in the host's pool, for a test.
//
// Pages that are missing are added to the pool, and those that are too many are
// held, so that a test knows when the pool is empty. The destructor leaves the
// pool as it was. Tests with one of these run one at a time on a machine: they
// wait for each other.
//
// Thread safety: belongs to one thread.

#ifndef ENGINE_TESTING_HUGE_PAGE_POOL_H_
#define ENGINE_TESTING_HUGE_PAGE_POOL_H_

#include <cstdint>
#include <string>

namespace tdp {

class HugePagePool {
 public:
  // REQUIRES: nobody but such tests uses the pool.
  explicit HugePagePool(int64_t free_pages);
  ~HugePagePool();
  HugePagePool(const HugePagePool&) = delete;
  HugePagePool& operator=(const HugePagePool&) = delete;

  // Empty, or why the host does not give the pages: then the test is skipped.
  const std::string& problem() const { return problem_; }

  // Pages that are free now.
  static int64_t Free();
  // Takes free pages out of reach. False if there are not so many.
  bool Hold(int64_t pages);
  // Gives back what Hold() took.
  void LetGo();

 private:
  int lock_fd_;
  int surplus_fd_ = -1;
  int held_fd_ = -1;
  int64_t pages_before_ = -1;  // in the pool
  std::string problem_;
};

}  // namespace tdp

#endif  // ENGINE_TESTING_HUGE_PAGE_POOL_H_
