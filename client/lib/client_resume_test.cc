// Streams that break, against a fake daemon, in a time that nobody waits for.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/lib/call_error.h"
#include "client/lib/client.h"
#include "client/lib/target.h"
#include "client/testing/fake_clock.h"
#include "client/testing/fake_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

class ClientResumeTest : public testing::Test {
 protected:
  ClientResumeTest() {
    Target target;
    target.address = server_.target();
    auto client = Client::Create(target, {.clock = time_.Clock()});
    EXPECT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
  }

  // Sends the events from the request's to the 10th, but each stream breaks
  // after `most` of them.
  void ServeEvents(int most, absl::Status error) {
    server_.watch_events.Do(
        [=](const v1::WatchEventsRequest& request,
            std::function<bool(const v1::WatchEventsResponse&)>& send) {
          int64_t sequence = request.start_sequence();
          for (int sent = 0; sequence <= 10; ++sequence, ++sent) {
            if (sent == most) return error;
            v1::WatchEventsResponse response;
            response.add_events()->set_sequence(sequence);
            response.set_next_sequence(sequence + 1);
            send(response);
          }
          return absl::OkStatus();
        });
  }

  absl::Status Watch() {
    v1::WatchEventsRequest request;
    request.set_start_sequence(1);
    return client_->WatchEvents(
        request, [&](const v1::WatchEventsResponse& response) {
          for (const v1::Event& event : response.events()) {
            sequences_.push_back(event.sequence());
          }
          return true;
        });
  }

  FakeServer server_;
  FakeClock time_;
  std::unique_ptr<Client> client_;
  std::vector<int64_t> sequences_;
};

absl::Status Gone() { return absl::UnavailableError("Socket closed"); }

TEST_F(ClientResumeTest, EventsAreGaplessWhereverTheStreamBreaks) {
  for (int most = 1; most <= 10; ++most) {
    sequences_.clear();
    ServeEvents(most, Gone());
    const absl::Status status = Watch();
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_THAT(sequences_, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
  }
}

TEST_F(ClientResumeTest, AReaderThatIsTooSlowGoesOnWhereItWas) {
  // As the daemon cuts off a stream: without details.
  ServeEvents(4, absl::ResourceExhaustedError(
                     "STREAM_TOO_SLOW: what was sent was not read"));
  EXPECT_TRUE(Watch().ok());
  EXPECT_THAT(sequences_, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
  EXPECT_THAT(server_.watch_events.requests(), SizeIs(3));
}

TEST_F(ClientResumeTest, EventsThatAreGoneEndTheStream) {
  ServeEvents(4, DaemonError(absl::StatusCode::kOutOfRange, "gone",
                             "EVENTS_TRUNCATED", {}));
  EXPECT_TRUE(absl::IsOutOfRange(Watch()));
  EXPECT_THAT(server_.watch_events.requests(), SizeIs(1));
}

TEST_F(ClientResumeTest, AStreamThatGetsNowhereEnds) {
  ServeEvents(0, Gone());
  EXPECT_EQ(ErrorText(Watch()), "UNAVAILABLE: Socket closed (tried 5 times)");
  EXPECT_THAT(server_.watch_events.requests(), SizeIs(5));
  EXPECT_THAT(time_.waits, SizeIs(4));
}

TEST_F(ClientResumeTest, AReaderThatHasEnoughIsNotServedAgain) {
  ServeEvents(4, Gone());
  v1::WatchEventsRequest request;
  request.set_start_sequence(1);
  EXPECT_TRUE(
      client_
          ->WatchEvents(request,
                        [](const v1::WatchEventsResponse&) { return false; })
          .ok());
  EXPECT_THAT(server_.watch_events.requests(), SizeIs(1));
}

TEST_F(ClientResumeTest, AWalkShowsEachFrameOnceWhereverItBreaks) {
  for (int most = 1; most <= 8; ++most) {
    server_.walk_range.Do(
        [=](const v1::WalkRangeRequest& request,
            std::function<bool(const v1::WalkRangeResponse&)>& send) {
          int sent = 0;
          for (uint64_t gfn = request.range().start_gfn();
               gfn < request.range().end_gfn(); ++gfn) {
            if (sent++ == most) return Gone();
            v1::WalkRangeResponse response;
            if (sent == 1) {  // the table above
              response.add_sptes()->set_level(v1::PAGE_LEVEL_2M);
            }
            v1::Spte* spte = response.add_sptes();
            spte->set_level(v1::PAGE_LEVEL_4K);
            spte->set_base_gfn(gfn);
            response.set_next_gfn(gfn + 1);
            send(response);
          }
          return most == 8 ? Gone() : absl::OkStatus();
        });
    v1::WalkRangeRequest request;
    request.mutable_range()->set_end_gfn(8);
    std::vector<uint64_t> gfns;
    int tables = 0;
    const absl::Status status =
        client_->WalkRange(request, [&](const v1::WalkRangeResponse& response) {
          for (const v1::Spte& spte : response.sptes()) {
            if (spte.level() == v1::PAGE_LEVEL_2M) {
              ++tables;
            } else {
              gfns.push_back(spte.base_gfn());
            }
          }
          return true;
        });
    EXPECT_TRUE(status.ok()) << most << ": " << status;
    EXPECT_THAT(gfns, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
    EXPECT_EQ(tables, 1);
  }
}

TEST_F(ClientResumeTest, BytesAreReadToTheirEnd) {
  const std::string bytes = "0123456789";
  server_.read_memory.Do(
      [&](const v1::ReadGuestMemoryRequest& request,
          std::function<bool(const v1::ReadGuestMemoryResponse&)>& send) {
        v1::ReadGuestMemoryResponse response;
        response.set_gpa(request.gpa());
        response.set_data(bytes.substr(request.gpa(), 4));
        EXPECT_EQ(request.gpa() + request.size_bytes(), bytes.size());
        send(response);
        return Gone();
      });
  v1::ReadGuestMemoryRequest request;
  request.set_size_bytes(static_cast<int64_t>(bytes.size()));
  std::string read;
  const absl::Status status = client_->ReadGuestMemory(
      request, [&](const v1::ReadGuestMemoryResponse& response) {
        read += response.data();
        return true;
      });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(read, bytes);
  EXPECT_THAT(server_.read_memory.requests(), SizeIs(3));
}

TEST_F(ClientResumeTest, WhatCannotSayWhereToGoOnIsNotAskedAgain) {
  server_.read_dirty_log.Do(
      [](const v1::ReadDirtyLogRequest&,
         std::function<bool(const v1::ReadDirtyLogResponse&)>& send) {
        send({});
        return Gone();
      });
  EXPECT_TRUE(absl::IsUnavailable(client_->ReadDirtyLog(
      {}, [](const v1::ReadDirtyLogResponse&) { return true; })));
  EXPECT_THAT(server_.read_dirty_log.requests(), SizeIs(1));
}

TEST_F(ClientResumeTest, StreamsThatSendAreNotRepeated) {
  server_.clear_dirty_log.Fail(Gone());
  EXPECT_FALSE(client_->ClearDirtyLog("vms/a/memslots/b", "", {}).ok());
  EXPECT_THAT(server_.clear_dirty_log.requests(), SizeIs(1));
}

}  // namespace
}  // namespace tdp::client
