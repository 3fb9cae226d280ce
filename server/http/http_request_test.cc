#include "server/http/http_request.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::server {
namespace {

using testing::HasSubstr;

int StatusOf(absl::string_view head) {
  HttpRequest request;
  return ParseHttpRequest(head, &request);
}

TEST(HttpRequestTest, ReadsAGet) {
  HttpRequest request;
  EXPECT_EQ(ParseHttpRequest("GET /metrics?a=b&c HTTP/1.1\r\nhOST: x:1 \r\n"
                             "Accept: */*\r\nContent-Length: 0\r\n\r\n",
                             &request),
            200);
  EXPECT_EQ(request.path, "/metrics");
  EXPECT_EQ(request.query, "a=b&c");
  EXPECT_EQ(request.host, "x:1");
  EXPECT_EQ(request.origin, "");
  EXPECT_EQ(request.authorization, "");
  EXPECT_EQ(StatusOf("GET / HTTP/1.0\r\n\r\n"), 200);
}

TEST(HttpRequestTest, ReadsWhoAsks) {
  HttpRequest request;
  EXPECT_EQ(ParseHttpRequest("GET / HTTP/1.1\r\nHost: x:1\r\n"
                             "ORIGIN:\thttp://x:1 \r\n"
                             "authorization: Bearer a-b_c\r\n\r\n",
                             &request),
            200);
  EXPECT_EQ(request.origin, "http://x:1");
  EXPECT_EQ(request.authorization, "Bearer a-b_c");
}

TEST(HttpRequestTest, RefusesWhatIsNoPlainGet) {
  const std::string long_path = "/" + std::string(kMaxHttpTargetBytes, 'x');
  std::string headers;
  for (int i = 0; i <= kMaxHttpHeaders; ++i) {
    absl::StrAppend(&headers, "A: b\r\n");
  }
  const std::pair<std::string, int> kCases[] = {
      {"", 400},
      {"\r\n\r\n", 400},
      {"GET /\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n\r\n", 400},  // no Host
      {"GET / HTTP/1.1\nHost: x\n\n", 400},
      {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505},
      {"GET / FTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"GET /" + std::string(1, '\0') + " HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\n\r\n", 405},
      {"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", 405},
      {"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400},
      {"GET / HTTP/1.0\r\nOrigin: a\r\norigin: a\r\n\r\n", 400},
      {"GET / HTTP/1.0\r\nOrigin:\r\norigin: a\r\n\r\n", 400},
      {"GET / HTTP/1.0\r\nAuthorization: a\r\nAuthorization: a\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: x\r\nA: \x01\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", 413},
      {"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 413},
      {"GET " + long_path + " HTTP/1.1\r\nHost: x\r\n\r\n", 414},
      {"GET / HTTP/1.1\r\n" + headers + "\r\n", 431},
  };
  for (const auto& [head, status] : kCases) {
    EXPECT_EQ(StatusOf(head), status) << head;
  }
}

TEST(HttpRequestTest, AllowsThePathAndTheHeadersThatAreTheMost) {
  const std::string path = "/" + std::string(kMaxHttpTargetBytes - 1, 'x');
  EXPECT_EQ(StatusOf("GET " + path + " HTTP/1.0\r\n\r\n"), 200);
  std::string headers;
  for (int i = 0; i < kMaxHttpHeaders; ++i) {
    absl::StrAppend(&headers, "A: b\r\n");
  }
  EXPECT_EQ(StatusOf("GET / HTTP/1.0\r\n" + headers + "\r\n"), 200);
}

TEST(HttpRequestTest, KnowsOnlyItselfAsHostOnTheLoopbackInterface) {
  const HttpHosts hosts = {.bound = "127.0.0.2", .machine_names = {"node7"}};
  for (const char* host : {"localhost", "LOCALHOST:80", "127.0.0.1:9100",
                           "[::1]:9100", "[::1]", "127.0.0.2"}) {
    EXPECT_TRUE(IsAllowedHost(hosts, host)) << host;
  }
  for (const char* host :
       {"", "evil.example", "localhost.evil.example", "localhost:x",
        "localhost:80:80", "10.0.0.1", "[::2]", "[::1", "[::1]x", "node7",
        "127.0.0.1.evil.example", "localhost\t", "127.0.0.3"}) {
    EXPECT_FALSE(IsAllowedHost(hosts, host)) << host;
  }
}

TEST(HttpRequestTest, KnowsTheMachineByNameAndAddressWhereItIsPublic) {
  const HttpHosts hosts = {
      .bound = "0.0.0.0",
      .is_public = true,
      .machine_names = {"Node7", "node7.cluster.example", ""}};
  for (const char* host : {"localhost", "10.0.0.1:9100", "[2001:db8::1]:1",
                           "node7", "NODE7.cluster.example:9100"}) {
    EXPECT_TRUE(IsAllowedHost(hosts, host)) << host;
  }
  for (const char* host :
       {"", "evil.example", "node77", "x.node7", "10.0.0.1.evil.example",
        "node7.evil.com", "node7.cluster", "node7.cluster.example.evil.com",
        "node7."}) {
    EXPECT_FALSE(IsAllowedHost(hosts, host)) << host;
  }
}

TEST(HttpRequestTest, TakesNoRequestOfAnotherSitesPage) {
  const auto allowed = [](const char* host, const char* origin) {
    return IsAllowedOrigin({.host = host, .origin = origin});
  };
  EXPECT_TRUE(allowed("localhost:9464", ""));
  EXPECT_TRUE(allowed("localhost:9464", "http://localhost:9464"));
  EXPECT_TRUE(allowed("[::1]:9464", "HTTP://[::1]:9464"));
  for (const char* origin :
       {"null", "http://evil.example", "http://localhost", "http://",
        "https://localhost:9464", "http://localhost:94640",
        "http://localhost:9464/", "localhost:9464", "http://127.0.0.1:9464"}) {
    EXPECT_FALSE(allowed("localhost:9464", origin)) << origin;
  }
}

TEST(HttpRequestTest, AnswersWithTheHeadersOfItsHandler) {
  const std::string response =
      FormatHttpResponse({.body = "x", .headers = {{"A", "b"}, {"C", "d"}}});
  EXPECT_THAT(response, HasSubstr("\r\nA: b\r\nC: d\r\n"));
  EXPECT_THAT(response, testing::EndsWith("\r\n\r\nx"));
}

TEST(HttpRequestTest, AnswersSoThatABrowserLearnsNothingFromIt) {
  const std::string response = FormatHttpResponse(HttpError(405, "no"));
  EXPECT_THAT(response, HasSubstr("HTTP/1.1 405 Method Not Allowed\r\n"));
  EXPECT_THAT(response, HasSubstr("Allow: GET\r\n"));
  EXPECT_THAT(response, HasSubstr("X-Content-Type-Options: nosniff\r\n"));
  EXPECT_THAT(response, HasSubstr("Content-Length: 3\r\n"));
  EXPECT_THAT(response, testing::Not(HasSubstr("Access-Control")));
  EXPECT_THAT(response, testing::EndsWith("\r\n\r\nno\n"));
}

}  // namespace
}  // namespace tdp::server
