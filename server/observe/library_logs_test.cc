#include "server/observe/library_logs.h"

#include <string>

#include "gmock/gmock.h"
#include "google/protobuf/stubs/logging.h"
#include "grpc/support/log.h"
#include "gtest/gtest.h"

namespace tdp::server {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(LibraryLogsTest, ShowsNoAddressAndNotTooMuch) {
  EXPECT_EQ(WithoutAddresses("transport 0x7f1234567890 errno 0x16 0x"),
            "transport 0x... errno 0x16 0x");
  EXPECT_EQ(WithoutAddresses("0x12345678"), "0x...");
  EXPECT_EQ(WithoutAddresses("0x1234567"), "0x1234567");
  EXPECT_EQ(WithoutAddresses(std::string(1000, 'a')).size(), 303u);
}

TEST(LibraryLogsTest, PutsWhatLibrariesSayInTheLogAndLimitsIt) {
  gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
  RouteLibraryLogs();
  testing::internal::CaptureStderr();
  gpr_log(GPR_ERROR, "bad frame from %p\nforged",
          reinterpret_cast<void*>(0x7f1234567890));
  for (int i = 0; i < 100; ++i) {
    GOOGLE_LOG(ERROR) << "cannot parse " << i;
  }
  gpr_log(GPR_DEBUG, "chatter");
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_THAT(text, HasSubstr("level=warning msg=\"gRPC says\" "
                              "text=\"bad frame from 0x...\\nforged\"\n"));
  EXPECT_THAT(text, HasSubstr("msg=\"protobuf says\" text=\"cannot parse 0\""));
  EXPECT_THAT(text, Not(HasSubstr("cannot parse 99")));
  EXPECT_THAT(text, Not(HasSubstr("chatter")));
}

}  // namespace
}  // namespace tdp::server
