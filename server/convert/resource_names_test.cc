#include "server/convert/resource_names.h"

#include <string>

#include "engine/base/errors.h"
#include "gtest/gtest.h"

namespace tdp::server {
namespace {

const std::string kLongest(63, 'a');
const std::string kTooLong(64, 'a');

TEST(ResourceNamesTest, TakesIdsOfTheRule) {
  for (const std::string& id :
       {std::string("a"), std::string("a0"), std::string("web-1"), kLongest}) {
    EXPECT_TRUE(CheckId("vm_id", id).ok()) << id;
  }
}

TEST(ResourceNamesTest, RefusesOtherIdsAndSaysWhy) {
  for (const std::string& id :
       {std::string(), std::string("A"), std::string("0a"), std::string("-"),
        std::string("a-"), std::string("a_b"), std::string("a/b"),
        std::string("a b"), std::string("\u00e4"), std::string("a\0b", 3),
        kTooLong}) {
    const absl::Status status = CheckId("vm_id", id);
    ASSERT_FALSE(status.ok()) << id;
    EXPECT_EQ(DetailOf(status)->reason, ErrorReason::kFieldInvalid);
    EXPECT_NE(status.message().find("vm_id"), absl::string_view::npos);
  }
}

TEST(ResourceNamesTest, RoundTripsNames) {
  EXPECT_EQ(*ParseVmName("name", MakeVmName("a")), "a");
  const MemslotName memslot =
      *ParseMemslotName("name", MakeMemslotName("a", "b"));
  EXPECT_EQ(memslot.vm, "a");
  EXPECT_EQ(memslot.memslot, "b");
  const DirtyConsumerName consumer =
      *ParseDirtyConsumerName("name", MakeDirtyConsumerName("a", "default"));
  EXPECT_EQ(consumer.vm, "a");
  EXPECT_EQ(consumer.consumer, "default");
  const VcpuName vcpu =
      *ParseVcpuName("name", MakeVcpuName("a", 12), Wildcard::kRefused);
  EXPECT_EQ(vcpu.vm, "a");
  EXPECT_EQ(vcpu.index, 12);
}

TEST(ResourceNamesTest, RefusesMalformedVmNames) {
  for (const char* name : {"", "a", "vms", "vms/", "/vms/a", "vms/a/", "VMs/a",
                           "vms/A", "vms//a", "vms/a/memslots/b"}) {
    EXPECT_FALSE(ParseVmName("name", name).ok()) << name;
  }
}

TEST(ResourceNamesTest, RefusesMalformedMemslotNames) {
  for (const char* name :
       {"", "vms/a", "vms/a/memslots", "vms/a/memslots/", "vms/a/slots/b",
        "vms/A/memslots/b", "vms/a/memslots/B", "vms/a/memslots/b/c"}) {
    EXPECT_FALSE(ParseMemslotName("name", name).ok()) << name;
  }
}

TEST(ResourceNamesTest, RefusesMalformedDirtyConsumerNames) {
  for (const char* name :
       {"", "default", "vms/a", "vms/a/dirtyConsumers", "vms/a/dirtyConsumers/",
        "vms/a/dirtyconsumers/b", "vms/a/memslots/b", "vms/A/dirtyConsumers/b",
        "vms/a/dirtyConsumers/B", "vms/a/dirtyConsumers/b/c"}) {
    EXPECT_FALSE(ParseDirtyConsumerName("name", name).ok()) << name;
  }
}

TEST(ResourceNamesTest, RefusesMalformedVcpuNames) {
  for (const char* name :
       {"", "vms/a", "vms/a/vcpus/", "vms/a/vcpus/x", "vms/a/vcpus/-1",
        "vms/a/vcpus/01", "vms/a/vcpus/+1", "vms/a/vcpus/ 1",
        "vms/a/vcpus/99999999999", "vms/a/vcpus/1/", "vms/A/vcpus/1"}) {
    EXPECT_FALSE(ParseVcpuName("name", name, Wildcard::kAllowed).ok()) << name;
  }
}

TEST(ResourceNamesTest, TakesADashForEveryVcpuOnlyWhereItMeansSomething) {
  EXPECT_EQ(ParseVcpuName("name", "vms/a/vcpus/-", Wildcard::kAllowed)->index,
            kEveryVcpu);
  EXPECT_FALSE(ParseVcpuName("name", "vms/a/vcpus/-", Wildcard::kRefused).ok());
}

TEST(ResourceNamesTest, ShowsHostileNamesShortAndEscaped) {
  const absl::Status status =
      ParseVmName("name", std::string(1 << 20, '\x1f')).status();
  EXPECT_LT(status.message().size(), 700u);
  EXPECT_EQ(status.message().find('\x1f'), absl::string_view::npos);
  EXPECT_EQ(DetailOf(status)->metadata.size(), 3u);
}

}  // namespace
}  // namespace tdp::server
