#include "server/access/test_certificates.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "server/access/openssl_ptr.h"

namespace tdp::server {
namespace {

constexpr long kDaySeconds = 24 * 60 * 60;

// A test cannot go on without certificates.
void Require(bool condition) {
  if (condition) return;
  fprintf(stderr, "OpenSSL could not make a certificate\n");
  abort();
}

std::string TextOf(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return {data, static_cast<size_t>(size)};
}

std::string PemOf(X509* certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  Require(PEM_write_bio_X509(bio.get(), certificate) == 1);
  return TextOf(bio.get());
}

std::string PemOf(EVP_PKEY* key) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  Require(PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr,
                                   nullptr) == 1);
  return TextOf(bio.get());
}

void AddExtension(X509* certificate, X509* issuer, int kind,
                  const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension =
      X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str());
  Require(extension != nullptr);
  Require(X509_add_ext(certificate, extension, -1) == 1);
  X509_EXTENSION_free(extension);
}

// Valid from `begin` to `end`, in seconds from now; not signed yet.
X509Ptr MakeCertificate(EVP_PKEY* key, const std::string& name, long begin,
                        long end) {
  static std::atomic<long> next_serial = 1;
  X509Ptr certificate(X509_new());
  Require(certificate != nullptr);
  Require(X509_set_version(certificate.get(), 2) == 1);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), next_serial++);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), begin);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), end);
  X509_NAME* subject = X509_get_subject_name(certificate.get());
  Require(X509_NAME_add_entry_by_txt(
              subject, "CN", MBSTRING_ASC,
              reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1,
              0) == 1);
  Require(X509_set_pubkey(certificate.get(), key) == 1);
  return certificate;
}

}  // namespace

struct TestAuthority::Parts {
  KeyPtr key;
  X509Ptr certificate;
};

TestAuthority::TestAuthority(absl::string_view name)
    : parts_(std::make_unique<Parts>()) {
  parts_->key.reset(EVP_EC_gen("P-256"));
  Require(parts_->key != nullptr);
  parts_->certificate = MakeCertificate(parts_->key.get(), std::string(name),
                                        -kDaySeconds, kDaySeconds);
  X509* own = parts_->certificate.get();
  Require(X509_set_issuer_name(own, X509_get_subject_name(own)) == 1);
  AddExtension(own, own, NID_basic_constraints, "critical,CA:TRUE");
  AddExtension(own, own, NID_key_usage, "critical,keyCertSign");
  AddExtension(own, own, NID_subject_key_identifier, "hash");
  Require(X509_sign(own, parts_->key.get(), EVP_sha256()) > 0);
  certificate_ = PemOf(own);
}

TestAuthority::~TestAuthority() = default;

TestCertificate TestAuthority::Issue(const std::string& san,
                                     Validity validity) const {
  const KeyPtr key(EVP_EC_gen("P-256"));
  Require(key != nullptr);
  const bool expired = validity == Validity::kExpired;
  const X509Ptr certificate =
      MakeCertificate(key.get(), "test", -2 * kDaySeconds,
                      expired ? -kDaySeconds : kDaySeconds);
  X509* issuer = parts_->certificate.get();
  Require(X509_set_issuer_name(certificate.get(),
                               X509_get_subject_name(issuer)) == 1);
  if (!san.empty()) {
    AddExtension(certificate.get(), issuer, NID_subject_alt_name, san);
  }
  Require(X509_sign(certificate.get(), parts_->key.get(), EVP_sha256()) > 0);
  return {PemOf(certificate.get()), PemOf(key.get())};
}

}  // namespace tdp::server
