"""What a Python client of tdpd wants besides the generated stubs: a connection
with all services, errors that say what is wrong, retries by the table of errors
in proto/README.md, the next_gfn loop, and streams that go on where they broke.

    import tdpd
    from tdp.v1 import vm_service_pb2 as vm

    with tdpd.Connection("unix:/run/tdpd/tdpd.sock") as daemon:
        daemon.call(daemon.vm.ListVms, vm.ListVmsRequest())

The generated modules (tdp.v1) must be on PYTHONPATH; README.md in the folder
above says how they are made.
"""

import random
import time
import uuid

import grpc

from tdp.v1 import (dirty_log_service_pb2_grpc, error_pb2,
                    event_service_pb2_grpc, guest_memory_service_pb2_grpc,
                    info_service_pb2_grpc, memslot_service_pb2_grpc,
                    mmu_service_pb2_grpc, stats_service_pb2_grpc,
                    vcpu_service_pb2_grpc, vm_service_pb2_grpc,
                    working_set_service_pb2_grpc)

DEFAULT_TIMEOUT_S = 30
MAX_TRIES = 5
FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 5

# Refused before anything changed, if there is a RetryInfo.
_REFUSED = {"OPERATION_CONFLICT", "LIMIT_REACHED"}
_KNOWN_REASONS = {name.removeprefix("ERROR_REASON_")
                  for name in error_pb2.ErrorReason.keys()}
# Ranged requests whose second call could do harm.
_ONCE = {"AgeRangeRequest", "DiscardRangeRequest"}


class Error(Exception):
    """A call that failed: `code` (grpc.StatusCode), `message`, `reason` and
    `metadata` of the ErrorInfo, and `retry_delay_s` if there is a RetryInfo."""

    def __init__(self, rpc_error):
        self.code = rpc_error.code()
        self.message = rpc_error.details()
        self.reason = ""
        self.metadata = {}
        self.retry_delay_s = None
        for key, value in rpc_error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                self._read(error_pb2.RpcStatus.FromString(value))
        if not self.reason and self.message.startswith("STREAM_TOO_SLOW:"):
            self.reason = "STREAM_TOO_SLOW"  # cut off: gRPC has no details then
        super().__init__(f"{self.code.name}: {self.message}")

    def _read(self, status):
        for detail in status.details:
            kind = detail.type_url.rpartition("/")[2]
            if kind == "google.rpc.ErrorInfo":
                info = error_pb2.ErrorInfo.FromString(detail.value)
                self.reason = info.reason
                self.metadata = dict(info.metadata)
            elif kind == "google.rpc.RetryInfo":
                delay = error_pb2.RetryInfo.FromString(
                    detail.value).retry_delay
                self.retry_delay_s = delay.seconds + delay.nanos / 1e9

    def may_repeat(self, idempotent):
        """Whether the call may be made again without a decision."""
        if self.message.startswith("failed to connect"):
            return False  # nobody listens: that shows at once
        if self.reason in _REFUSED:
            return self.retry_delay_s is not None
        if self.reason == "STREAM_TOO_SLOW":
            return idempotent
        lost = (self.code == grpc.StatusCode.UNAVAILABLE
                and self.reason not in _KNOWN_REASONS)
        return idempotent and (self.retry_delay_s is not None or lost)


class Retries:
    """The tries of one call, up to a deadline (of time.monotonic(), or None).

    `clock` has monotonic(), sleep() and random(); tests have their own.
    """

    def __init__(self, deadline, clock):
        self._deadline = deadline
        self._clock = clock
        self._tries = 1

    def remaining_s(self):
        if self._deadline is None:
            return None
        return max(self._deadline - self._clock.monotonic(), 0)

    def progress(self):
        self._tries = 1

    def wait(self, error, idempotent):
        """Waits for the next try; raises `error` if there is to be none."""
        if self._tries >= MAX_TRIES or not error.may_repeat(idempotent):
            raise error
        backoff = min(FIRST_BACKOFF_S * 2**(self._tries - 1), MAX_BACKOFF_S)
        wait = (error.retry_delay_s or 0) + backoff * (
            0.5 + self._clock.random() / 2)
        if self._deadline is not None and wait >= self.remaining_s():
            raise error
        self._tries += 1
        self._clock.sleep(wait)


class RealClock:
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)
    random = staticmethod(random.random)


class Connection:
    """The stubs of one daemon: info, vm, memslot, vcpu, mmu, dirty_log,
    working_set, memory, event and stats, and how to call them."""

    def __init__(self, target, credentials=None, clock=RealClock):
        self._channel = (grpc.secure_channel(target, credentials)
                         if credentials else grpc.insecure_channel(target))
        self._clock = clock
        channel = self._channel
        self.info = info_service_pb2_grpc.InfoServiceStub(channel)
        self.vm = vm_service_pb2_grpc.VmServiceStub(channel)
        self.memslot = memslot_service_pb2_grpc.MemslotServiceStub(channel)
        self.vcpu = vcpu_service_pb2_grpc.VcpuServiceStub(channel)
        self.mmu = mmu_service_pb2_grpc.MmuServiceStub(channel)
        self.dirty_log = dirty_log_service_pb2_grpc.DirtyLogServiceStub(channel)
        self.working_set = (
            working_set_service_pb2_grpc.WorkingSetServiceStub(channel))
        self.memory = guest_memory_service_pb2_grpc.GuestMemoryServiceStub(
            channel)
        self.event = event_service_pb2_grpc.EventServiceStub(channel)
        self.stats = stats_service_pb2_grpc.StatsServiceStub(channel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._channel.close()

    def _retries(self, timeout_s):
        if timeout_s is None:
            return Retries(None, self._clock)
        return Retries(self._clock.monotonic() + timeout_s, self._clock)

    def call(self, method, request, timeout_s=DEFAULT_TIMEOUT_S,
             idempotent=False):
        """One unary call with its retries, all of them within `timeout_s`.

        `idempotent` says that a second call does no harm if the first took
        effect without an answer: true of all that only reads. Creating becomes
        so by a request_id, which this adds.
        """
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            if not request.request_id:
                # In a copy: the caller's next call is another one.
                request = type(request).FromString(request.SerializeToString())
                request.request_id = str(uuid.uuid4())
            idempotent = True
        retries = self._retries(timeout_s)
        while True:
            try:
                return method(request, timeout=retries.remaining_s())
            except grpc.RpcError as rpc_error:
                error = Error(rpc_error)
            retries.wait(error, idempotent)

    def ranged(self, method, request, timeout_s=DEFAULT_TIMEOUT_S):
        """Calls a ranged method until it has handled the whole range; yields
        the answer to each piece. `timeout_s` is for one piece.

        Pieces are repeated after a broken connection, but for aging, which
        tells only once what was young, and discarding, which would discard
        what the guest has written since. The count of an answer that was lost
        is in no other: after a retry the sum may lack it.
        """
        idempotent = (request.DESCRIPTOR.name not in _ONCE or
                      getattr(request, "test_only", False))
        part = type(request)()
        part.CopyFrom(request)
        while part.range.start_gfn < part.range.end_gfn:
            answer = self.call(method, part, timeout_s, idempotent)
            if answer.next_gfn <= part.range.start_gfn:
                raise RuntimeError(
                    f"no progress at frame {part.range.start_gfn}")
            part.range.start_gfn = answer.next_gfn
            yield answer

    def events(self, request, timeout_s=None):
        """Yields events without a gap, from `start_sequence` on."""
        request = type(request).FromString(request.SerializeToString())
        retries = self._retries(timeout_s)
        while True:
            try:
                for answer in self.event.WatchEvents(
                        request, timeout=retries.remaining_s()):
                    retries.progress()
                    request.start_sequence = answer.next_sequence
                    yield from answer.events
                return
            except grpc.RpcError as rpc_error:
                error = Error(rpc_error)
            retries.wait(error, idempotent=True)

    def leaves(self, request, timeout_s=None):
        """Yields the last-level entries of a WalkRangeRequest, in order."""
        request = type(request).FromString(request.SerializeToString())
        request.leaves_only = True
        retries = self._retries(timeout_s)
        while request.range.start_gfn < request.range.end_gfn:
            try:
                for answer in self.mmu.WalkRange(
                        request, timeout=retries.remaining_s()):
                    retries.progress()
                    request.range.start_gfn = answer.next_gfn
                    yield from answer.sptes
                return
            except grpc.RpcError as rpc_error:
                error = Error(rpc_error)
            retries.wait(error, idempotent=True)

    def read_memory(self, request, timeout_s=None):
        """The bytes of a ReadGuestMemoryRequest."""
        request = type(request).FromString(request.SerializeToString())
        retries = self._retries(timeout_s)
        data = b""
        while True:
            try:
                for answer in self.memory.ReadGuestMemory(
                        request, timeout=retries.remaining_s()):
                    retries.progress()
                    data += answer.data
                    request.gpa += len(answer.data)
                    request.size_bytes -= len(answer.data)
                return data
            except grpc.RpcError as rpc_error:
                error = Error(rpc_error)
            if request.size_bytes == 0:
                return data
            retries.wait(error, idempotent=True)
