#include "server/access/policy_parser.h"

#include <grp.h>
#include <pwd.h>

#include <limits>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "server/base/status_macros.h"
#include "server/convert/text.h"

namespace tdp::server {
namespace {

constexpr absl::string_view kSpace = " \t\r\v\f";
constexpr absl::string_view kRoleRule =
    "a line begins with observer, operator, admin or none";
constexpr absl::string_view kPrincipalRule =
    "whom a line names is uid:N, user:NAME, gid:N, group:NAME, "
    "spiffe://PATTERN, dns:PATTERN or loopback";

// A word of a line and where it begins.
struct Word {
  absl::string_view text;
  size_t offset = 0;
};

std::vector<Word> WordsOf(absl::string_view line) {
  line = line.substr(0, line.find('#'));
  std::vector<Word> words;
  size_t end = 0;
  while (true) {
    const size_t begin = line.find_first_not_of(kSpace, end);
    if (begin == absl::string_view::npos) return words;
    end = std::min(line.find_first_of(kSpace, begin), line.size());
    words.push_back({line.substr(begin, end - begin), begin});
  }
}

class Parser {
 public:
  Parser(absl::string_view file, uid_t own_user, const NameLookup& names)
      : file_(file), names_(names), policy_(own_user) {}

  absl::StatusOr<AccessPolicy> Parse(absl::string_view text) {
    if (text.size() > static_cast<size_t>(limits::kMaxPolicyBytes)) {
      return TooMuch("bytes", limits::kMaxPolicyBytes);
    }
    for (const absl::string_view line : absl::StrSplit(text, '\n')) {
      // What follows the last line break is a line only if it is not empty.
      if (++line_ > limits::kMaxPolicyLines &&
          line.data() != text.data() + text.size()) {
        return TooMuch("lines", limits::kMaxPolicyLines);
      }
      TDP_RETURN_IF_ERROR(ParseLine(line));
    }
    return std::move(policy_);
  }

 private:
  absl::Status TooMuch(absl::string_view what, int64_t most) const {
    return MakeError(ErrorReason::kFieldInvalid,
                     absl::StrCat("policy file ", file_, ": it has more than ",
                                  most, " ", what));
  }
  absl::Status Wrong(const Word& word, absl::string_view rule,
                     size_t offset = 0) const {
    return MakeError(ErrorReason::kFieldInvalid,
                     absl::StrCat("policy file ", file_, ", line ", line_,
                                  ", column ", word.offset + offset + 1, ": ",
                                  Shown(word.text), ": ", rule));
  }

  absl::Status ParseLine(absl::string_view line) {
    const std::vector<Word> words = WordsOf(line);
    if (words.empty()) return absl::OkStatus();
    const std::optional<Role> role = RoleOfName(words[0].text);
    if (!role.has_value()) return Wrong(words[0], kRoleRule);
    if (words.size() < 2) {
      const Word end{"", words[0].offset + words[0].text.size()};
      return Wrong(end, kPrincipalRule);
    }
    if (words.size() > 2) {
      return Wrong(words[2], "a line has two words; # begins a comment");
    }
    return ParsePrincipal(*role, words[1]);
  }

  absl::Status ParsePrincipal(Role role, const Word& word) {
    absl::string_view text = word.text;
    if (text == "loopback") {
      policy_.GrantLoopback(role);
      return absl::OkStatus();
    }
    if (absl::StartsWith(text, kSpiffePrefix) ||
        absl::StartsWith(text, kDnsPrefix)) {
      return ParseSan(role, word);
    }
    if (absl::ConsumePrefix(&text, "uid:")) {
      return GrantUser(role, word, ParseId(text));
    }
    if (absl::ConsumePrefix(&text, "gid:")) {
      return GrantGroup(role, word, ParseId(text));
    }
    if (absl::ConsumePrefix(&text, "user:")) {
      const std::optional<uid_t> user = names_.user(std::string(text));
      if (!user.has_value()) {
        return Wrong(word, "this machine knows no user of this name", 5);
      }
      return GrantUser(role, word, user);
    }
    if (absl::ConsumePrefix(&text, "group:")) {
      const std::optional<gid_t> group = names_.group(std::string(text));
      if (!group.has_value()) {
        return Wrong(word, "this machine knows no group of this name", 6);
      }
      return GrantGroup(role, word, group);
    }
    return Wrong(word, kPrincipalRule);
  }

  // A number that is the ID of a user or a group: -1 means nobody to the
  // system.
  static std::optional<uint32_t> ParseId(absl::string_view text) {
    uint32_t id = 0;
    if (text.empty() || text.find_first_not_of("0123456789") != text.npos ||
        !absl::SimpleAtoi(text, &id) ||
        id == std::numeric_limits<uint32_t>::max()) {
      return std::nullopt;
    }
    return id;
  }

  absl::Status GrantUser(Role role, const Word& word,
                         std::optional<uid_t> user) {
    if (!user.has_value()) {
      return Wrong(word, "an ID is a number from 0 to 4294967294", 4);
    }
    if (policy_.IsAlwaysAdmin(*user) && role != Role::kAdmin) {
      return Wrong(word, *user == 0
                             ? "root is admin always"
                             : "the user whom the daemon runs as is admin "
                               "always");
    }
    policy_.GrantUser(*user, role);
    return absl::OkStatus();
  }

  absl::Status GrantGroup(Role role, const Word& word,
                          std::optional<gid_t> group) {
    if (!group.has_value()) {
      return Wrong(word, "an ID is a number from 0 to 4294967294", 4);
    }
    policy_.GrantGroup(*group, role);
    return absl::OkStatus();
  }

  absl::Status ParseSan(Role role, const Word& word) {
    const std::optional<Mistake> mistake = SanPattern::Check(word.text);
    if (mistake.has_value()) return Wrong(word, mistake->rule, mistake->offset);
    policy_.GrantSan(SanPattern(word.text), role);
    if (policy_.pattern_count() >
        static_cast<size_t>(limits::kMaxPolicyPatterns)) {
      return Wrong(word,
                   absl::StrCat("a policy has at most ",
                                limits::kMaxPolicyPatterns, " lines with a *"));
    }
    return absl::OkStatus();
  }

  const absl::string_view file_;
  const NameLookup& names_;
  AccessPolicy policy_;
  int64_t line_ = 0;
};

constexpr size_t kNameBufferBytes = 64 << 10;

}  // namespace

NameLookup SystemNames() {
  return {
      .user = [](const std::string& name) -> std::optional<uid_t> {
        std::vector<char> buffer(kNameBufferBytes);
        passwd entry;
        passwd* found = nullptr;
        getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
        if (found == nullptr) return std::nullopt;
        return entry.pw_uid;
      },
      .group = [](const std::string& name) -> std::optional<gid_t> {
        std::vector<char> buffer(kNameBufferBytes);
        group entry;
        group* found = nullptr;
        int error = ERANGE;
        // A group lists its members.
        while ((error = getgrnam_r(name.c_str(), &entry, buffer.data(),
                                   buffer.size(), &found)) == ERANGE &&
               buffer.size() < (kNameBufferBytes << 8)) {
          buffer.resize(buffer.size() * 2);
        }
        if (error != 0 || found == nullptr) return std::nullopt;
        return entry.gr_gid;
      },
  };
}

absl::StatusOr<AccessPolicy> ParsePolicy(absl::string_view text,
                                         absl::string_view file, uid_t own_user,
                                         const NameLookup& names) {
  return Parser(file, own_user, names).Parse(text);
}

}  // namespace tdp::server
