#include "engine/bench/access_trace.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "gtest/gtest.h"

namespace tdp::bench {
namespace {

struct alignas(kLineBytes) Line {
  std::atomic<uint64_t> value{0};
};

Line global_line;

uint64_t LineOf(const void* address) {
  return reinterpret_cast<uint64_t>(address) & ~(kLineBytes - 1);
}

TouchedLines TraceInThread(absl::FunctionRef<void()> code) {
  TouchedLines lines;
  std::thread([&] {
    const UntracedStack stack;
    lines = TraceLines(code);
  }).join();
  return lines;
}

TEST(AccessTraceTest, SeesWritesToHeapAndGlobals) {
  const auto line = std::make_unique<Line>();
  const TouchedLines lines = TraceInThread([&] {
    line->value.store(1);
    global_line.value.fetch_add(1);
  });
  ASSERT_EQ(lines.count(LineOf(line.get())), 1u);
  EXPECT_TRUE(lines.at(LineOf(line.get())));
  ASSERT_EQ(lines.count(LineOf(&global_line)), 1u);
  EXPECT_TRUE(lines.at(LineOf(&global_line)));
  EXPECT_EQ(line->value.load(), 1u);
}

TEST(AccessTraceTest, TellsReadsFromWrites) {
  const auto lines_read = std::make_unique<Line[]>(2);
  uint64_t sum = 0;
  const TouchedLines lines = TraceInThread([&] {
    sum += lines_read[0].value.load();
    lines_read[1].value.store(sum);
  });
  ASSERT_EQ(lines.count(LineOf(&lines_read[0])), 1u);
  EXPECT_FALSE(lines.at(LineOf(&lines_read[0])));
  EXPECT_TRUE(lines.at(LineOf(&lines_read[1])));
}

TEST(AccessTraceTest, SeesALineOnceHoweverOftenItIsTouched) {
  const auto line = std::make_unique<Line>();
  const TouchedLines lines = TraceInThread([&] {
    for (int i = 0; i < 10; ++i) line->value.fetch_add(1);
  });
  EXPECT_EQ(line->value.load(), 10u);
  EXPECT_TRUE(lines.at(LineOf(line.get())));
}

TEST(AccessTraceTest, CodeThatTouchesNothingSharedTouchesNoLine) {
  const TouchedLines lines = TraceInThread([] {
    volatile int local = 1;
    local = local + 1;
  });
  EXPECT_TRUE(lines.empty());
}

TEST(AccessTraceTest, CountsInstructions) {
  const int64_t ten = CountInstructions(
      [] { asm volatile("nop; nop; nop; nop; nop; nop; nop; nop; nop; nop"); });
  const int64_t none = CountInstructions([] {});
  EXPECT_EQ(ten - none, 10);
}

}  // namespace
}  // namespace tdp::bench
