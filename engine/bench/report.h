// The results, for programs (JSON) and for people (a table).
//
// Thread safety: pure functions.

#ifndef ENGINE_BENCH_REPORT_H_
#define ENGINE_BENCH_REPORT_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "engine/bench/harness.h"

namespace tdp::bench {

using Facts = std::vector<std::pair<std::string, std::string>>;

std::string ToJson(const Facts& facts, absl::Span<const Result> results);
std::string ToTable(const Facts& facts, absl::Span<const Result> results);

}  // namespace tdp::bench

#endif  // ENGINE_BENCH_REPORT_H_
