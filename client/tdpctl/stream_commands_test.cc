// events, mem read and mem write.

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "client/tdpctl/tdpctl_fixture.h"

namespace tdp::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::WatchEventsResponse Events(int64_t first, int count) {
  v1::WatchEventsResponse response;
  for (int i = 0; i < count; ++i) {
    v1::Event& event = *response.add_events();
    event.set_sequence(first + i);
    event.mutable_event_time()->set_seconds(1700000000);
    event.mutable_vcpu_exited()->set_reason("HLT");
  }
  response.set_next_sequence(first + count);
  return response;
}

v1::ReadGuestMemoryResponse Chunk(uint64_t gpa, const std::string& data) {
  v1::ReadGuestMemoryResponse response;
  response.set_gpa(gpa);
  response.set_data(data);
  return response;
}

TEST_F(TdpctlTest, EventsAreLinesUntilTheVmIsDeleted) {
  server_.watch_events.Return({Events(1, 2), Events(3, 0), Events(3, 1)});
  EXPECT_EQ(Run({"events", "demo", "--from=1"}),
            "     1  2023-11-14T22:13:20Z  exit      vcpu 0: HLT\n"
            "     2  2023-11-14T22:13:20Z  exit      vcpu 0: HLT\n"
            "     3  2023-11-14T22:13:20Z  exit      vcpu 0: HLT\n");
  EXPECT_THAT(
      server_.watch_events.requests(),
      ElementsAre(EqualsProto(R"pb(vm: "vms/demo" start_sequence: 1)pb")));
}

TEST_F(TdpctlTest, ACountEndsAStreamThatWouldGoOn) {
  server_.watch_events.Do([](const v1::WatchEventsRequest&, auto& send) {
    int64_t sequence = 1;
    while (send(Events(sequence, 2))) sequence += 2;
    return absl::OkStatus();
  });
  const std::string text = Run({"events", "demo", "--count=3"});
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
  const std::string json = Run({"events", "demo", "--count=3", "--json"});
  EXPECT_EQ(std::count(json.begin(), json.end(), '\n'), 2);
  EXPECT_THAT(json, HasSubstr("\"sequence\":\"3\""));
  EXPECT_THAT(json, Not(HasSubstr("\"sequence\":\"4\"")));
  EXPECT_THAT(json, HasSubstr("\"nextSequence\":\"4\"}\n"));
}

TEST_F(TdpctlTest, ABrokenStreamOfEventsSaysWhereToContinue) {
  server_.watch_events.Do([](const v1::WatchEventsRequest&, auto& send) {
    send(Events(5, 2));
    return absl::UnavailableError("draining");
  });
  const Outcome outcome = RunAny({"events", "demo"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.err,
            "tdpctl: UNAVAILABLE: draining (continue with --from=7)\n");
}

TEST_F(TdpctlTest, StreamsHaveNoDeadlineUnlessOneIsGiven) {
  server_.watch_events.Return({});
  Run({"events", "demo"});
  EXPECT_EQ(server_.last_timeout(), absl::InfiniteDuration());
  Run({"events", "demo", "--timeout=100"});
  EXPECT_LT(server_.last_timeout(), absl::Seconds(200));
}

TEST_F(TdpctlTest, MemoryIsDumpedAcrossChunks) {
  server_.read_memory.Return(
      {Chunk(0x1000, "Hello, "), Chunk(0x1007, "guest")});
  EXPECT_EQ(Run({"mem", "read", "demo", "0x1000", "12"}),
            "00001000  48 65 6c 6c 6f 2c 20 67  75 65 73 74            "
            "  |Hello, guest|\n"
            "0000100c\n");
  EXPECT_THAT(server_.read_memory.requests(),
              ElementsAre(EqualsProto(R"pb(vm: "vms/demo"
                                           gpa: 0x1000
                                           size_bytes: 12)pb")));
}

TEST_F(TdpctlTest, MemoryIsPrintedRawOrSaved) {
  const std::string bytes("\x00\xff\n\r", 4);
  server_.read_memory.Return({Chunk(0, bytes)});
  EXPECT_EQ(Run({"mem", "read", "demo", "0", "4", "--raw"}), bytes);
  const std::string path = ::testing::TempDir() + "/memory.bin";
  EXPECT_EQ(Run({"mem", "read", "demo", "0", "4", "-o", path}), "");
  std::ifstream file(path, std::ios::binary);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), bytes);
  EXPECT_EQ(Run({"mem", "read", "demo", "0", "4", "--json"}),
            "{\"gpa\":\"0\",\"data\":\"AP8KDQ==\"}\n");
}

TEST_F(TdpctlTest, AFileThatCannotBeWrittenIsAUsageError) {
  const Outcome outcome =
      RunAny({"mem", "read", "demo", "0", "4", "-o", "/nowhere/file"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err, "tdpctl: cannot write /nowhere/file\n");
  EXPECT_TRUE(server_.read_memory.requests().empty());
}

TEST_F(TdpctlTest, MissingBytesAreAnError) {
  server_.read_memory.Return({Chunk(0, "abc")});
  Outcome outcome = RunAny({"mem", "read", "demo", "0", "4"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("DATA_LOSS: the stream stopped at 0x3"));
  server_.read_memory.Return({Chunk(0, "ab"), Chunk(3, "d")});
  outcome = RunAny({"mem", "read", "demo", "0", "4"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("DATA_LOSS: the stream stopped at 0x2"));
}

// Answers writes, and keeps what arrived and where.
class MemoryWriteTest : public TdpctlTest {
 protected:
  MemoryWriteTest() {
    server_.write_memory.Do(
        [this](const std::vector<v1::WriteGuestMemoryRequest>& requests,
               v1::WriteGuestMemoryResponse& response) {
          bytes_.clear();
          first_gpa_ = requests.at(0).gpa();
          EXPECT_EQ(requests.at(0).vm(), "vms/demo");
          for (const v1::WriteGuestMemoryRequest& request : requests) {
            EXPECT_EQ(request.gpa(), first_gpa_ + bytes_.size());
            EXPECT_LE(request.data().size(), size_t{1} << 20);
            bytes_ += request.data();
          }
          response.set_written_bytes(static_cast<int64_t>(bytes_.size()));
          return absl::OkStatus();
        });
  }

  std::string bytes_;
  uint64_t first_gpa_ = 0;
};

TEST_F(MemoryWriteTest, BytesComeFromDigitsTextFileOrInput) {
  EXPECT_EQ(Run({"mem", "write", "demo", "0x1000", "--hex=90 f4"}),
            "wrote 2 bytes at 0x1000\n");
  EXPECT_EQ(bytes_, "\x90\xf4");
  EXPECT_EQ(first_gpa_, 0x1000u);
  Run({"mem", "write", "demo", "1M", "--string=hello"});
  EXPECT_EQ(bytes_, "hello");
  const std::string path = ::testing::TempDir() + "/bytes.bin";
  std::ofstream(path, std::ios::binary) << "from a file";
  Run({"mem", "write", "demo", "1M", "--file=" + path});
  EXPECT_EQ(bytes_, "from a file");
  EXPECT_EQ(Run({"mem", "write", "demo", "1M", "--json"}, "from stdin"),
            "{\"writtenBytes\":\"10\"}\n");
  EXPECT_EQ(bytes_, "from stdin");
}

TEST_F(MemoryWriteTest, LongInputGoesInChunksWithoutAGap) {
  std::string input;
  for (int i = 0; i < 1000003; ++i) input += static_cast<char>(i * 31 >> 4);
  EXPECT_EQ(Run({"mem", "write", "demo", "0"}, input),
            "wrote 1000003 bytes at 0x0\n");
  EXPECT_TRUE(bytes_ == input);
  EXPECT_GT(server_.write_memory.requests().at(0).size(), 1u);
}

TEST_F(MemoryWriteTest, TwoSourcesOrAMissingFileAreUsageErrors) {
  EXPECT_EQ(
      RunAny({"mem", "write", "demo", "0", "--hex=90", "--string=a"}).exit_code,
      2);
  const Outcome outcome =
      RunAny({"mem", "write", "demo", "0", "--file=/nowhere"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.err, "tdpctl: cannot read /nowhere\n");
  EXPECT_TRUE(server_.write_memory.requests().empty());
}

TEST_F(TdpctlTest, ARefusedWriteIsTheDaemonsError) {
  server_.write_memory.Fail(
      DaemonError(absl::StatusCode::kOutOfRange, "no memslot backs frame 0x100",
                  "GFN_NOT_BACKED", {{"writtenBytes", "0"}}));
  const Outcome outcome =
      RunAny({"mem", "write", "demo", "1M", "--hex=90", "--json"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err,
            R"({"error":{"code":"OUT_OF_RANGE","domain":"tdp.v1",)"
            R"("message":"no memslot backs frame 0x100",)"
            R"("metadata":{"writtenBytes":"0"},"reason":"GFN_NOT_BACKED"}})"
            "\n");
}

}  // namespace
}  // namespace tdp::client
