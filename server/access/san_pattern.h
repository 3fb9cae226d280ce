// SanPattern: which names of client certificates a line of the policy means.
//
//   spiffe://cluster.example/ns/prod/*   one segment
//   spiffe://cluster.example/ns/prod/**  any rest, of one segment or more
//   dns:node-*.example.com               one label, or part of it
//
// A `*` stands for any characters within one segment of a path or one label of
// a host name, also for none; a segment has one at most. A trust domain has
// none. Nothing else is special.
//
// Thread safety: immutable after construction.

#ifndef SERVER_ACCESS_SAN_PATTERN_H_
#define SERVER_ACCESS_SAN_PATTERN_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tdp::server {

inline constexpr absl::string_view kSpiffePrefix = "spiffe://";
inline constexpr absl::string_view kDnsPrefix = "dns:";

// What is wrong with a text, and from which byte on.
struct Mistake {
  size_t offset = 0;
  std::string rule;
};

class SanPattern {
 public:
  // Nothing, or why `text`, which begins with one of the prefixes, is none.
  static std::optional<Mistake> Check(absl::string_view text);

  // REQUIRES: Check(text) found nothing.
  explicit SanPattern(absl::string_view text);

  // Whether it means one name only, which is text().
  bool is_literal() const { return is_literal_; }
  const std::string& text() const { return text_; }
  // Whether it means `identity`: an identity as IsSanIdentity() knows it.
  bool Matches(absl::string_view identity) const;

 private:
  struct Segment {
    std::string before;  // all of it, if there is no star
    std::string after;
    bool has_star = false;
  };

  std::string text_;  // host names in lower case
  char delimiter_ = '/';
  size_t prefix_bytes_ = 0;
  std::vector<Segment> segments_;
  bool any_rest_ = false;
  bool is_literal_ = true;
};

// Whether `text` is "spiffe://..." or "dns:..." as a certificate may say it of
// its owner: well-formed, in lower case if it is a host name, without a star.
bool IsSanIdentity(absl::string_view text);

}  // namespace tdp::server

#endif  // SERVER_ACCESS_SAN_PATTERN_H_
