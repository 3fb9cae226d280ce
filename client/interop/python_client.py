"""A client generated from proto/ by Debian's protoc, against a real daemon.

Runs one VM through its life and checks every value on the way.
"""

import os
import sys
import threading

import grpc

from tdp.v1 import (error_pb2, event_service_pb2, event_service_pb2_grpc,
                    guest_memory_service_pb2, guest_memory_service_pb2_grpc,
                    info_service_pb2, info_service_pb2_grpc,
                    memslot_service_pb2, memslot_service_pb2_grpc,
                    mmu_service_pb2, mmu_service_pb2_grpc, stats_service_pb2,
                    stats_service_pb2_grpc, types_pb2, vcpu_service_pb2,
                    vcpu_service_pb2_grpc, vm_service_pb2, vm_service_pb2_grpc)

VM = "vms/python"
SLOT_FRAMES = 16384
MAPPED_FRAMES = 4096
ZAPPED = types_pb2.GfnRange(start_gfn=0x100, end_gfn=0x110)
CHUNK_BYTES = 1 << 20
TIMEOUT_S = 60


def check(actual, expected, what):
    if actual != expected:
        sys.exit(f"{what}: got {actual!r}, want {expected!r}")


class Services:
    """The stubs of one channel."""

    def __init__(self, channel):
        self.info = info_service_pb2_grpc.InfoServiceStub(channel)
        self.vm = vm_service_pb2_grpc.VmServiceStub(channel)
        self.memslot = memslot_service_pb2_grpc.MemslotServiceStub(channel)
        self.vcpu = vcpu_service_pb2_grpc.VcpuServiceStub(channel)
        self.mmu = mmu_service_pb2_grpc.MmuServiceStub(channel)
        self.stats = stats_service_pb2_grpc.StatsServiceStub(channel)
        self.event = event_service_pb2_grpc.EventServiceStub(channel)
        self.memory = guest_memory_service_pb2_grpc.GuestMemoryServiceStub(
            channel)


class EventFollower:
    """Reads the events of the VM, from the first to the end of the stream."""

    def __init__(self, services):
        self.events = []
        self.error = None
        self._stream = services.event.WatchEvents(
            event_service_pb2.WatchEventsRequest(vm=VM, start_sequence=1))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        try:
            for response in self._stream:
                self.events.extend(response.events)
        except grpc.RpcError as error:
            self.error = error

    def wait_for_end(self):
        self._thread.join(TIMEOUT_S)
        check(self._thread.is_alive(), False, "the stream of events goes on")
        check(self.error, None, "error of the stream of events")


def error_of(call):
    """The gRPC error of a call that must fail, and its ErrorInfo."""
    try:
        call()
    except grpc.RpcError as error:
        details = dict(error.trailing_metadata())["grpc-status-details-bin"]
        status = error_pb2.RpcStatus.FromString(details)
        check(status.code, error.code().value[0], "code in the details")
        check(status.message, error.details(), "message in the details")
        infos = [
            detail for detail in status.details
            if detail.type_url.endswith("/google.rpc.ErrorInfo")
        ]
        check(len(infos), 1, "number of ErrorInfos")
        return error, error_pb2.ErrorInfo.FromString(infos[0].value)
    sys.exit("a call that must fail succeeded")


def until_end(method, request):
    """Calls a ranged method until it has handled the whole range."""
    responses = []
    while request.range.start_gfn < request.range.end_gfn:
        response = method(request, timeout=TIMEOUT_S)
        if response.next_gfn <= request.range.start_gfn:
            sys.exit(f"no progress at {request.range.start_gfn}")
        request.range.start_gfn = response.next_gfn
        responses.append(response)
    return responses


def create(services):
    response = services.vm.CreateVm(
        vm_service_pb2.CreateVmRequest(
            vm_id="python", vm=vm_service_pb2.Vm(vcpu_count=1)))
    check(response.vm.name, VM, "name of the VM")
    check(response.vm.state, vm_service_pb2.Vm.STATE_CREATED, "state")
    response = services.memslot.CreateMemslot(
        memslot_service_pb2.CreateMemslotRequest(
            parent=VM,
            memslot_id="ram",
            memslot=memslot_service_pb2.Memslot(frame_count=SLOT_FRAMES)))
    check(response.memslot.frame_count, SLOT_FRAMES, "frames of the memslot")


def check_errors(services):
    error, info = error_of(lambda: services.vm.GetVm(
        vm_service_pb2.GetVmRequest(name="vms/none")))
    check(error.code(), grpc.StatusCode.NOT_FOUND, "code of an unknown VM")
    check((info.reason, info.domain), ("RESOURCE_NOT_FOUND", "tdp.v1"),
          "reason and domain")
    error, info = error_of(lambda: services.memslot.CreateMemslot(
        memslot_service_pb2.CreateMemslotRequest(
            parent=VM,
            memslot_id="other",
            memslot=memslot_service_pb2.Memslot(base_gfn=1, frame_count=1))))
    check(error.code(), grpc.StatusCode.ALREADY_EXISTS, "code of an overlap")
    check(info.reason, "MEMSLOT_OVERLAP", "reason of an overlap")
    error, info = error_of(lambda: list(
        services.mmu.WalkRange(
            mmu_service_pb2.WalkRangeRequest(
                vm=VM, range=types_pb2.GfnRange(start_gfn=5, end_gfn=5)))))
    check(error.code(), grpc.StatusCode.INVALID_ARGUMENT,
          "code of an empty range")
    check(info.reason, "FIELD_INVALID", "reason of an empty range")


def map_and_walk(services):
    responses = until_end(
        services.mmu.MapRange,
        mmu_service_pb2.MapRangeRequest(
            vm=VM,
            range=types_pb2.GfnRange(end_gfn=MAPPED_FRAMES),
            max_level=types_pb2.PAGE_LEVEL_4K,
            write=True))
    check(sum(r.mapped_frame_count for r in responses), MAPPED_FRAMES,
          "frames mapped")
    path = services.mmu.WalkGfn(
        mmu_service_pb2.WalkGfnRequest(vm=VM, gfn=0x100)).sptes
    check([spte.level for spte in path], [4, 3, 2, 1], "levels of the path")
    leaf = path[-1]
    check((leaf.present, leaf.leaf, leaf.base_gfn), (True, True, 0x100),
          "leaf")
    check((leaf.access.read, leaf.access.write), (True, True), "its access")
    gfns = []
    for response in services.mmu.WalkRange(
            mmu_service_pb2.WalkRangeRequest(
                vm=VM,
                range=types_pb2.GfnRange(end_gfn=SLOT_FRAMES),
                leaves_only=True,
                present_only=True)):
        gfns.extend(spte.base_gfn for spte in response.sptes)
    check(gfns, list(range(MAPPED_FRAMES)), "frames of the walk")


def run_guest(services, expected_faults):
    """Touches every mapped frame; returns when the guest has halted."""
    before = stats(services).fault_fixed_count
    services.vcpu.LoadGuest(
        vcpu_service_pb2.LoadGuestRequest(
            name=VM + "/vcpus/0",
            guest=vcpu_service_pb2.Guest(
                touch=vcpu_service_pb2.TouchGuest(
                    range=types_pb2.GfnRange(end_gfn=MAPPED_FRAMES),
                    write=True))))
    services.vm.StartVm(vm_service_pb2.StartVmRequest(name=VM))
    vcpu = services.vcpu.WaitVcpu(
        vcpu_service_pb2.WaitVcpuRequest(name=VM + "/vcpus/0"),
        timeout=TIMEOUT_S).vcpu
    check(vcpu.state, vcpu_service_pb2.Vcpu.STATE_EXITED, "state of the vCPU")
    check(vcpu.touched_frame_count, MAPPED_FRAMES, "frames touched")
    faults = stats(services).fault_fixed_count - before
    check(faults, expected_faults, "faults of the guest")


def stats(services):
    return services.stats.GetVmStats(
        stats_service_pb2.GetVmStatsRequest(vm=VM)).stats


def zap_and_audit(services):
    responses = until_end(
        services.mmu.ZapRange,
        mmu_service_pb2.ZapRangeRequest(vm=VM, range=ZAPPED))
    frames = ZAPPED.end_gfn - ZAPPED.start_gfn
    check(sum(r.zapped_frame_count for r in responses), frames,
          "frames zapped")
    check(stats(services).leaf_4k_count, MAPPED_FRAMES - frames, "leaves")
    run_guest(services, expected_faults=frames)
    responses = until_end(
        services.mmu.AuditRange,
        mmu_service_pb2.AuditRangeRequest(
            vm=VM, range=types_pb2.GfnRange(end_gfn=SLOT_FRAMES)))
    check(sum(r.compared_frame_count for r in responses), SLOT_FRAMES,
          "frames compared")
    check(sum(r.divergent_frame_count for r in responses), 0,
          "divergent frames")


def write_and_read(services):
    gpa = 8 << 20
    data = os.urandom(2 * CHUNK_BYTES + 12345)

    def requests():
        for offset in range(0, len(data), CHUNK_BYTES):
            yield guest_memory_service_pb2.WriteGuestMemoryRequest(
                vm=VM if offset == 0 else "",
                gpa=gpa + offset,
                data=data[offset:offset + CHUNK_BYTES])

    response = services.memory.WriteGuestMemory(requests())
    check(response.written_bytes, len(data), "bytes written")
    read = b""
    for response in services.memory.ReadGuestMemory(
            guest_memory_service_pb2.ReadGuestMemoryRequest(
                vm=VM, gpa=gpa, size_bytes=len(data))):
        check(response.gpa, gpa + len(read), "address of the chunk")
        read += response.data
    check(read == data, True, "the bytes read are those written")


def delete(services):
    services.memslot.DeleteMemslot(
        memslot_service_pb2.DeleteMemslotRequest(name=VM + "/memslots/ram"))
    services.vm.DeleteVm(vm_service_pb2.DeleteVmRequest(name=VM))
    vms = services.vm.ListVms(vm_service_pb2.ListVmsRequest()).vms
    check([vm.name for vm in vms], [], "VMs left")


def check_events(events):
    check([event.sequence for event in events],
          list(range(1, len(events) + 1)), "sequence of the events")
    exits = [e.vcpu_exited.reason for e in events
             if e.WhichOneof("detail") == "vcpu_exited"]
    check(exits, ["HLT", "HLT"], "exits")
    states = [e.vm_state_changed.new_state for e in events
              if e.WhichOneof("detail") == "vm_state_changed"]
    running = vm_service_pb2.Vm.STATE_RUNNING
    stopped = vm_service_pb2.Vm.STATE_STOPPED
    check([s for s in states if s in (running, stopped)],
          [running, stopped, running, stopped], "states")
    memslots = [(e.memslot_changed.memslot, e.memslot_changed.deleted)
                for e in events
                if e.WhichOneof("detail") == "memslot_changed"]
    name = VM + "/memslots/ram"
    check(memslots, [(name, False), (name, True)], "memslot events")


def main():
    with grpc.insecure_channel("unix:" + os.environ["TDPD_SOCKET"]) as channel:
        services = Services(channel)
        info = services.info.GetInfo(info_service_pb2.GetInfoRequest())
        check(list(info.api_versions), ["tdp.v1"], "API versions")
        create(services)
        follower = EventFollower(services)
        check_errors(services)
        map_and_walk(services)
        run_guest(services, expected_faults=0)
        zap_and_audit(services)
        write_and_read(services)
        delete(services)
        follower.wait_for_end()
        check_events(follower.events)
    print("Python: every value as it should be")


if __name__ == "__main__":
    main()
