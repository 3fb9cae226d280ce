#include "engine/memory/userfaultfd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "engine/base/errors.h"
#include "engine/memory/memory_test_util.h"
#include "engine/memory/userfaultfd_support.h"

namespace tdp {
namespace {

constexpr uint64_t kAllModes = UFFDIO_REGISTER_MODE_MISSING |
                               UFFDIO_REGISTER_MODE_MINOR |
                               UFFDIO_REGISTER_MODE_WP;

// A shared mapping of `frames` frames, of which the first `filled` have pages.
class Mapping {
 public:
  Mapping(uint64_t frames, uint64_t filled) : bytes_(frames * kPageSize) {
    const int fd = memfd_create("test", MFD_CLOEXEC);
    EXPECT_EQ(ftruncate(fd, static_cast<off_t>(bytes_)), 0);
    if (filled > 0) {
      EXPECT_EQ(fallocate(fd, 0, 0, static_cast<off_t>(filled * kPageSize)), 0);
    }
    start_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    EXPECT_NE(start_, MAP_FAILED);
    close(fd);
  }
  ~Mapping() { munmap(start_, bytes_); }

  Hva At(uint64_t frame) const {
    return Hva(reinterpret_cast<uint64_t>(start_)) + frame * kPageSize;
  }
  uint64_t bytes() const { return bytes_; }

 private:
  uint64_t bytes_;
  void* start_;
};

TEST(UserfaultfdTest, ComesFromTheDeviceCloseOnExecAndNonBlocking) {
  const absl::StatusOr<Userfaultfd> userfaultfd = Userfaultfd::Create();
  ASSERT_TRUE(userfaultfd.ok()) << userfaultfd.status();
  EXPECT_NE(fcntl(userfaultfd->fd(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_NE(fcntl(userfaultfd->fd(), F_GETFL) & O_NONBLOCK, 0);
  const UserfaultfdSupport support = ProbeUserfaultfd();
  EXPECT_EQ(support.way, UserfaultfdWay::kDevice);
  EXPECT_TRUE(support.Complete());
  for (const UserfaultfdFeature& feature : support.features) {
    EXPECT_TRUE(feature.hint.empty()) << feature.hint;
  }
}

TEST(UserfaultfdTest, SaysWhatIsMissingWhereNoWayLeadsToOne) {
  const absl::StatusOr<Userfaultfd> userfaultfd = Userfaultfd::Create(
      {.device_path = "/nonexistent/device", .use_system_call = false});
  ASSERT_FALSE(userfaultfd.ok());
  EXPECT_EQ(ReasonOf(userfaultfd.status()), ErrorReason::kCapabilityMissing);
  EXPECT_EQ(MetadataOf(userfaultfd.status(), "capability"), "userfaultfd");
}

TEST(UserfaultfdTest, ARefusedPermissionIsNamedWithItsFix) {
  const UserfaultfdSupport support = DescribeUserfaultfd(
      {.device_error = EACCES, .system_call_error = EPERM}, 0);
  EXPECT_FALSE(support.Complete());
  const absl::Status status = UserfaultfdMissingError(support);
  const std::string message(status.message());
  EXPECT_NE(message.find("Permission denied"), std::string::npos) << message;
  EXPECT_NE(message.find("Operation not permitted"), std::string::npos);
  EXPECT_NE(message.find("/dev/userfaultfd"), std::string::npos);
  EXPECT_NE(message.find("CAP_SYS_PTRACE"), std::string::npos);
  for (const UserfaultfdFeature& feature : support.features) {
    EXPECT_FALSE(feature.available);
    EXPECT_FALSE(feature.hint.empty()) << feature.name;
  }
}

TEST(UserfaultfdTest, EachMissingFeatureIsNamedWithTheKernelThatHasIt) {
  const uint64_t all = kUserfaultfdFeatures | kFeatureWriteProtectUnpopulated;
  const UserfaultfdOpening opening = {.fd = -1, .way = UserfaultfdWay::kDevice};
  EXPECT_TRUE(DescribeUserfaultfd(opening, all).Complete());
  for (uint64_t bit = 1; bit != 0; bit <<= 1) {
    if ((all & bit) == 0) continue;
    const UserfaultfdSupport support = DescribeUserfaultfd(opening, all & ~bit);
    EXPECT_FALSE(support.Complete()) << bit;
    const absl::Status status = UserfaultfdMissingError(support);
    EXPECT_NE(status.message().find("boot Linux"), absl::string_view::npos)
        << status;
  }
}

TEST(UserfaultfdTest, RunningOutOfFilesIsALimit) {
  rlimit old_limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old_limit), 0);
  rlimit limit = old_limit;
  limit.rlim_cur = 0;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  const absl::StatusOr<Userfaultfd> userfaultfd = Userfaultfd::Create();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old_limit), 0);
  ASSERT_FALSE(userfaultfd.ok());
  EXPECT_EQ(ReasonOf(userfaultfd.status()), ErrorReason::kLimitReached);
  EXPECT_EQ(MetadataOf(userfaultfd.status(), "limit"), "RLIMIT_NOFILE");
}

TEST(UserfaultfdTest, RegisteringWhatIsNoMappingFails) {
  const absl::StatusOr<Userfaultfd> userfaultfd = Userfaultfd::Create();
  ASSERT_TRUE(userfaultfd.ok());
  EXPECT_EQ(userfaultfd->Register(Hva(kPageSize), kPageSize, kAllModes),
            EINVAL);
}

TEST(UserfaultfdTest, WithoutEventsReadingReturnsAtOnce) {
  const absl::StatusOr<Userfaultfd> userfaultfd = Userfaultfd::Create();
  ASSERT_TRUE(userfaultfd.ok());
  uffd_msg messages[4];
  const absl::StatusOr<size_t> count =
      userfaultfd->ReadEvents(absl::MakeSpan(messages));
  ASSERT_TRUE(count.ok());
  EXPECT_EQ(*count, 0u);
}

TEST(UserfaultfdTest, ContinueReportsWhatTheKernelReports) {
  const Mapping mapping(8, 4);
  absl::StatusOr<Userfaultfd> userfaultfd = Userfaultfd::Create();
  ASSERT_TRUE(userfaultfd.ok());
  ASSERT_EQ(userfaultfd->Register(mapping.At(0), mapping.bytes(), kAllModes),
            0);

  ContinueResult result = userfaultfd->Continue(mapping.At(1), kPageSize, 0);
  EXPECT_EQ(result.error, 0);
  EXPECT_EQ(result.mapped, static_cast<int64_t>(kPageSize));
  // Mapped already.
  result = userfaultfd->Continue(mapping.At(1), kPageSize, 0);
  EXPECT_EQ(result.error, EEXIST);
  EXPECT_EQ(result.mapped, -EEXIST);
  // Half-way: frame 4 has no page.
  result = userfaultfd->Continue(mapping.At(2), 4 * kPageSize, 0);
  EXPECT_EQ(result.error, EAGAIN);
  EXPECT_EQ(result.mapped, static_cast<int64_t>(2 * kPageSize));
  result = userfaultfd->Continue(mapping.At(4), kPageSize, 0);
  EXPECT_EQ(result.mapped, -EFAULT);
  // Beyond what is registered.
  result = userfaultfd->Continue(mapping.At(8), kPageSize, 0);
  EXPECT_EQ(result.error, ENOENT);

  EXPECT_EQ(userfaultfd->Unregister(mapping.At(0), mapping.bytes()), 0);
}

TEST(UserfaultfdTest, MovingHandsTheDescriptorOver) {
  absl::StatusOr<Userfaultfd> first = Userfaultfd::Create();
  ASSERT_TRUE(first.ok());
  const int fd = first->fd();
  Userfaultfd second = *std::move(first);
  EXPECT_EQ(second.fd(), fd);
  absl::StatusOr<Userfaultfd> third = Userfaultfd::Create();
  ASSERT_TRUE(third.ok());
  *third = std::move(second);
  EXPECT_EQ(third->fd(), fd);
}

}  // namespace
}  // namespace tdp
