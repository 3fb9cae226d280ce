// TCP with TLS: who has which certificate, and files that change.

#include <string>

#include "gmock/gmock.h"
#include "server/access/test_certificates.h"
#include "server/daemon_access_fixture.h"

namespace tdp::server {
namespace {

using testing::HasSubstr;
using Validity = TestAuthority::Validity;

class DaemonTlsTest : public DaemonAccessTest {
 protected:
  static constexpr char kServerName[] = "IP:127.0.0.1";

  DaemonProcess& ServeTls(std::vector<std::string> arguments = {}) {
    Write("ca", clients_.certificate());
    WritePair(servers_.Issue(kServerName));
    arguments.push_back("--listen=127.0.0.1:0");
    arguments.push_back(absl::StrCat("--tls_cert=", folder_, "/server-cert"));
    arguments.push_back(absl::StrCat("--tls_key=", folder_, "/server-key"));
    arguments.push_back(absl::StrCat("--tls_client_ca=", folder_, "/ca"));
    DaemonProcess& daemon = Run(std::move(arguments));
    EXPECT_TRUE(daemon.AwaitReady()) << daemon.Output();
    address_ = TcpAddressOf(daemon.Output());
    return daemon;
  }
  void WritePair(const TestCertificate& pair) {
    Write("server-cert", pair.certificate);
    Write("server-key", pair.key);
  }

  // As a client who trusts the servers of `servers`.
  Channel ConnectWith(const TestCertificate& own,
                      const TestAuthority& servers) const {
    grpc::SslCredentialsOptions ssl;
    ssl.pem_root_certs = servers.certificate();
    ssl.pem_cert_chain = own.certificate;
    ssl.pem_private_key = own.key;
    return Connect(address_, grpc::SslCredentials(ssl));
  }
  Channel ConnectAs(const std::string& san,
                    Validity validity = Validity::kNow) const {
    return ConnectWith(clients_.Issue(san, validity), servers_);
  }

  const TestAuthority servers_{"authority of servers"};
  const TestAuthority clients_{"authority of clients"};
  std::string address_;
};

TEST_F(DaemonTlsTest, TheNameInACertificateHasARole) {
  WritePolicy(
      "observer spiffe://td/ns/*/agent\n"
      "operator spiffe://td/orchestrator\n"
      "admin    spiffe://td/ops/**\n"
      "none     spiffe://td/ops/intern\n"
      "observer dns:node-*.example.com\n"
      "operator dns:other.example.com\n");
  ServeTls({"--policy=" + policy_});
  const struct {
    const char* san;
    const char* role;
  } kCases[] = {
      {"URI:spiffe://td/ns/a/agent", "observer"},
      {"URI:spiffe://td/ns/a/b/agent", "none"},
      {"URI:spiffe://td/orchestrator", "operator"},
      {"URI:spiffe://td/orchestrator,DNS:node-1.example.com", "operator"},
      {"URI:spiffe://td/nobody,DNS:node-1.example.com", "none"},
      {"URI:spiffe://td/ops/a/b", "admin"},
      {"URI:spiffe://td/ops/intern", "none"},
      {"URI:spiffe://other/ops/a", "none"},
      {"DNS:node-7.example.com", "observer"},
      {"DNS:NODE-7.example.com", "observer"},
      {"DNS:node-7.example.com,DNS:other.example.com", "operator"},
      {"DNS:evil.node-7.example.com", "none"},
      {"URI:https://td/x,DNS:node-7.example.com", "observer"},
      // Nothing that says who it is.
      {"", "unknown"},
      {"IP:127.0.0.1", "unknown"},
      {"email:node-7.example.com", "unknown"},
      {"URI:https://td/x", "unknown"},
      {"URI:spiffe://td", "unknown"},
      {"URI:spiffe://td/ops/a,URI:spiffe://td/ops/b", "unknown"},
      {"URI:spiffe://td/ops/a,URI:https://x", "unknown"},
      {"URI:spiffe://td/ops/*", "unknown"},
      {"DNS:*.example.com", "unknown"},
  };
  for (const auto& c : kCases) {
    const Channel channel = ConnectAs(c.san);
    EXPECT_EQ(RoleOf(channel), c.role) << c.san;
    EXPECT_TRUE(CheckHealth(channel).ok()) << c.san;
  }
}

TEST_F(DaemonTlsTest, ARefusalNamesTheCallerAsHisCertificateDoes) {
  ServeTls();
  EXPECT_THAT(Observe(ConnectAs("URI:spiffe://td/a")).error_message(),
              HasSubstr("spiffe://td/a has no role"));
  EXPECT_THAT(Observe(ConnectAs("DNS:A.example,DNS:b")).error_message(),
              HasSubstr("dns:a.example has no role"));
  const grpc::Status status = Observe(ConnectAs(""));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_THAT(status.error_message(), HasSubstr("nothing says who calls"));
}

TEST_F(DaemonTlsTest, RefusesCertificatesThatProveNothing) {
  WritePolicy("admin spiffe://td/**\n");
  ServeTls({"--policy=" + policy_});
  const std::string san = "URI:spiffe://td/a";
  EXPECT_EQ(RoleOf(ConnectAs(san)), "admin");
  EXPECT_EQ(RoleOf(ConnectAs(san, Validity::kExpired)), "no connection");
  const TestAuthority other("authority of clients");
  EXPECT_EQ(RoleOf(ConnectWith(other.Issue(san), servers_)), "no connection")
      << "another authority of the same name";
  EXPECT_EQ(RoleOf(ConnectWith(servers_.Issue(san), servers_)),
            "no connection");
  grpc::SslCredentialsOptions none;
  none.pem_root_certs = servers_.certificate();
  EXPECT_EQ(RoleOf(Connect(address_, grpc::SslCredentials(none))),
            "no connection");
  EXPECT_EQ(RoleOf(Connect(address_, grpc::InsecureChannelCredentials())),
            "no connection");
  EXPECT_EQ(RoleOf(ConnectAs(san)), "admin");
}

TEST_F(DaemonTlsTest, NewConnectionsUseNewFilesAndOldOnesLiveOn) {
  WritePolicy("observer spiffe://td/**\n");
  DaemonProcess& daemon = ServeTls({"--policy=" + policy_});
  const std::string san = "URI:spiffe://td/a";
  const Channel old = ConnectAs(san);
  EXPECT_EQ(RoleOf(old), "observer");

  const TestAuthority new_servers("new servers");
  const TestAuthority new_clients("new clients");
  const TestCertificate own = clients_.Issue(san);
  EXPECT_EQ(RoleOf(ConnectWith(own, new_servers)), "no connection");

  // Half of a new pair is not used.
  const TestCertificate pair = new_servers.Issue(kServerName);
  Write("server-cert", pair.certificate);
  ASSERT_TRUE(AwaitOutput(daemon, "the certificates stay as they were"));
  EXPECT_EQ(RoleOf(ConnectWith(own, servers_)), "observer");
  Write("server-key", pair.key);
  ASSERT_TRUE(AwaitOutput(daemon, "the certificates were read again"));
  EXPECT_EQ(RoleOf(ConnectWith(own, new_servers)), "observer");
  EXPECT_EQ(RoleOf(ConnectWith(own, servers_)), "no connection");

  // Another authority for clients.
  EXPECT_EQ(RoleOf(ConnectWith(new_clients.Issue(san), new_servers)),
            "no connection");
  Write("ca", new_clients.certificate());
  ASSERT_TRUE(AwaitOutput(daemon, "the certificates were read again", 2));
  EXPECT_EQ(RoleOf(ConnectWith(new_clients.Issue(san), new_servers)),
            "observer");
  EXPECT_EQ(RoleOf(ConnectWith(own, new_servers)), "no connection");
  EXPECT_EQ(RoleOf(old), "observer") << "it was let in when it came";
}

}  // namespace
}  // namespace tdp::server
