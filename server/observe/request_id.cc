#include "server/observe/request_id.h"

#include <algorithm>
#include <random>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace tdp::server {
namespace {

// One-to-one, and neighbours look unrelated (SplitMix64).
uint64_t Mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

}  // namespace

bool IsCleanRequestId(absl::string_view id) {
  return !id.empty() && id.size() <= kMaxRequestIdBytes &&
         std::all_of(id.begin(), id.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                  c == '.' || c == '_' || c == '-';
         });
}

RequestIdMaker::RequestIdMaker() {
  std::random_device device;
  next_ = (uint64_t{device()} << 32) | device();
}

std::string RequestIdMaker::Next() {
  // Relaxed: only that no two are the same matters.
  return absl::StrCat(absl::Hex(
      Mix(next_.fetch_add(1, std::memory_order_relaxed)), absl::kZeroPad16));
}

}  // namespace tdp::server
