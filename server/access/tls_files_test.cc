#include "server/access/tls_files.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/access/test_certificates.h"

namespace tdp::server {
namespace {

using testing::HasSubstr;

class TlsFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/tdpd-tls-files-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    Write("ca", authority_.certificate());
    Write("cert", first_.certificate);
    Write("key", first_.key);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
  }
  absl::StatusOr<std::unique_ptr<TlsFiles>> Open() {
    return TlsFiles::Open(
        {folder_ + "/cert", folder_ + "/key", folder_ + "/ca"});
  }
  std::string Problem() { return std::string(Open().status().message()); }

  const TestAuthority authority_{"ca"};
  const TestCertificate first_ = authority_.Issue("DNS:first");
  const TestCertificate second_ = authority_.Issue("DNS:second");
  std::string folder_;
};

TEST_F(TlsFilesTest, TakesAPairAndAnAuthority) {
  const auto files = Open();
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ((*files)->material()->certificates, first_.certificate);
  EXPECT_EQ((*files)->material()->key, first_.key);
  EXPECT_EQ((*files)->material()->client_authorities, authority_.certificate());
}

TEST_F(TlsFilesTest, SaysWhichFileCannotBeUsed) {
  Write("key", second_.key);
  EXPECT_THAT(Problem(), HasSubstr("not that of the certificate"));
  Write("key", first_.certificate);
  EXPECT_THAT(Problem(), HasSubstr("--tls_key: the file holds no private key"));
  Write("key", "");
  EXPECT_THAT(Problem(), HasSubstr("/key: it is empty"));
  unlink((folder_ + "/key").c_str());
  EXPECT_THAT(Problem(), HasSubstr("/key: No such file"));
  Write("key", first_.key);
  Write("cert", first_.key);
  EXPECT_THAT(Problem(), HasSubstr("--tls_cert: the file holds no cert"));
  Write("cert", first_.certificate + second_.certificate.substr(0, 100));
  EXPECT_THAT(Problem(), HasSubstr("--tls_cert: the file holds no cert"));
  Write("cert", first_.certificate + authority_.certificate());
  EXPECT_TRUE(Open().ok()) << Problem();
  Write("ca", "nothing");
  EXPECT_THAT(Problem(), HasSubstr("--tls_client_ca"));
}

TEST_F(TlsFilesTest, HalfOfANewPairLeavesTheOldOne) {
  const auto opened = Open();
  ASSERT_TRUE(opened.ok()) << opened.status();
  TlsFiles& files = **opened;
  const auto old = files.material();
  files.Refresh();
  EXPECT_EQ(files.material(), old) << "nothing has changed";
  Write("cert", second_.certificate);
  files.Refresh();
  files.Refresh();
  EXPECT_EQ(files.material(), old);
  EXPECT_EQ(files.reload_failure_count(), 1) << "logged once";
  Write("key", second_.key.substr(0, 60));
  files.Refresh();
  EXPECT_EQ(files.material(), old);
  Write("key", second_.key);
  files.Refresh();
  EXPECT_EQ(files.material()->certificates, second_.certificate);
  EXPECT_EQ(files.material()->key, second_.key);
  EXPECT_EQ(files.reload_count(), 1);
}

TEST_F(TlsFilesTest, AReloadThatFailedIsTriedAgainWithoutNewFiles) {
  const auto opened = Open();
  ASSERT_TRUE(opened.ok()) << opened.status();
  TlsFiles& files = **opened;
  Write("cert", second_.certificate);
  Write("key", second_.key);
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none = {.rlim_cur = 0, .rlim_max = limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  files.Refresh();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(files.reload_failure_count(), 1);
  EXPECT_EQ(files.material()->key, first_.key);

  // The files are so old then that their times show each change.
  WatchedFile last(folder_ + "/key", 1 << 20);
  last.Check();
  while (last.Check() != WatchedFile::Change::kNone) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  files.Refresh();
  EXPECT_EQ(files.material()->key, second_.key);
  EXPECT_EQ(files.reload_count(), 1);
}

TEST_F(TlsFilesTest, TakesANewAuthority) {
  const auto files = Open();
  ASSERT_TRUE(files.ok()) << files.status();
  const TestAuthority next("next");
  Write("ca", authority_.certificate() + next.certificate());
  (*files)->Refresh();
  EXPECT_EQ((*files)->material()->client_authorities,
            authority_.certificate() + next.certificate());
}

}  // namespace
}  // namespace tdp::server
