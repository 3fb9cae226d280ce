#include "engine/memory/file_source.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "engine/base/errors.h"
#include "engine/memory/memory_test_util.h"

namespace tdp {
namespace {

class FileSourceTest : public testing::Test {
 protected:
  absl::StatusOr<FileSource> Open(const std::string& path,
                                  int64_t offset_bytes = 0) {
    return FileSource::Open(
        {.image_dir = dir_.path(), .path = path, .offset_bytes = offset_bytes});
  }

  void ExpectPathRefused(const std::string& path) {
    const absl::StatusOr<FileSource> source = Open(path);
    ASSERT_FALSE(source.ok()) << path;
    EXPECT_EQ(ReasonOf(source.status()), ErrorReason::kFieldInvalid)
        << source.status();
    EXPECT_EQ(MetadataOf(source.status(), "field"), "memslot.source.path");
  }

  // `bytes` bytes from `offset` on.
  std::string Read(const FileSource& source, uint64_t offset, size_t bytes) {
    std::string buffer(bytes, '?');
    size_t done = 0;
    const absl::Status status = source.Read(
        calls_, offset, Gpa(0x100000) + offset, absl::MakeSpan(buffer), &done);
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(done, bytes);
    return buffer;
  }

  TempDir dir_;
  FakeHostCalls calls_;
};

TEST_F(FileSourceTest, ReadsTheBytesOfTheFile) {
  mkdir(dir_.Join("folder").c_str(), 0700);
  dir_.Write("folder/image", PatternFrames(3));
  const absl::StatusOr<FileSource> source = Open("folder/image");
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->size_bytes(), int64_t{3 * kPageSize});
  EXPECT_EQ(Read(*source, 0, 3 * kPageSize), PatternFrames(3));
  EXPECT_EQ(Read(*source, kPageSize - 1, 2), "ab");
}

TEST_F(FileSourceTest, TheFirstFrameLiesAtTheOffset) {
  dir_.Write("image", PatternFrames(3));
  const absl::StatusOr<FileSource> source = Open("image", kPageSize);
  ASSERT_TRUE(source.ok());
  EXPECT_EQ(source->size_bytes(), int64_t{2 * kPageSize});
  EXPECT_EQ(Read(*source, 0, kPageSize), std::string(kPageSize, 'b'));
}

TEST_F(FileSourceTest, BytesPastTheEndAreZero) {
  dir_.Write("image", "short");
  const absl::StatusOr<FileSource> source = Open("image");
  ASSERT_TRUE(source.ok());
  std::string expected(2 * kPageSize, '\0');
  expected.replace(0, 5, "short");
  EXPECT_EQ(Read(*source, 0, 2 * kPageSize), expected);
  EXPECT_EQ(Read(*source, uint64_t{1} << 48, 8), std::string(8, '\0'));
}

TEST_F(FileSourceTest, AnOffsetPastTheEndGivesZero) {
  dir_.Write("image", "short");
  for (const int64_t offset : {int64_t{1} << 40, INT64_MAX - 4095}) {
    const absl::StatusOr<FileSource> source = Open("image", offset);
    ASSERT_TRUE(source.ok()) << source.status();
    EXPECT_EQ(source->size_bytes(), 0);
    EXPECT_EQ(Read(*source, 0, kPageSize), std::string(kPageSize, '\0'));
  }
}

TEST_F(FileSourceTest, OffsetsThatAreNegativeOrCutAFrameAreRefused) {
  dir_.Write("image", "short");
  for (const int64_t offset : {int64_t{-4096}, int64_t{1}, int64_t{4095}}) {
    const absl::StatusOr<FileSource> source = Open("image", offset);
    EXPECT_EQ(ReasonOf(source.status()), ErrorReason::kFieldInvalid);
    EXPECT_EQ(MetadataOf(source.status(), "field"),
              "memslot.source.offset_bytes");
  }
}

TEST_F(FileSourceTest, PathsThatLeaveTheDirectoryAreRefused) {
  dir_.Write("image", "bytes");
  mkdir(dir_.Join("folder").c_str(), 0700);
  ExpectPathRefused("");
  ExpectPathRefused("/etc/hostname");
  ExpectPathRefused(dir_.Join("image"));
  ExpectPathRefused("..");
  ExpectPathRefused("../image");
  ExpectPathRefused("folder/../image");
  ExpectPathRefused("folder/..");
  ExpectPathRefused(std::string("image\0suffix", 12));
  EXPECT_TRUE(Open("./image").ok());
  EXPECT_TRUE(Open("folder//./image").status().code() ==
              absl::StatusCode::kInvalidArgument);
}

TEST_F(FileSourceTest, SymbolicLinksAreRefused) {
  dir_.Write("image", "bytes");
  ASSERT_EQ(symlink("image", dir_.Join("link").c_str()), 0);
  ASSERT_EQ(symlink("/etc", dir_.Join("etc").c_str()), 0);
  ASSERT_EQ(symlink(".", dir_.Join("here").c_str()), 0);
  ExpectPathRefused("link");
  ExpectPathRefused("etc/hostname");
  ExpectPathRefused("here/image");
}

TEST_F(FileSourceTest, WhatIsNoRegularFileIsRefusedWithoutWaiting) {
  ASSERT_EQ(mkfifo(dir_.Join("fifo").c_str(), 0600), 0);
  mkdir(dir_.Join("folder").c_str(), 0700);
  ExpectPathRefused("fifo");
  ExpectPathRefused("folder");
  ExpectPathRefused("missing");
  ExpectPathRefused("missing/image");
  ExpectPathRefused(std::string(5000, 'x'));
}

TEST_F(FileSourceTest, WithoutAnImageDirectoryThereAreNoSources) {
  const absl::StatusOr<FileSource> source =
      FileSource::Open({.image_dir = "", .path = "image"});
  EXPECT_EQ(ReasonOf(source.status()), ErrorReason::kFieldInvalid);
  EXPECT_NE(source.status().message().find("--image_dir"),
            absl::string_view::npos);
}

TEST_F(FileSourceTest, AnImageDirectoryThatIsGoneIsAFailedSource) {
  const absl::StatusOr<FileSource> source =
      FileSource::Open({.image_dir = dir_.Join("gone"), .path = "image"});
  EXPECT_EQ(ReasonOf(source.status()), ErrorReason::kSourceFailed);
}

TEST_F(FileSourceTest, RunningOutOfFilesIsALimit) {
  dir_.Write("image", "bytes");
  rlimit old_limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old_limit), 0);
  rlimit limit = old_limit;
  limit.rlim_cur = 0;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  const absl::StatusOr<FileSource> source = Open("image");
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old_limit), 0);
  EXPECT_EQ(ReasonOf(source.status()), ErrorReason::kLimitReached);
}

TEST_F(FileSourceTest, AFailedReadNamesFileFrameAndCause) {
  dir_.Write("image", PatternFrames(4));
  const absl::StatusOr<FileSource> source = Open("image");
  ASSERT_TRUE(source.ok());
  // Two frames and a half, then the disk fails.
  const size_t good = 5 * kPageSize / 2;
  calls_.on_pread = [&](uint64_t offset, size_t, ssize_t* result) {
    *result = offset >= good ? -1 : static_cast<ssize_t>(good - offset);
    errno = EIO;
    return true;
  };
  std::string buffer(4 * kPageSize, '?');
  size_t done = 0;
  const absl::Status status =
      source->Read(calls_, 0, Gpa(0x100000), absl::MakeSpan(buffer), &done);
  EXPECT_EQ(ReasonOf(status), ErrorReason::kSourceFailed);
  EXPECT_EQ(done, good);
  EXPECT_EQ(MetadataOf(status, "path"), "image");
  EXPECT_EQ(MetadataOf(status, "gfn"), "0x102");
  EXPECT_EQ(MetadataOf(status, "cause"), "Input/output error");
}

// Zero would be a lie: the bytes were there when the guest was given the file.
TEST_F(FileSourceTest, AFileThatBecameShorterFailsUntilItIsRepaired) {
  dir_.Write("image", PatternFrames(3));
  const absl::StatusOr<FileSource> source = Open("image");
  ASSERT_TRUE(source.ok());
  ASSERT_EQ(truncate(dir_.Join("image").c_str(), kPageSize + 10), 0);
  EXPECT_EQ(Read(*source, 0, kPageSize), std::string(kPageSize, 'a'));
  std::string bytes(4 * kPageSize, '?');
  size_t done = 0;
  const absl::Status status =
      source->Read(calls_, 0, GpaOf(Gfn(0x100)), absl::MakeSpan(bytes), &done);
  EXPECT_EQ(ReasonOf(status), ErrorReason::kSourceFailed);
  EXPECT_EQ(MetadataOf(status, "gfn"), "0x101");
  EXPECT_EQ(done, kPageSize + 10);
  EXPECT_EQ(Read(*source, 3 * kPageSize, kPageSize),
            std::string(kPageSize, '\0'))
      << "was never there";
  dir_.Write("image", PatternFrames(3));
  EXPECT_EQ(Read(*source, 0, 3 * kPageSize), PatternFrames(3));
}

TEST_F(FileSourceTest, WhatCannotBeToldCountsAsNotCached) {
  dir_.Write("image", PatternFrames(2));
  const absl::StatusOr<FileSource> source = Open("image");
  ASSERT_TRUE(source.ok());
  EXPECT_TRUE(source->IsCached(calls_, 2 * kPageSize)) << "nothing to read";
  calls_.on_pread_no_wait = [](uint64_t, size_t, ssize_t* result) {
    errno = EOPNOTSUPP;
    *result = -1;
    return true;
  };
  EXPECT_FALSE(source->IsCached(calls_, 0)) << "a file system that cannot tell";
}

TEST_F(FileSourceTest, InterruptedAndShortReadsGoOn) {
  dir_.Write("image", PatternFrames(1));
  const absl::StatusOr<FileSource> source = Open("image");
  ASSERT_TRUE(source.ok());
  int calls = 0;
  calls_.on_pread = [&](uint64_t, size_t, ssize_t* result) {
    *result = ++calls % 2 == 0 ? 1000 : -1;
    errno = EINTR;
    return true;
  };
  EXPECT_EQ(Read(*source, 0, kPageSize), PatternFrames(1));
}

}  // namespace
}  // namespace tdp
