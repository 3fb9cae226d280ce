#!/usr/bin/python3
"""tdpd.py with fake methods and a fake clock: tdpd_test.py README"""

import re
import sys
import types
import unittest

import grpc

import tdpd
from tdp.v1 import (error_pb2, event_service_pb2, guest_memory_service_pb2,
                    mmu_service_pb2, types_pb2, vm_service_pb2)


class FakeRpcError(grpc.RpcError):
    """An error as gRPC raises it, with details as the daemon sends them."""

    def __init__(self, code, reason=None, delay_s=None, message="because"):
        super().__init__()
        self._code = grpc.StatusCode[code]
        self._message = message
        status = error_pb2.RpcStatus(code=self._code.value[0], message=message)
        if reason:
            info = error_pb2.ErrorInfo(reason=reason, domain="tdp.v1")
            info.metadata["limit"] = "max_calls"
            status.details.add(
                type_url="type.googleapis.com/google.rpc.ErrorInfo",
                value=info.SerializeToString())
        if delay_s is not None:
            retry = error_pb2.RetryInfo()
            retry.retry_delay.FromMilliseconds(int(delay_s * 1000))
            status.details.add(
                type_url="type.googleapis.com/google.rpc.RetryInfo",
                value=retry.SerializeToString())
        self._details = status.SerializeToString()

    def code(self):
        return self._code

    def details(self):
        return self._message

    def trailing_metadata(self):
        return (("grpc-status-details-bin", self._details),)


CONFLICT = FakeRpcError("ABORTED", "OPERATION_CONFLICT", 0.1)
DRAINING = FakeRpcError("UNAVAILABLE", "DRAINING", 1)
GONE = FakeRpcError("UNAVAILABLE")


class FakeClock:

    def __init__(self):
        self.now = 1000.0
        self.waits = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.waits.append(round(seconds, 6))
        self.now += seconds

    def random(self):
        return 0.0


class Method:
    """Raises or returns what it is told, one after the other."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        self.timeouts = []

    def __call__(self, request, timeout):
        self.requests.append(type(request).FromString(
            request.SerializeToString()))
        self.timeouts.append(timeout)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def stream(*messages):
    """A stream of these; an exception among them breaks it."""
    for message in messages:
        if isinstance(message, Exception):
            raise message
        yield message


class TdpdTest(unittest.TestCase):

    def setUp(self):
        self.clock = FakeClock()
        self.daemon = tdpd.Connection("unix:/nonexistent", clock=self.clock)
        self.addCleanup(self.daemon.__exit__)

    def test_each_row_of_the_table_of_errors_is_followed(self):
        with open(README, encoding="utf-8") as file:
            rows = re.findall(r"^\| `(\w+)` \| (\w+) \|.*\| ([\w, ]+) \|$",
                              file.read(), re.M)
        self.assertEqual(len(rows), len(error_pb2.ErrorReason.keys()) - 1)
        for reason, code, again in rows:
            plain = tdpd.Error(FakeRpcError(code, reason))
            delayed = tdpd.Error(FakeRpcError(code, reason, 1))
            want = {"no": (False, False, False, None),
                    "streams": (True, False, True, False),
                    "if idempotent": (False, False, True, False),
                    "yes": (False, False, True, True)}[again.split(",")[0]]
            got = (plain.may_repeat(True), plain.may_repeat(False),
                   delayed.may_repeat(True), delayed.may_repeat(False))
            if again == "no":  # the daemon sends no RetryInfo with these
                got, want = got[:2], want[:2]
            self.assertEqual(got, want, reason)

    def test_errors_say_what_is_wrong(self):
        error = tdpd.Error(FakeRpcError("RESOURCE_EXHAUSTED", "LIMIT_REACHED",
                                        0.25))
        self.assertEqual(str(error), "RESOURCE_EXHAUSTED: because")
        self.assertEqual(error.reason, "LIMIT_REACHED")
        self.assertEqual(error.metadata, {"limit": "max_calls"})
        self.assertEqual(error.retry_delay_s, 0.25)
        self.assertIsNone(tdpd.Error(GONE).retry_delay_s)

    def test_who_is_cut_off_for_reading_slowly_hears_it_as_a_reason(self):
        error = tdpd.Error(FakeRpcError(
            "RESOURCE_EXHAUSTED", message="STREAM_TOO_SLOW: read faster"))
        self.assertEqual(error.reason, "STREAM_TOO_SLOW")
        self.assertTrue(error.may_repeat(idempotent=True))

    def test_a_refused_call_is_made_again(self):
        method = Method(CONFLICT, CONFLICT, "answer")
        self.assertEqual(
            self.daemon.call(method, vm_service_pb2.StartVmRequest()),
            "answer")
        self.assertEqual(self.clock.waits, [0.15, 0.2])
        self.assertEqual([round(timeout, 6) for timeout in method.timeouts],
                         [30, 29.85, 29.65])

    def test_tries_end(self):
        method = Method(*[CONFLICT] * 9)
        with self.assertRaises(tdpd.Error):
            self.daemon.call(method, vm_service_pb2.StartVmRequest())
        self.assertEqual(len(method.requests), 5)

    def test_the_deadline_bounds_all_tries(self):
        method = Method(*[FakeRpcError("UNAVAILABLE", "DRAINING", 4)] * 9)
        with self.assertRaises(tdpd.Error):
            self.daemon.call(method, vm_service_pb2.GetVmRequest(),
                             timeout_s=10, idempotent=True)
        self.assertEqual(len(method.requests), 3)

    def test_what_may_have_taken_effect_is_not_repeated(self):
        for error in (DRAINING, GONE):
            method = Method(error)
            with self.assertRaises(tdpd.Error):
                self.daemon.call(method, vm_service_pb2.StartVmRequest())
        self.assertEqual(self.clock.waits, [])

    def test_a_daemon_that_is_not_there_shows_at_once(self):
        method = Method(FakeRpcError("UNAVAILABLE",
                                     message="failed to connect to all"))
        with self.assertRaises(tdpd.Error):
            self.daemon.call(method, vm_service_pb2.GetVmRequest(),
                             idempotent=True)

    def test_creating_is_repeated_under_one_request_id(self):
        method = Method(GONE, DRAINING, "answer")
        self.daemon.call(method, vm_service_pb2.CreateVmRequest())
        ids = {request.request_id for request in method.requests}
        self.assertEqual(len(ids), 1)
        self.assertRegex(ids.pop(), "^[0-9a-f-]{36}$")

    def test_a_request_that_is_used_twice_is_two_requests(self):
        method = Method("first", "second", "third")
        request = vm_service_pb2.CreateVmRequest(vm_id="a")
        self.daemon.call(method, request)
        self.daemon.call(method, request)
        self.assertEqual(request, vm_service_pb2.CreateVmRequest(vm_id="a"))
        self.assertNotEqual(method.requests[0].request_id,
                            method.requests[1].request_id)
        request.request_id = "11111111-2222-4333-8444-555555555555"
        self.daemon.call(method, request)
        self.assertEqual(method.requests[2], request, "the caller's own")

    def ranged(self, *answers, request=mmu_service_pb2.MapRangeRequest):
        method = Method(*answers)
        pieces = list(self.daemon.ranged(
            method, request(range=types_pb2.GfnRange(end_gfn=48))))
        return method, sum(piece.mapped_frame_count for piece in pieces)

    def test_the_loop_goes_on_wherever_it_is_interrupted(self):
        done = [mmu_service_pb2.MapRangeResponse(next_gfn=gfn,
                                                 mapped_frame_count=16)
                for gfn in (16, 32, 48)]
        for at in range(3):
            for error in (CONFLICT, DRAINING, GONE):
                method, count = self.ranged(*done[:at], error, *done[at:])
                self.assertEqual(count, 48)
                starts = [request.range.start_gfn
                          for request in method.requests]
                want = [0, 16, 32]
                want.insert(at, want[at])
                self.assertEqual(starts, want)

    def test_a_daemon_that_stands_still_ends_the_loop(self):
        with self.assertRaisesRegex(RuntimeError, "no progress at frame 0"):
            self.ranged(mmu_service_pb2.MapRangeResponse(next_gfn=0))

    def test_aging_that_may_have_told_what_was_young_is_not_repeated(self):
        with self.assertRaises(tdpd.Error):
            self.ranged(GONE, request=mmu_service_pb2.AgeRangeRequest)

    def test_looking_at_what_is_young_is_repeated(self):
        answer = mmu_service_pb2.AgeRangeResponse(next_gfn=48)
        method = Method(GONE, answer)
        request = mmu_service_pb2.AgeRangeRequest(
            range=types_pb2.GfnRange(end_gfn=48), test_only=True)
        self.assertEqual(list(self.daemon.ranged(method, request)), [answer])

    def test_discarding_again_would_discard_what_was_written_since(self):
        with self.assertRaises(tdpd.Error):
            self.ranged(GONE,
                        request=guest_memory_service_pb2.DiscardRangeRequest)

    def test_events_have_no_gap_wherever_the_stream_breaks(self):
        def answer(sequence):
            return event_service_pb2.WatchEventsResponse(
                events=[event_service_pb2.Event(sequence=sequence)],
                next_sequence=sequence + 1)

        for last in range(5):
            method = Method(
                stream(*map(answer, range(1, last + 1)), GONE),
                stream(*map(answer, range(last + 1, 5))))
            self.daemon.event = types.SimpleNamespace(WatchEvents=method)
            request = event_service_pb2.WatchEventsRequest(start_sequence=1)
            sequences = [event.sequence
                         for event in self.daemon.events(request)]
            self.assertEqual(sequences, [1, 2, 3, 4])
            self.assertEqual(method.requests[1].start_sequence, last + 1)
            self.assertEqual(request.start_sequence, 1, "the caller's own")

    def test_a_walk_shows_each_leaf_once_wherever_it_breaks(self):
        def answer(gfn):
            return mmu_service_pb2.WalkRangeResponse(
                sptes=[types_pb2.Spte(base_gfn=gfn)], next_gfn=gfn + 1)

        for last in range(5):
            method = Method(stream(*map(answer, range(last)), GONE),
                            stream(*map(answer, range(last, 4))))
            self.daemon.mmu = types.SimpleNamespace(WalkRange=method)
            leaves = self.daemon.leaves(mmu_service_pb2.WalkRangeRequest(
                range=types_pb2.GfnRange(end_gfn=4)))
            self.assertEqual([spte.base_gfn for spte in leaves],
                             [0, 1, 2, 3])
            self.assertTrue(all(request.leaves_only
                                for request in method.requests))

    def test_bytes_are_read_to_their_end(self):
        def answer(data):
            return guest_memory_service_pb2.ReadGuestMemoryResponse(data=data)

        method = Method(stream(answer(b"01"), GONE),
                        stream(answer(b"23"), answer(b"45"), GONE))
        self.daemon.memory = types.SimpleNamespace(ReadGuestMemory=method)
        data = self.daemon.read_memory(
            guest_memory_service_pb2.ReadGuestMemoryRequest(gpa=100,
                                                            size_bytes=6))
        self.assertEqual(data, b"012345")
        self.assertEqual(method.requests[1].gpa, 102)


if __name__ == "__main__":
    README = sys.argv.pop(1)
    unittest.main()
