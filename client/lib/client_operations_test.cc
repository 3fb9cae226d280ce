// Client::StreamOperations against a fake daemon.

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/lib/client.h"
#include "client/lib/target.h"
#include "client/testing/fake_server.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

class ClientOperationsTest : public testing::Test {
 protected:
  ClientOperationsTest() {
    Target target;
    target.address = server_.target();
    auto client = Client::Create(target);
    EXPECT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
    // The answer says which frame was asked for.
    server_.stream_operations.Do([](const v1::StreamOperationsRequest& request,
                                    v1::StreamOperationsResponse& response) {
      for (const v1::StreamOperation& operation : request.operations()) {
        response.add_results()->mutable_spte()->set_base_gfn(
            operation.walk_gfn());
      }
      return absl::OkStatus();
    });
  }

  // Sends `count` messages, each with its number.
  absl::Status Send(int count, int window) {
    return client_->StreamOperations(
        [&](v1::StreamOperationsRequest& request) {
          EXPECT_EQ(request.operations_size(), 0) << "the message is empty";
          if (sent_ == count) return false;
          most_unanswered_ = std::max(
              most_unanswered_, ++sent_ - static_cast<int>(answers_.size()));
          request.set_vm("vms/a");
          request.add_operations()->set_walk_gfn(
              static_cast<uint64_t>(sent_ - 1));
          return true;
        },
        [&](const v1::StreamOperationsResponse& response) {
          answers_.push_back(response.results(0).spte().base_gfn());
          return static_cast<int>(answers_.size()) != stop_after_;
        },
        window);
  }

  FakeServer server_;
  std::unique_ptr<Client> client_;
  int sent_ = 0;
  int most_unanswered_ = 0;
  int stop_after_ = -1;
  std::vector<uint64_t> answers_;
};

TEST_F(ClientOperationsTest, AnswersComeInOrderAndAreNeverMoreThanTheWindow) {
  for (const int window : {1, 4, 1000}) {
    sent_ = most_unanswered_ = 0;
    answers_.clear();
    const absl::Status status = Send(100, window);
    EXPECT_TRUE(status.ok()) << status;
    ASSERT_EQ(answers_.size(), 100u);
    for (size_t i = 0; i < answers_.size(); ++i) EXPECT_EQ(answers_[i], i);
    EXPECT_LE(most_unanswered_, window);
  }
}

TEST_F(ClientOperationsTest, NoMessageIsASuccess) {
  EXPECT_TRUE(Send(0, 4).ok());
  EXPECT_TRUE(answers_.empty());
}

TEST_F(ClientOperationsTest, AWindowThatLetsNothingThroughIsRefused) {
  for (const int window : {0, -1}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Send(1, window))) << window;
  }
  EXPECT_EQ(sent_, 0);
  EXPECT_TRUE(server_.stream_operations.requests().empty());
}

TEST_F(ClientOperationsTest, LargeMessagesDoNotBlockEachOther) {
  // More than all windows of the connection hold, both ways.
  int sent = 0;
  int answered = 0;
  const absl::Status status = client_->StreamOperations(
      [&](v1::StreamOperationsRequest& request) {
        for (uint64_t i = 0; i < 4096; ++i) {
          request.add_operations()->set_walk_gfn(i << 30);
        }
        return ++sent <= 64;
      },
      [&](const v1::StreamOperationsResponse& response) {
        EXPECT_EQ(response.results_size(), 4096);
        ++answered;
        return true;
      },
      64);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(answered, 64);
}

TEST_F(ClientOperationsTest, AnErrorEndsTheStream) {
  std::atomic<int> handled = 0;
  server_.stream_operations.Do(
      [&](const v1::StreamOperationsRequest&,
          v1::StreamOperationsResponse& response) -> absl::Status {
        if (++handled == 3) {
          return DaemonError(absl::StatusCode::kInvalidArgument, "no",
                             "FIELD_INVALID", {});
        }
        response.add_results();
        return absl::OkStatus();
      });
  EXPECT_TRUE(absl::IsInvalidArgument(Send(1000, 8)));
  EXPECT_EQ(answers_.size(), 2u);
}

TEST_F(ClientOperationsTest, TheReaderMayStopEarly) {
  stop_after_ = 5;
  EXPECT_TRUE(Send(1000, 8).ok());
  EXPECT_EQ(answers_.size(), 5u);
}

}  // namespace
}  // namespace tdp::client
