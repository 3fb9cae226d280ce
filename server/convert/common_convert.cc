#include "server/convert/common_convert.h"

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "server/base/status_macros.h"

namespace tdp::server {

void ToProto(absl::Time time, google::protobuf::Timestamp* out) {
  const int64_t seconds = absl::ToUnixSeconds(time);
  out->set_seconds(seconds);
  out->set_nanos(static_cast<int32_t>(
      absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
}

void ToProto(absl::Duration duration, google::protobuf::Duration* out) {
  // Seconds and nanoseconds have the same sign, as the API wants them.
  absl::Duration rest;
  out->set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  out->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
}

absl::StatusOr<absl::Duration> DurationFrom(
    absl::string_view field, const google::protobuf::Duration& duration) {
  const int64_t seconds = duration.seconds();
  const int32_t nanos = duration.nanos();
  constexpr int32_t kSecond = 1'000'000'000;
  if (nanos <= -kSecond || nanos >= kSecond || (seconds < 0 && nanos > 0) ||
      (seconds > 0 && nanos < 0)) {
    return FieldError(field,
                      absl::StrCat(seconds, " seconds and ", nanos, " nanos"),
                      "less than a second of nanos, of the same sign as the "
                      "seconds");
  }
  return absl::Seconds(seconds) + absl::Nanoseconds(nanos);
}

void ToProto(Access access, v1::Access* out) {
  out->set_read(access.read);
  out->set_write(access.write);
}

v1::PageLevel ToProto(PageLevel level) {
  return static_cast<v1::PageLevel>(level);
}

absl::StatusOr<GfnRange> RangeFrom(absl::string_view field, bool present,
                                   const v1::GfnRange& range) {
  if (!present) return FieldError(field, "", "set");
  if (range.end_gfn() <= range.start_gfn()) {
    return FieldError(absl::StrCat(field, ".end_gfn"), Hex(range.end_gfn()),
                      absl::StrCat("greater than start_gfn, which is ",
                                   Hex(range.start_gfn())));
  }
  return GfnRange{Gfn(range.start_gfn()), Gfn(range.end_gfn())};
}

absl::StatusOr<Access> AccessFrom(absl::string_view field, bool present,
                                  const v1::Access& access) {
  if (!present) {
    return FieldError(field, "",
                      "set: to read, to read and write, or to neither, which "
                      "is no access");
  }
  return Access{.read = access.read(), .write = access.write()};
}

absl::StatusOr<PageLevel> LevelFrom(absl::string_view field,
                                    v1::PageLevel level,
                                    PageLevel if_unspecified) {
  if (level == v1::PAGE_LEVEL_UNSPECIFIED) return if_unspecified;
  if (!v1::PageLevel_IsValid(level)) {
    return EnumError(field, level, "",
                     "a value of PageLevel, PAGE_LEVEL_4K to PAGE_LEVEL_256T");
  }
  return static_cast<PageLevel>(level);
}

absl::StatusOr<int> LevelNumberFrom(absl::string_view field,
                                    v1::PageLevel level) {
  if (level == v1::PAGE_LEVEL_UNSPECIFIED) return 0;
  TDP_ASSIGN_OR_RETURN(const PageLevel known,
                       LevelFrom(field, level, PageLevel::k4K));
  return static_cast<int>(known);
}

absl::StatusOr<int> SmallLevelFrom(absl::string_view field,
                                   v1::PageLevel level) {
  switch (level) {
    case v1::PAGE_LEVEL_UNSPECIFIED:
      return 0;
    case v1::PAGE_LEVEL_4K:
      return 1;
    case v1::PAGE_LEVEL_2M:
      return 2;
    default:
      return EnumError(field, level, v1::PageLevel_Name(level),
                       "PAGE_LEVEL_4K, PAGE_LEVEL_2M or unspecified");
  }
}

absl::Status EnumError(absl::string_view field, int value,
                       absl::string_view name, absl::string_view rule) {
  return FieldError(
      field,
      name.empty() ? absl::StrCat(value) : absl::StrCat(name, " (", value, ")"),
      rule);
}

}  // namespace tdp::server
