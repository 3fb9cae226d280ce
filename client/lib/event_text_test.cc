#include "client/lib/event_text.h"

#include "gtest/gtest.h"

namespace tdp::client {
namespace {

TEST(EventTextTest, EachKindOfEventHasItsLine) {
  v1::Event event;
  event.mutable_vm_state_changed()->set_new_state(v1::Vm::STATE_CREATED);
  EXPECT_EQ(EventText(event), "vm        - -> CREATED");
  event.mutable_vm_state_changed()->set_old_state(v1::Vm::STATE_RUNNING);
  event.mutable_vm_state_changed()->set_new_state(v1::Vm::STATE_STOPPED);
  EXPECT_EQ(EventText(event), "vm        RUNNING -> STOPPED");
  event.mutable_memslot_changed()->set_memslot("vms/demo/memslots/ram");
  EXPECT_EQ(EventText(event), "memslot   vms/demo/memslots/ram changed");
  event.mutable_memslot_changed()->set_deleted(true);
  EXPECT_EQ(EventText(event), "memslot   vms/demo/memslots/ram deleted");
  event.mutable_unbacked_access()->set_gfn(0x100);
  event.mutable_unbacked_access()->mutable_access()->set_write(true);
  EXPECT_EQ(EventText(event), "unbacked  -w at 0x100000");
  event.mutable_vcpu_exited()->set_vcpu_index(1);
  event.mutable_vcpu_exited()->set_reason("HLT");
  EXPECT_EQ(EventText(event), "exit      vcpu 1: HLT");
  event.mutable_access_waiting()->set_access_id(3);
  event.mutable_access_waiting()->set_gfn(1);
  event.mutable_access_waiting()->mutable_access()->set_read(true);
  event.mutable_access_waiting()->set_cause(
      v1::AccessWaiting::CAUSE_SOURCE_FAILED);
  event.mutable_access_waiting()->set_detail("disk gone");
  EXPECT_EQ(EventText(event),
            "waiting   access 3 by vcpu 0: r- at 0x1000, cause SOURCE_FAILED "
            "(disk gone)");
}

TEST(EventTextTest, AnEventFromALaterDaemonIsShownAsUnknown) {
  EXPECT_EQ(EventText(v1::Event()).substr(0, 7), "unknown");
}

}  // namespace
}  // namespace tdp::client
