// Owners of OpenSSL's objects.

#ifndef SERVER_ACCESS_OPENSSL_PTR_H_
#define SERVER_ACCESS_OPENSSL_PTR_H_

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <memory>

namespace tdp::server {

template <auto kFree>
struct OpenSslFreer {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};

using BioPtr = std::unique_ptr<BIO, OpenSslFreer<BIO_free_all>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, OpenSslFreer<EVP_PKEY_free>>;
using X509Ptr = std::unique_ptr<X509, OpenSslFreer<X509_free>>;

}  // namespace tdp::server

#endif  // SERVER_ACCESS_OPENSSL_PTR_H_
