#include "client/lib/target.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using ::testing::HasSubstr;

Target At(const std::string& address) {
  Target target;
  target.address = address;
  return target;
}

std::string Refusal(const Target& target) {
  return std::string(CheckTarget(target).message());
}

TEST(TargetTest, SocketsAndHostsWithPortsAreTargets) {
  for (const char* address :
       {kDefaultTarget, "unix:relative.sock", "localhost:1", "10.0.0.1:65535",
        "[::1]:443", "tdpd.example.com:443"}) {
    EXPECT_TRUE(CheckTarget(At(address)).ok()) << address;
  }
}

TEST(TargetTest, WhatIsNeitherIsRefused) {
  for (const char* address : {"", "host", ":1", "host:", "host:0", "host:65536",
                              "host:http", "/run/tdpd.sock"}) {
    EXPECT_THAT(Refusal(At(address)), HasSubstr("neither unix:PATH nor"))
        << address;
  }
}

TEST(TargetTest, SocketPathsEndAtTheLengthOfTheSystemsAddress) {
  EXPECT_TRUE(CheckTarget(At("unix:/" + std::string(106, 'a'))).ok());
  EXPECT_THAT(Refusal(At("unix:/" + std::string(107, 'a'))),
              HasSubstr("longer than 107"));
  EXPECT_THAT(Refusal(At("unix:")), HasSubstr("needs a path"));
}

TEST(TargetTest, OnlyLoopbackMayGoWithoutTls) {
  for (const char* address :
       {"localhost:1", "127.0.0.1:1", "127.9.9.9:1", "[::1]:1"}) {
    Target target = At(address);
    target.insecure = true;
    EXPECT_TRUE(CheckTarget(target).ok()) << address;
  }
  for (const char* address : {"10.0.0.1:1", "example.com:1", "[::2]:1",
                              "127.example.com:1", "128.0.0.1:1"}) {
    Target target = At(address);
    target.insecure = true;
    EXPECT_THAT(Refusal(target), HasSubstr("loopback")) << address;
  }
}

TEST(TargetTest, TlsFlagsMustFitTogether) {
  Target target = At("host:1");
  target.tls_ca = "ca.pem";
  EXPECT_TRUE(CheckTarget(target).ok());
  target.tls_cert = "cert.pem";
  EXPECT_THAT(Refusal(target), HasSubstr("go together"));
  target.tls_key = "key.pem";
  EXPECT_TRUE(CheckTarget(target).ok());
  target.address = kDefaultTarget;
  EXPECT_THAT(Refusal(target), HasSubstr("TLS flags do not go with"));
}

}  // namespace
}  // namespace tdp::client
