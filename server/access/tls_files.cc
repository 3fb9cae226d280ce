#include "server/access/tls_files.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "server/access/openssl_ptr.h"
#include "server/base/status_macros.h"

namespace tdp::server {
namespace {

constexpr int64_t kMaxPemBytes = int64_t{1} << 20;

absl::Status Wrong(absl::string_view message) {
  return MakeError(ErrorReason::kFieldInvalid, message);
}

BioPtr Reader(const std::string& text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// A key with a passphrase is a key that cannot be read: nobody is asked.
int NoPassphrase(char*, int, int, void*) { return -1; }

// The first certificate, if all of `text` can be read.
X509Ptr ReadCertificates(const std::string& text) {
  const BioPtr bio = Reader(text);
  X509Ptr first;
  while (true) {
    ERR_clear_error();
    X509Ptr next(PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, nullptr));
    if (next == nullptr) break;
    if (first == nullptr) first = std::move(next);
  }
  // The end of the text reads as a missing first line.
  const bool at_end =
      ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (!at_end) return nullptr;
  return first;
}

absl::StatusOr<std::string> ReadPem(absl::string_view flag,
                                    const WatchedFile& file) {
  absl::StatusOr<FileContent> content = file.Read();
  const std::string problem = !content.ok()
                                  ? std::string(content.status().message())
                              : content->text.empty() ? "it is empty"
                                                      : "";
  if (!problem.empty()) {
    return Wrong(
        absl::StrCat(flag, ": cannot read ", file.path(), ": ", problem));
  }
  return std::move(content->text);
}

}  // namespace

absl::Status CheckTlsMaterial(const TlsMaterial& material) {
  const X509Ptr certificate = ReadCertificates(material.certificates);
  if (certificate == nullptr) {
    return Wrong("--tls_cert: the file holds no certificate in PEM format");
  }
  const BioPtr bio = Reader(material.key);
  const KeyPtr key(
      PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, nullptr));
  ERR_clear_error();
  if (key == nullptr) {
    return Wrong(
        "--tls_key: the file holds no private key in PEM format that is not "
        "encrypted");
  }
  const bool fits = X509_check_private_key(certificate.get(), key.get()) == 1;
  ERR_clear_error();
  if (!fits) {
    return Wrong("--tls_key: the key is not that of the certificate");
  }
  if (ReadCertificates(material.client_authorities) == nullptr) {
    return Wrong(
        "--tls_client_ca: the file holds no certificate in PEM format");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<TlsFiles>> TlsFiles::Open(const Paths& paths) {
  std::unique_ptr<TlsFiles> files(new TlsFiles(paths));
  files->certificates_.Check();
  files->key_.Check();
  files->client_authorities_.Check();
  TDP_ASSIGN_OR_RETURN(TlsMaterial material, files->Load());
  files->material_.Set(std::move(material));
  return files;
}

TlsFiles::TlsFiles(const Paths& paths)
    : certificates_(paths.certificates, kMaxPemBytes),
      key_(paths.key, kMaxPemBytes),
      client_authorities_(paths.client_authorities, kMaxPemBytes) {}

void TlsFiles::Refresh() {
  bool may_differ = false;
  for (WatchedFile* file : {&certificates_, &key_, &client_authorities_}) {
    may_differ = file->Check() != WatchedFile::Change::kNone || may_differ;
  }
  if (!may_differ && !material_.failed()) return;
  absl::StatusOr<TlsMaterial> loaded = Load();
  if (!loaded.ok()) return material_.Refuse(loaded.status());
  if (*loaded == *material()) return material_.Keep();
  material_.Change(*std::move(loaded));
}

absl::StatusOr<TlsMaterial> TlsFiles::Load() const {
  TlsMaterial material;
  TDP_ASSIGN_OR_RETURN(material.certificates,
                       ReadPem("--tls_cert", certificates_));
  TDP_ASSIGN_OR_RETURN(material.key, ReadPem("--tls_key", key_));
  TDP_ASSIGN_OR_RETURN(material.client_authorities,
                       ReadPem("--tls_client_ca", client_authorities_));
  TDP_RETURN_IF_ERROR(CheckTlsMaterial(material));
  return material;
}

}  // namespace tdp::server
