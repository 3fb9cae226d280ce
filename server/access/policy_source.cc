#include "server/access/policy_source.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "server/base/status_macros.h"

namespace tdp::server {
namespace {

constexpr mode_t kWritableByOthers = S_IWGRP | S_IWOTH;

absl::Status FileError(const std::string& path, absl::string_view why) {
  return MakeError(ErrorReason::kFieldInvalid,
                   absl::StrCat("policy file ", path, ": ", why));
}

// Whoever may write the file is admin.
absl::Status CheckOwner(const std::string& path, const struct stat& info,
                        uid_t own_user) {
  if (info.st_uid != 0 && info.st_uid != own_user) {
    return FileError(path, absl::StrCat("it belongs to uid ", info.st_uid,
                                        "; it must belong to root or to the "
                                        "user whom the daemon runs as"));
  }
  if ((info.st_mode & kWritableByOthers) != 0) {
    return FileError(path,
                     "others than its owner may write it; run chmod go-w");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<PolicySource>> PolicySource::Open(
    const std::string& path, uid_t own_user, NameLookup names) {
  std::unique_ptr<PolicySource> source(
      new PolicySource(path, own_user, std::move(names)));
  if (path.empty()) return source;
  source->file_->Check();
  TDP_ASSIGN_OR_RETURN(AccessPolicy policy, source->Load());
  source->policy_.Set(std::move(policy));
  return source;
}

PolicySource::PolicySource(const std::string& path, uid_t own_user,
                           NameLookup names)
    : own_user_(own_user), names_(std::move(names)) {
  policy_.Set(AccessPolicy(own_user));
  if (!path.empty()) file_.emplace(path, limits::kMaxPolicyBytes);
}

void PolicySource::Refresh() {
  if (!file_.has_value()) return;
  const WatchedFile::Change change = file_->Check();
  if (change == WatchedFile::Change::kNone && !policy_.failed()) return;
  const std::string old_text = text_;
  absl::StatusOr<AccessPolicy> policy = Load();
  const bool same_text = text_ == old_text;
  if (!policy.ok()) return policy_.Refuse(policy.status());
  // The names in it may mean others by now, if somebody touched it.
  const bool is_new =
      change == WatchedFile::Change::kSure || !same_text || policy_.failed();
  if (is_new) policy_.Change(*std::move(policy));
}

absl::StatusOr<AccessPolicy> PolicySource::Load() {
  absl::StatusOr<FileContent> content = file_->Read();
  if (!content.ok()) {
    return FileError(file_->path(), content.status().message());
  }
  TDP_RETURN_IF_ERROR(CheckOwner(file_->path(), content->info, own_user_));
  text_ = std::move(content->text);
  return ParsePolicy(text_, file_->path(), own_user_, names_);
}

}  // namespace tdp::server
