#include "server/access/san_pattern.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace tdp::server {
namespace {

// What the SPIFFE standard and DNS allow.
constexpr size_t kMaxSpiffeBytes = 2048;
constexpr size_t kMaxTrustDomainBytes = 255;
constexpr size_t kMaxHostBytes = 253;
constexpr size_t kMaxLabelBytes = 63;
constexpr absl::string_view kAnyRest = "**";

using MaybeMistake = std::optional<Mistake>;

Mistake At(size_t offset, absl::string_view rule) {
  return Mistake{offset, std::string(rule)};
}

// `allowed` besides lower-case letters and digits, and at most one star.
MaybeMistake CheckCharacters(absl::string_view segment, size_t offset,
                             absl::string_view allowed, bool upper_case) {
  bool star = false;
  for (size_t i = 0; i < segment.size(); ++i) {
    const char c = segment[i];
    if (c == '*') {
      if (star) {
        return At(offset + i,
                  "one * at most between two delimiters; ** stands for the "
                  "whole rest of a path, after its last /");
      }
      star = true;
      continue;
    }
    if (absl::ascii_islower(c) || absl::ascii_isdigit(c)) continue;
    if (upper_case && absl::ascii_isupper(c)) continue;
    if (absl::StrContains(allowed, c)) continue;
    return At(offset + i, absl::StrCat("letters", upper_case ? "" : " (small)",
                                       ", digits and ", allowed,
                                       " are all that may stand here"));
  }
  return std::nullopt;
}

MaybeMistake CheckPath(absl::string_view path, size_t offset) {
  const std::vector<absl::string_view> segments = absl::StrSplit(path, '/');
  for (size_t i = 0; i < segments.size(); ++i) {
    const absl::string_view segment = segments[i];
    if (segment.empty() || segment == "." || segment == "..") {
      return At(offset, "a segment of a path is neither empty nor . nor ..");
    }
    const bool is_rest = i + 1 == segments.size() && segment == kAnyRest;
    if (!is_rest) {
      if (auto mistake = CheckCharacters(segment, offset, "-_.", true)) {
        return mistake;
      }
    }
    offset += segment.size() + 1;
  }
  return std::nullopt;
}

MaybeMistake CheckSpiffe(absl::string_view text) {
  if (text.size() > kMaxSpiffeBytes) {
    return At(kMaxSpiffeBytes, absl::StrCat("a SPIFFE ID has ", kMaxSpiffeBytes,
                                            " bytes at most"));
  }
  absl::string_view rest = text.substr(kSpiffePrefix.size());
  const size_t slash = rest.find('/');
  const absl::string_view domain = rest.substr(0, slash);
  if (domain.empty() || domain.size() > kMaxTrustDomainBytes) {
    return At(kSpiffePrefix.size(),
              absl::StrCat("a trust domain has 1 to ", kMaxTrustDomainBytes,
                           " bytes"));
  }
  const size_t star = domain.find('*');
  if (star != absl::string_view::npos) {
    return At(kSpiffePrefix.size() + star, "a trust domain takes no *");
  }
  if (auto mistake =
          CheckCharacters(domain, kSpiffePrefix.size(), "-_.", false)) {
    return mistake;
  }
  if (slash == absl::string_view::npos) {
    return At(text.size(), "a SPIFFE ID has a path, e.g. /ns/prod");
  }
  return CheckPath(rest.substr(slash + 1), kSpiffePrefix.size() + slash + 1);
}

MaybeMistake CheckHost(absl::string_view text, bool upper_case) {
  const absl::string_view host = text.substr(kDnsPrefix.size());
  if (host.size() > kMaxHostBytes) {
    return At(
        kDnsPrefix.size() + kMaxHostBytes,
        absl::StrCat("a host name has ", kMaxHostBytes, " bytes at most"));
  }
  size_t offset = kDnsPrefix.size();
  for (const absl::string_view label : absl::StrSplit(host, '.')) {
    if (label.empty() || label.size() > kMaxLabelBytes) {
      return At(offset, absl::StrCat("a label of a host name has 1 to ",
                                     kMaxLabelBytes, " bytes"));
    }
    if (auto mistake = CheckCharacters(label, offset, "-_", upper_case)) {
      return mistake;
    }
    offset += label.size() + 1;
  }
  return std::nullopt;
}

bool IsDns(absl::string_view text) {
  return absl::StartsWith(text, kDnsPrefix);
}

}  // namespace

MaybeMistake SanPattern::Check(absl::string_view text) {
  return IsDns(text) ? CheckHost(text, true) : CheckSpiffe(text);
}

SanPattern::SanPattern(absl::string_view text)
    : text_(IsDns(text) ? absl::AsciiStrToLower(text) : std::string(text)),
      delimiter_(IsDns(text) ? '.' : '/'),
      prefix_bytes_(IsDns(text) ? kDnsPrefix.size() : kSpiffePrefix.size()) {
  const absl::string_view body = absl::string_view(text_).substr(prefix_bytes_);
  for (const absl::string_view part : absl::StrSplit(body, delimiter_)) {
    const size_t star = part.find('*');
    if (star != absl::string_view::npos) is_literal_ = false;
    if (part == kAnyRest) {
      any_rest_ = true;
    } else if (star == absl::string_view::npos) {
      segments_.push_back({std::string(part), "", false});
    } else {
      segments_.push_back({std::string(part.substr(0, star)),
                           std::string(part.substr(star + 1)), true});
    }
  }
}

bool SanPattern::Matches(absl::string_view identity) const {
  if (!absl::StartsWith(identity,
                        absl::string_view(text_).substr(0, prefix_bytes_))) {
    return false;
  }
  identity.remove_prefix(prefix_bytes_);
  bool more = true;
  for (const Segment& segment : segments_) {
    if (!more) return false;
    const size_t end = identity.find(delimiter_);
    const absl::string_view part = identity.substr(0, end);
    more = end != absl::string_view::npos;
    if (more) identity.remove_prefix(end + 1);
    if (!segment.has_star) {
      if (part != segment.before) return false;
      continue;
    }
    if (part.size() < segment.before.size() + segment.after.size() ||
        !absl::StartsWith(part, segment.before) ||
        !absl::EndsWith(part, segment.after)) {
      return false;
    }
  }
  return more == any_rest_;
}

bool IsSanIdentity(absl::string_view text) {
  if (absl::StrContains(text, '*')) return false;
  if (IsDns(text)) return !CheckHost(text, false).has_value();
  return absl::StartsWith(text, kSpiffePrefix) &&
         !CheckSpiffe(text).has_value();
}

}  // namespace tdp::server
