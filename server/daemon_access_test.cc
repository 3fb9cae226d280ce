// The Unix socket and the policy file, for root and for somebody else.

#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "server/daemon_access_fixture.h"

namespace tdp::server {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr uid_t kNobody = 65534;
constexpr gid_t kNoGroup = 65534;
constexpr char kNoGroupName[] = "nogroup";
constexpr gid_t kExtraGroup = 4242;

// While it lives, what this process does it does as somebody else.
class AsNobody {
 public:
  AsNobody() {
    groups_.resize(getgroups(0, nullptr));
    groups_.resize(getgroups(static_cast<int>(groups_.size()), groups_.data()));
    EXPECT_EQ(setgroups(1, &kExtraGroup), 0);
    EXPECT_EQ(setegid(kNoGroup), 0);
    EXPECT_EQ(seteuid(kNobody), 0);
  }
  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;
  ~AsNobody() {
    EXPECT_EQ(seteuid(getuid()), 0);
    EXPECT_EQ(setegid(getgid()), 0);
    EXPECT_EQ(setgroups(groups_.size(), groups_.data()), 0);
  }

 private:
  std::vector<gid_t> groups_;
};

class DaemonUnixAccessTest : public DaemonAccessTest {
 protected:
  void SetUp() override {
    DaemonAccessTest::SetUp();
    if (geteuid() != 0) GTEST_SKIP() << "only root can be somebody else, too";
    ASSERT_EQ(chmod(folder_.c_str(), 0711), 0);
  }

  Channel ConnectToSocket() {
    return Connect("unix:" + socket_, grpc::InsecureChannelCredentials());
  }
  // A connection that nobody opened.
  Channel ConnectAsNobody() {
    const AsNobody nobody;
    const Channel channel = ConnectToSocket();
    EXPECT_TRUE(channel->WaitForConnected(std::chrono::system_clock::now() +
                                          std::chrono::seconds(30)));
    return channel;
  }
};

TEST_F(DaemonUnixAccessTest, WithoutAPolicyRootIsAdminAndOthersHaveNoRole) {
  DaemonProcess& daemon =
      Serve({absl::StrCat("--socket_group=", kNoGroupName)});
  EXPECT_EQ(RoleOf(ConnectToSocket()), "admin");
  const Channel nobody = ConnectAsNobody();
  EXPECT_EQ(RoleOf(nobody), "none");
  EXPECT_TRUE(CheckHealth(nobody).ok());
  EXPECT_EQ(RoleOf(ConnectToSocket()), "admin");
  EXPECT_THAT(daemon.Output(), Not(HasSubstr(folder_ + "/policy")));
}

TEST_F(DaemonUnixAccessTest, ARefusalTellsTheCallerAboutHimselfAndTheWayOut) {
  WritePolicy("observer uid:65534\nadmin uid:7777\n");
  Serve({absl::StrCat("--socket_group=", kNoGroupName), "--policy=" + policy_});
  const grpc::Status status = Administer(ConnectAsNobody());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(ReasonOf(status), "ROLE_DENIED");
  EXPECT_EQ(status.error_message(),
            "VmService.DeleteVm needs the role admin, but uid:65534 has "
            "observer; the daemon's policy file (--policy) gives it with the "
            "line \"admin uid:65534\"");
  EXPECT_THAT(status.error_details(), Not(HasSubstr("7777")));
  EXPECT_THAT(status.error_details(), Not(HasSubstr(folder_)));
}

TEST_F(DaemonUnixAccessTest, AConnectionIsJudgedByThePolicyThatHoldsNow) {
  WritePolicy("# nobody yet\n");
  DaemonProcess& daemon = Serve(
      {absl::StrCat("--socket_group=", kNoGroupName), "--policy=" + policy_});
  const Channel nobody = ConnectAsNobody();
  EXPECT_EQ(RoleOf(nobody), "none");
  const struct {
    const char* policy;
    const char* role;
  } kSteps[] = {
      {"observer uid:65534\n", "observer"},
      {"observer user:nobody\noperator group:nogroup\n", "operator"},
      {"admin gid:4242\n", "admin"},
      {"admin gid:4242\nnone uid:65534\n", "none"},
      {"operator gid:4242\n", "operator"},
      {"admin uid:1\n", "none"},
  };
  int count = 0;
  for (const auto& step : kSteps) {
    WritePolicy(step.policy);
    ASSERT_TRUE(AwaitOutput(daemon, "policy file was read again", ++count));
    EXPECT_EQ(RoleOf(nobody), step.role) << step.policy;
    EXPECT_EQ(RoleOf(ConnectToSocket()), "admin") << step.policy;
  }
}

TEST_F(DaemonUnixAccessTest, ABrokenPolicyChangesNothing) {
  WritePolicy("observer uid:65534\n");
  DaemonProcess& daemon = Serve(
      {absl::StrCat("--socket_group=", kNoGroupName), "--policy=" + policy_});
  const Channel nobody = ConnectAsNobody();
  WritePolicy("admin uid:65534\nadmin uid 7\n");
  ASSERT_TRUE(AwaitOutput(daemon, "the policy stays as it was"));
  EXPECT_THAT(daemon.Output(), HasSubstr("line 2, column 11"));
  EXPECT_EQ(RoleOf(nobody), "observer");
}

TEST_F(DaemonUnixAccessTest, TheSocketIsForItsGroupOnly) {
  Serve();
  {
    const AsNobody nobody;
    EXPECT_EQ(RoleOf(ConnectToSocket()), "no connection");
  }
  struct stat info;
  ASSERT_EQ(stat(socket_.c_str(), &info), 0);
  EXPECT_EQ(info.st_gid, getegid());
  daemons_.back()->Signal(SIGTERM);
  daemons_.back()->AwaitExit();
  Serve({absl::StrCat("--socket_group=", kNoGroupName)});
  ASSERT_EQ(stat(socket_.c_str(), &info), 0);
  EXPECT_EQ(info.st_gid, kNoGroup);
  EXPECT_EQ(info.st_uid, 0u);
  EXPECT_EQ(info.st_mode & 07777, 0660u);
}

TEST_F(DaemonAccessTest, RefusesToStartWithAPolicyThatItCannotTrust) {
  const std::string flag = "--policy=" + policy_;
  const std::string listen = "--listen=unix:" + socket_;
  WritePolicy("\nobserver everybody\n");
  DaemonProcess& wrong = Run({flag, listen});
  EXPECT_EQ(wrong.AwaitExit(), 2);
  EXPECT_THAT(wrong.Output(),
              HasSubstr("policy, line 2, column 10: \"everybody\": whom a line "
                        "names is uid:N"));
  WritePolicy("observer uid:1\n");
  chmod(policy_.c_str(), 0666);
  DaemonProcess& writable = Run({flag, listen});
  EXPECT_EQ(writable.AwaitExit(), 2);
  EXPECT_THAT(writable.Output(), HasSubstr("chmod go-w"));
  EXPECT_FALSE(Exists(socket_)) << "it must not get so far";
}

TEST_F(DaemonAccessTest, LoopbackIsAdminUnlessThePolicySaysOtherwise) {
  DaemonProcess& daemon = Run({"--insecure_loopback", "--listen=127.0.0.1:0"});
  ASSERT_TRUE(daemon.AwaitReady()) << daemon.Output();
  EXPECT_EQ(RoleOf(Connect(TcpAddressOf(daemon.Output()),
                           grpc::InsecureChannelCredentials())),
            "admin");
  WritePolicy("observer loopback\n");
  DaemonProcess& careful = Run(
      {"--insecure_loopback", "--listen=127.0.0.1:0", "--policy=" + policy_});
  ASSERT_TRUE(careful.AwaitReady()) << careful.Output();
  const Channel channel = Connect(TcpAddressOf(careful.Output()),
                                  grpc::InsecureChannelCredentials());
  EXPECT_EQ(RoleOf(channel), "observer");
  EXPECT_THAT(Administer(channel).error_message(),
              HasSubstr("loopback has observer"));
}

}  // namespace
}  // namespace tdp::server
