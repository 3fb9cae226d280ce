// Certificates for tests, made when they are needed.

#ifndef SERVER_ACCESS_TEST_CERTIFICATES_H_
#define SERVER_ACCESS_TEST_CERTIFICATES_H_

#include <memory>
#include <string>

#include "absl/strings/string_view.h"

namespace tdp::server {

// In PEM format.
struct TestCertificate {
  std::string certificate;
  std::string key;
};

class TestAuthority {
 public:
  enum class Validity { kNow, kExpired };

  explicit TestAuthority(absl::string_view name);
  TestAuthority(const TestAuthority&) = delete;
  TestAuthority& operator=(const TestAuthority&) = delete;
  ~TestAuthority();

  // Its own certificate, which vouches for those that it issues.
  const std::string& certificate() const { return certificate_; }
  // `san` as OpenSSL writes it: "URI:spiffe://a/b", "DNS:x,IP:127.0.0.1"; empty
  // for none.
  TestCertificate Issue(const std::string& san,
                        Validity validity = Validity::kNow) const;

 private:
  struct Parts;

  std::unique_ptr<Parts> parts_;
  std::string certificate_;
};

}  // namespace tdp::server

#endif  // SERVER_ACCESS_TEST_CERTIFICATES_H_
