#include "engine/memory/idle_ages.h"

#include <optional>

#include "absl/time/time.h"
#include "engine/sync/mutex.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

using Reader = IdleAges::Reader;

constexpr absl::Duration kHour = absl::Hours(1);

TEST(IdleAgesTest, KeepsNothingUntilToldTo) {
  IdleAges ages(100);
  {
    MutexLock lock(ages.mutex());
    EXPECT_FALSE(ages.kept());
    EXPECT_FALSE(ages.has_words());
  }
  ASSERT_TRUE(ages.Keep().ok());
  MutexLock lock(ages.mutex());
  EXPECT_TRUE(ages.kept());
  EXPECT_TRUE(ages.has_words());
  EXPECT_FALSE(ages.HasWord(Reader::kScanner, 0, 100));
  EXPECT_FALSE(ages.HasWord(Reader::kClient, 0, 100));
  EXPECT_EQ(ages.IdleAge(0, 100, kHour), std::nullopt);
}

TEST(IdleAgesTest, EachReaderTakesItsOwnWord) {
  IdleAges ages(200);
  ASSERT_TRUE(ages.Keep().ok());
  MutexLock lock(ages.mutex());
  ages.LeaveWord(60, 130);
  for (const Reader reader : {Reader::kScanner, Reader::kClient}) {
    EXPECT_FALSE(ages.HasWord(reader, 0, 60));
    EXPECT_TRUE(ages.HasWord(reader, 0, 61));
    EXPECT_TRUE(ages.HasWord(reader, 60, 61));
    EXPECT_TRUE(ages.HasWord(reader, 129, 200));
    EXPECT_FALSE(ages.HasWord(reader, 130, 200));
  }
  ages.TakeWord(Reader::kScanner, 0, 129);
  EXPECT_FALSE(ages.HasWord(Reader::kScanner, 0, 129));
  EXPECT_TRUE(ages.HasWord(Reader::kScanner, 0, 130));
  EXPECT_TRUE(ages.HasWord(Reader::kClient, 60, 61));
}

TEST(IdleAgesTest, AFrameIsIdleSinceItsLastUse) {
  IdleAges ages(10);
  ASSERT_TRUE(ages.Keep().ok());
  MutexLock lock(ages.mutex());
  ages.SetLastUse(2, 4, kHour);
  EXPECT_EQ(ages.IdleAge(2, 3, kHour), absl::ZeroDuration());
  EXPECT_EQ(ages.IdleAge(3, 4, kHour + absl::Milliseconds(100)),
            absl::Milliseconds(100));
  EXPECT_EQ(ages.IdleAge(4, 5, kHour), std::nullopt);
  ages.SetLastUse(3, 4, kHour + absl::Seconds(1));
  EXPECT_EQ(ages.IdleAge(0, 10, kHour + absl::Seconds(3)), absl::Seconds(2))
      << "of several, the last use counts";
}

TEST(IdleAgesTest, AgesPastTheEndOfTheClocksNumbers) {
  // Milliseconds wrap around 2^32.
  const absl::Duration before = absl::Milliseconds((int64_t{1} << 32) - 50);
  IdleAges ages(3);
  ASSERT_TRUE(ages.Keep().ok());
  MutexLock lock(ages.mutex());
  ages.SetLastUse(0, 1, before);
  EXPECT_EQ(ages.IdleAge(0, 1, before + absl::Milliseconds(150)),
            absl::Milliseconds(150));
  // The moment that would be number 0 has a number of its own.
  ages.SetLastUse(1, 2, before + absl::Milliseconds(50));
  EXPECT_TRUE(ages.IdleAge(1, 2, before + kHour).has_value());
}

TEST(IdleAgesTest, AnOldFrameNeverBecomesYoungByItself) {
  IdleAges ages(1);
  ASSERT_TRUE(ages.Keep().ok());
  MutexLock lock(ages.mutex());
  ages.SetLastUse(0, 1, absl::ZeroDuration());
  const absl::Duration step = absl::Hours(200);
  EXPECT_EQ(ages.IdleAge(0, 1, step), step - absl::Milliseconds(1))
      << "time 0 is kept as 1";
  for (int i = 3; i < 30; ++i) {
    EXPECT_EQ(ages.IdleAge(0, 1, i * step), IdleAges::kMaxAge) << i;
  }
}

TEST(IdleAgesTest, DroppingForgetsAllButWhatClientsHaveNotTaken) {
  IdleAges ages(10);
  ages.Drop();
  ASSERT_TRUE(ages.Keep().ok());
  {
    MutexLock lock(ages.mutex());
    ages.LeaveWord(0, 10);
    ages.SetLastUse(0, 10, kHour);
  }
  ASSERT_TRUE(ages.Keep().ok());
  {
    MutexLock lock(ages.mutex());
    EXPECT_TRUE(ages.HasWord(Reader::kScanner, 0, 10)) << "kept already";
  }
  ages.Drop();
  ages.Drop();
  {
    MutexLock lock(ages.mutex());
    EXPECT_FALSE(ages.kept());
    EXPECT_TRUE(ages.HasWord(Reader::kClient, 0, 10));
    ages.TakeWord(Reader::kClient, 0, 10);
    // One client to another.
    ages.LeaveWord(3, 4);
    EXPECT_TRUE(ages.HasWord(Reader::kClient, 3, 4));
  }
  ASSERT_TRUE(ages.Keep().ok());
  MutexLock lock(ages.mutex());
  EXPECT_FALSE(ages.HasWord(Reader::kScanner, 0, 10));
  EXPECT_FALSE(ages.HasWord(Reader::kClient, 0, 3));
  EXPECT_TRUE(ages.HasWord(Reader::kClient, 3, 4));
  EXPECT_EQ(ages.IdleAge(0, 10, kHour), std::nullopt);
}

}  // namespace
}  // namespace tdp
