// The main() of the tests that replay a fuzzer's corpus: gives each file named
// on the command line, and those in each folder named there, to the fuzzer.
//
// It names a file before it replays it: what ends the process was in the last
// one. Fails if there was none.

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

bool Replay(const std::filesystem::path& path) {
  std::printf("replaying %s\n", path.c_str());
  std::fflush(stdout);
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (!file) {
    std::fprintf(stderr, "%s: cannot be read\n", path.c_str());
    return false;
  }
  // A buffer of its own, so that a sanitizer sees a read behind its end.
  const std::vector<uint8_t> input(bytes.begin(), bytes.end());
  LLVMFuzzerTestOneInput(input.data(), input.size());
  return true;
}

// Counts the files; negative if one could not be replayed.
int ReplayAll(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return Replay(path) ? 1 : -1;
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    const int more = ReplayAll(entry.path());
    if (more < 0) return more;
    count += more;
  }
  return error ? -1 : count;
}

}  // namespace

int main(int argc, char** argv) {
  int count = 0;
  for (int i = 1; i < argc; ++i) {
    const int more = ReplayAll(argv[i]);
    if (more < 0) return 1;
    count += more;
  }
  std::printf("%d inputs\n", count);
  return count > 0 ? 0 : 1;
}
