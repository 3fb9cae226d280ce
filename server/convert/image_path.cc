#include "server/convert/image_path.h"

#include "absl/strings/str_split.h"
#include "engine/base/errors.h"
#include "server/convert/text.h"

namespace tdp::server {
namespace {

constexpr size_t kMaxPathBytes = 1024;

}  // namespace

absl::Status CheckImagePath(absl::string_view field, absl::string_view path) {
  bool good = !path.empty() && path.size() <= kMaxPathBytes &&
              path.front() != '/' && path.find('\0') == absl::string_view::npos;
  for (absl::string_view part : absl::StrSplit(path, '/')) {
    good = good && part != "..";
  }
  if (good) return absl::OkStatus();
  return FieldError(field, Shown(path),
                    "a path of at most 1024 bytes below the image directory: "
                    "not absolute, without \"..\"");
}

}  // namespace tdp::server
