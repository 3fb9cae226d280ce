// Gives each file of the corpus to the fuzz target.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "gtest/gtest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tdp::server {
namespace {

constexpr char kCorpus[] = "server/access/testdata/policy";

TEST(PolicyCorpusTest, EveryInputIsAPolicyOrAnError) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kCorpus)) {
    SCOPED_TRACE(entry.path());
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    EXPECT_EQ(LLVMFuzzerTestOneInput(
                  reinterpret_cast<const uint8_t*>(text.data()), text.size()),
              0);
    ++count;
  }
  EXPECT_GE(count, 10);
}

}  // namespace
}  // namespace tdp::server
