// TouchTimes: how long each write of a guest of the software hypervisor took,
// faults included.
//
// The linker makes the guest's writes come here first: engine/bench links with
// --wrap for GuardedWrite() of engine/vm/guarded_touch.h. So it is the whole
// daemon that is timed, without a word about it in the daemon.
//
// Thread safety: belongs to one thread, which does not touch it while a guest
// runs. At most one object, and one vCPU.

#ifndef ENGINE_BENCH_TOUCH_TIMES_H_
#define ENGINE_BENCH_TOUCH_TIMES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tdp::bench {

class TouchTimes {
 public:
  // Records up to `count` writes from now on.
  explicit TouchTimes(size_t count);
  ~TouchTimes();
  TouchTimes(const TouchTimes&) = delete;
  TouchTimes& operator=(const TouchTimes&) = delete;

  void Record(double ns) {
    if (ns_.size() < ns_.capacity()) ns_.push_back(ns);
  }
  const std::vector<double>& ns() const { return ns_; }

 private:
  std::vector<double> ns_;
};

}  // namespace tdp::bench

#endif  // ENGINE_BENCH_TOUCH_TIMES_H_
