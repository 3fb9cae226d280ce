// tdpctl web.

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "client/tdpctl/tdpctl_fixture.h"

namespace tdp::client {
namespace {

using ::testing::HasSubstr;

class WebCommandTest : public TdpctlTest {
 protected:
  void SetUp() override {
    char path[] = "/tmp/tdpctl-web-test-XXXXXX";
    const int fd = mkstemp(path);  // of mode 0600
    ASSERT_GE(fd, 0);
    close(fd);
    path_ = path;
    std::ofstream(path_) << std::string(32, 'x') << "\n";
  }
  void TearDown() override { unlink(path_.c_str()); }

  std::string path_;
};

TEST_F(WebCommandTest, PrintsTheLinkAndAsksTheDaemonNothing) {
  const std::string link =
      "http://127.0.0.1:9464/#token=" + std::string(32, 'x');
  EXPECT_EQ(Run({"web", "--token-file=" + path_}), link + "\n");
  EXPECT_EQ(Run({"web", "--token-file=" + path_, "--json"}),
            "{\"url\":\"" + link + "\"}\n");
  EXPECT_THAT(Run({"web", "--token-file=" + path_, "--http=localhost:80"}),
              HasSubstr("http://localhost:80/#token="));
  const Outcome outcome =
      RunWith({"web", "--token-file=" + path_, "--target=unix:/nonexistent/s"});
  EXPECT_EQ(outcome.exit_code, kExitOk) << outcome.err;
}

TEST_F(WebCommandTest, SaysWhatToDoWhereThereIsNoLink) {
  const Outcome outcome = RunAny({"web", "--token-file=/nonexistent/token"});
  EXPECT_EQ(outcome.exit_code, kExitError);
  EXPECT_THAT(outcome.err, HasSubstr("/nonexistent/token does not exist"));
  EXPECT_THAT(outcome.err, HasSubstr("--web"));
  EXPECT_EQ(RunAny({"web", "--http=9464"}).exit_code, kExitUsage);
}

}  // namespace
}  // namespace tdp::client
