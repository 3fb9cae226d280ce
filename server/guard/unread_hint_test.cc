#include "server/guard/unread_hint.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace tdp::server {
namespace {

// What a read returned, and what it said of the rest.
struct Received {
  ssize_t count = 0;
  int error = 0;
  std::string bytes;
  std::optional<int> left;
  int other_control_messages = 0;
};

class UnreadHintTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
                         ends_),
              0);
  }
  void TearDown() override {
    close(reader());
    ClosePeer();
  }

  int reader() const { return ends_[0]; }
  int peer() const { return ends_[1]; }
  void ClosePeer() {
    if (ends_[1] >= 0) close(ends_[1]);
    ends_[1] = -1;
  }
  void Send(const std::string& bytes) const {
    ASSERT_EQ(write(peer(), bytes.data(), bytes.size()),
              static_cast<ssize_t>(bytes.size()));
  }
  // Sends a descriptor along.
  void SendDescriptor(const std::string& bytes) const {
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    iovec piece = {const_cast<char*>(bytes.data()), bytes.size()};
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int sent = STDERR_FILENO;
    memcpy(CMSG_DATA(header), &sent, sizeof(sent));
    ASSERT_EQ(sendmsg(peer(), &message, 0), static_cast<ssize_t>(bytes.size()));
  }

  // Reads into pieces of these sizes.
  Received Receive(std::vector<size_t> sizes, bool with_control = true) const {
    std::vector<std::string> buffers;
    for (const size_t size : sizes) buffers.emplace_back(size, '\0');
    std::vector<iovec> pieces;
    for (std::string& buffer : buffers) {
      pieces.push_back({buffer.data(), buffer.size()});
    }
    alignas(cmsghdr) char control[64] = {};
    msghdr message = {};
    message.msg_iov = pieces.data();
    message.msg_iovlen = pieces.size();
    if (with_control) {
      message.msg_control = control;
      message.msg_controllen = sizeof(control);
    }
    Received received;
    received.count = ReceiveWithUnreadHint(reader(), &message, 0);
    received.error = received.count < 0 ? errno : 0;
    for (const std::string& buffer : buffers) received.bytes += buffer;
    received.bytes.resize(received.count < 0 ? 0 : received.count);
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level == SOL_TCP && header->cmsg_type == TCP_CM_INQ &&
          header->cmsg_len == CMSG_LEN(sizeof(int))) {
        received.left.emplace();
        memcpy(&*received.left, CMSG_DATA(header), sizeof(int));
      } else {
        ++received.other_control_messages;
      }
    }
    return received;
  }

 private:
  int ends_[2] = {-1, -1};
};

TEST_F(UnreadHintTest, ASocketThatWasReadEmptySaysSo) {
  Send("abc");
  const Received received = Receive({8});
  EXPECT_EQ(received.bytes, "abc");
  EXPECT_EQ(received.left, 0);
}

TEST_F(UnreadHintTest, AFullBufferMayHaveLeftSomething) {
  Send("abcd");
  EXPECT_EQ(Receive({2, 2}).left, 1) << "it did not look further";
  Send("abcdef");
  const Received first = Receive({4});
  EXPECT_EQ(first.bytes, "abcd");
  EXPECT_EQ(first.left, 1);
  const Received rest = Receive({4});
  EXPECT_EQ(rest.bytes, "ef");
  EXPECT_EQ(rest.left, 0);
}

TEST_F(UnreadHintTest, TheEndBehindWhatWasReadIsNotLost) {
  Send("abc");
  ClosePeer();
  const Received received = Receive({8});
  EXPECT_EQ(received.bytes, "abc");
  EXPECT_EQ(received.left, 1) << "epoll may have told of the end already";
  EXPECT_EQ(Receive({8}).count, 0);
}

TEST_F(UnreadHintTest, AnErrorBehindWhatWasReadIsNotLost) {
  // A peer that closes what it has not read resets the connection.
  ASSERT_EQ(write(reader(), "unread", 6), 6);
  Send("abc");
  ClosePeer();
  const Received received = Receive({8});
  EXPECT_EQ(received.bytes, "abc");
  EXPECT_EQ(received.left, 1);
  EXPECT_LE(Receive({8}).count, 0);
}

TEST_F(UnreadHintTest, PiecesAreFilledOneAfterTheOther) {
  Send("abcde");
  const Received received = Receive({2, 1, 4});
  EXPECT_EQ(received.bytes, std::string("abcde"));
  EXPECT_EQ(received.left, 0);
}

TEST_F(UnreadHintTest, DescriptorsOfThePeerAreNotTaken) {
  SendDescriptor("ab");
  Send("cd");
  const int next = fcntl(reader(), F_DUPFD_CLOEXEC, 0);
  close(next);
  const Received received = Receive({8});
  EXPECT_EQ(received.bytes, "abcd") << "the kernel reads up to a descriptor";
  EXPECT_EQ(received.left, 1) << "it did not look a third time";
  EXPECT_EQ(received.other_control_messages, 0);
  const int still_next = fcntl(reader(), F_DUPFD_CLOEXEC, 0);
  EXPECT_EQ(still_next, next);
  close(still_next);
}

TEST_F(UnreadHintTest, TooManyPiecesAreReadWithoutAHint) {
  Send("abc");
  EXPECT_EQ(Receive(std::vector<size_t>(64, 1)).left, 0);
  Send("abc");
  const Received received = Receive(std::vector<size_t>(65, 1));
  EXPECT_EQ(received.bytes, "abc");
  EXPECT_EQ(received.left, std::nullopt);
}

TEST_F(UnreadHintTest, NothingToReadAndNoRoomForAHintAreAsEver) {
  const Received empty = Receive({8});
  EXPECT_EQ(empty.count, -1);
  EXPECT_EQ(empty.error, EAGAIN);
  EXPECT_EQ(empty.left, std::nullopt);
  Send("abc");
  const Received without = Receive({8}, /*with_control=*/false);
  EXPECT_EQ(without.bytes, "abc");
  EXPECT_EQ(without.left, std::nullopt);
}

}  // namespace
}  // namespace tdp::server
