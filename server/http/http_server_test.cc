#include "server/http/http_server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/http/http_client.h"

namespace tdp::server {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

constexpr std::chrono::hours kForever{24};

class HttpServerTest : public testing::Test {
 protected:
  void Start(HttpServer::Options options = {}) {
    auto server = HttpServer::Listen(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    server_->AddRoute("/hello", [](const HttpRequest& request) {
      return HttpResponse{.body = "hello " + request.query};
    });
    server_->AddRoutesBelow("/below/", [](const HttpRequest& request) {
      return HttpResponse{.body = "below " + request.path};
    });
    server_->AddRoute("/below/one", [](const HttpRequest&) {
      return HttpResponse{.body = "one"};
    });
    server_->AddRoute("/large", [this](const HttpRequest&) {
      return HttpResponse{.body = std::string(large_bytes_, 'x')};
    });
    server_->Start();
  }
  int port() const { return server_->port(); }

  size_t large_bytes_ = size_t{8} << 20;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, AnswersAGetAndCloses) {
  Start();
  const std::string response = HttpGet(port(), "/hello?you");
  EXPECT_THAT(response, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(response, EndsWith("\r\n\r\nhello you"));
}

TEST_F(HttpServerTest, SendsAResponseThatIsLargerThanTheSocketsBuffers) {
  Start();
  EXPECT_THAT(HttpGet(port(), "/large"),
              EndsWith(std::string(large_bytes_, 'x')));
}

TEST_F(HttpServerTest, TakesARequestThatComesByteByByte) {
  Start();
  RawHttpClient client(port());
  for (const char c :
       std::string("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")) {
    ASSERT_TRUE(client.Send(std::string(1, c)));
  }
  EXPECT_THAT(client.ReadAll(), EndsWith("hello "));
}

TEST_F(HttpServerTest, RefusesWhatItDoesNotServe) {
  Start();
  EXPECT_THAT(HttpGet(port(), "/"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(HttpGet(port(), "/hello", "evil.example"),
              StartsWith("HTTP/1.1 421 "));
  RawHttpClient post(port());
  post.Send("POST /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_THAT(post.ReadAll(), StartsWith("HTTP/1.1 405 "));
  RawHttpClient garbage(port());
  garbage.Send("\x16\x03\x01 TLS, perhaps\r\n\r\n");
  EXPECT_THAT(garbage.ReadAll(), StartsWith("HTTP/1.1 400 "));
}

TEST_F(HttpServerTest, CountsItsResponsesByStatus) {
  Start();
  HttpGet(port(), "/hello");
  HttpGet(port(), "/hello");
  HttpGet(port(), "/nothing");
  HttpGet(port(), "/hello", "evil.example");
  EXPECT_THAT(server_->response_counts(),
              testing::ElementsAre(testing::Pair(200, 2), testing::Pair(404, 1),
                                   testing::Pair(421, 1)));
}

TEST_F(HttpServerTest, AnswersWhatIsBelowAPathUnlessThatIsARouteOfItsOwn) {
  Start();
  EXPECT_THAT(HttpGet(port(), "/below/two?x"), EndsWith("\nbelow /below/two"));
  EXPECT_THAT(HttpGet(port(), "/below/"), EndsWith("\nbelow /below/"));
  EXPECT_THAT(HttpGet(port(), "/below/one"), EndsWith("\none"));
  EXPECT_THAT(HttpGet(port(), "/below"), StartsWith("HTTP/1.1 404 "));
}

TEST_F(HttpServerTest, RefusesThePagesOfOtherSites) {
  Start();
  const auto get = [this](const std::string& origin) {
    RawHttpClient client(port());
    client.Send("GET /hello HTTP/1.1\r\nHost: localhost\r\nOrigin: " + origin +
                "\r\n\r\n");
    return client.ReadAll();
  };
  EXPECT_THAT(get("http://localhost"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(get("http://evil.example"), StartsWith("HTTP/1.1 403 "));
  EXPECT_THAT(get("null"), StartsWith("HTTP/1.1 403 "));
}

TEST_F(HttpServerTest, IsCalledAsItsMachineWhereItIsPublic) {
  Start({.is_public = true});
  char name[256] = {};
  ASSERT_EQ(gethostname(name, sizeof(name) - 1), 0);
  const std::string machine = name;
  EXPECT_THAT(HttpGet(port(), "/hello", machine), EndsWith("hello "));
  EXPECT_THAT(HttpGet(port(), "/hello", machine + ".evil.example"),
              StartsWith("HTTP/1.1 421 "));
}

TEST_F(HttpServerTest, RefusesARequestThatIsTooLarge) {
  Start();
  RawHttpClient client(port());
  client.Send("GET /hello HTTP/1.1\r\nHost: localhost\r\nA: " +
              std::string(2 * kMaxHttpHeadBytes, 'x'));
  EXPECT_THAT(client.ReadAll(), StartsWith("HTTP/1.1 431 "));
}

TEST_F(HttpServerTest, CutsOffWhoDoesNotFinishARequest) {
  Start({.request_time = std::chrono::milliseconds(20)});
  RawHttpClient client(port());
  client.Send("GET /hel");
  EXPECT_EQ(client.ReadAll(), "");
  EXPECT_EQ(server_->cut_count(), 1);
}

TEST_F(HttpServerTest, CutsOffWhoDoesNotReadItsResponse) {
  Start({.response_time = std::chrono::milliseconds(20)});
  RawHttpClient client(port(), /*receive_buffer_bytes=*/4096);
  client.Send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n");
  while (server_->cut_count() == 0) std::this_thread::yield();
  EXPECT_LT(client.ReadAll().size(), large_bytes_);
}

TEST_F(HttpServerTest, ServesOthersWhileManyNeverFinishTheirRequest) {
  Start({.request_time = kForever, .response_time = kForever});
  std::vector<std::unique_ptr<RawHttpClient>> slow;
  for (int i = 0; i < 200; ++i) {
    slow.push_back(std::make_unique<RawHttpClient>(port()));
    ASSERT_TRUE(slow.back()->connected());
    slow.back()->Send("GET /hello HTTP/1.1\r\n");
    if (i % 20 == 0) {
      ASSERT_THAT(HttpGet(port(), "/hello"), EndsWith("hello "));
    }
  }
  EXPECT_GE(server_->cut_count(), 100);
}

TEST_F(HttpServerTest, ServesOthersWhileManyNeverReadTheirResponse) {
  HttpServer::Options options{.request_time = kForever,
                              .response_time = kForever};
  options.max_buffered_bytes = 3 * large_bytes_;
  Start(options);
  std::vector<std::unique_ptr<RawHttpClient>> slow;
  for (int i = 0; i < 10; ++i) {
    slow.push_back(
        std::make_unique<RawHttpClient>(port(), /*receive_buffer_bytes=*/4096));
    slow.back()->Send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n");
    ASSERT_THAT(HttpGet(port(), "/hello"), EndsWith("hello "));
  }
  // The newest still waits for its response; the first was cut off.
  EXPECT_GT(server_->cut_count(), 0);
  EXPECT_LT(slow.front()->ReadAll().size(), large_bytes_);
  EXPECT_GE(slow.back()->ReadAll().size(), large_bytes_);
}

TEST_F(HttpServerTest, DoesNotCountWhoHasItsResponseAndMakesRoom) {
  HttpServer::Options options{.request_time = kForever,
                              .response_time = kForever};
  options.max_connections = 1;
  Start(options);
  std::vector<std::unique_ptr<RawHttpClient>> served;
  for (int i = 0; i < 5; ++i) {
    served.push_back(std::make_unique<RawHttpClient>(port()));
    served.back()->Send("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
    ASSERT_THAT(served.back()->ReadAll(), EndsWith("hello "));
  }
  EXPECT_EQ(server_->cut_count(), 0);
}

TEST_F(HttpServerTest, EndsWhileClientsAreConnected) {
  Start({.request_time = kForever});
  RawHttpClient client(port());
  client.Send("GET /hello");
  // It has been accepted once a later one is answered.
  EXPECT_THAT(HttpGet(port(), "/hello"), EndsWith("hello "));
  server_->Shutdown();
  EXPECT_EQ(client.ReadAll(), "");
}

TEST_F(HttpServerTest, SaysWhichAddressItCannotListenOn) {
  Start();
  const auto taken = HttpServer::Listen({.port = port()});
  EXPECT_FALSE(taken.ok());
  EXPECT_THAT(std::string(taken.status().message()),
              HasSubstr(absl::StrCat("--http: 127.0.0.1:", port(),
                                     " cannot be listened on")));
  const auto name = HttpServer::Listen({.host = "node7.example"});
  EXPECT_FALSE(name.ok());
  EXPECT_THAT(std::string(name.status().message()),
              HasSubstr("must have an IP address"));
}

}  // namespace
}  // namespace tdp::server
