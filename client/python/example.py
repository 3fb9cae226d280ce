# %% [markdown]
# # One VM through its life
#
# This is a notebook as a script: editors that know `# %%` run it cell by cell,
# and `python3 example.py TARGET` runs it from top to bottom. It needs a daemon
# (`./deploy/dev.sh run` starts one and prints its TARGET), and the folders of
# the generated modules and of `tdpd.py` on PYTHONPATH.
#
# Every number that is printed is explained by what the cells before did, so a
# test compares them. Addresses of the guest are frames (`gfn`), of 4 KiB each.

# %%
import sys

import tdpd
from tdp.v1 import (dirty_log_service_pb2 as dirty_pb, event_service_pb2 as
                    event_pb, guest_memory_service_pb2 as memory_pb,
                    info_service_pb2 as info_pb, memslot_service_pb2 as
                    memslot_pb, mmu_service_pb2 as mmu_pb, stats_service_pb2 as
                    stats_pb, types_pb2 as types_pb, vcpu_service_pb2 as
                    vcpu_pb, vm_service_pb2 as vm_pb, working_set_service_pb2
                    as ws_pb)

TARGET = sys.argv[1] if len(sys.argv) > 1 else "unix:/run/tdpd/tdpd.sock"
VM = "vms/notebook"
RAM = VM + "/memslots/ram"
VCPU = VM + "/vcpus/0"
FRAMES = 16384  # 64 MiB


def frames(start, end):
    return types_pb.GfnRange(start_gfn=start, end_gfn=end)


# %% [markdown]
# ## Connect
#
# A connection has a stub for each service. `call` makes one call, with a
# deadline and with retries where they do no harm.

# %%
daemon = tdpd.Connection(TARGET)
info = daemon.call(daemon.info.GetInfo, info_pb.GetInfoRequest(),
                   idempotent=True)
print("API:", ", ".join(info.api_versions))

# %% [markdown]
# ## Create a VM and its memory
#
# A VM is nothing but vCPUs until it has a memslot: 16384 frames from frame 0
# on. `call` gives both requests a `request_id`, so that an answer that gets
# lost does no harm.

# %%
daemon.call(
    daemon.vm.CreateVm,
    vm_pb.CreateVmRequest(vm_id="notebook", vm=vm_pb.Vm(vcpu_count=1)))
slot = daemon.call(
    daemon.memslot.CreateMemslot,
    memslot_pb.CreateMemslotRequest(
        parent=VM, memslot_id="ram",
        memslot=memslot_pb.Memslot(frame_count=FRAMES))).memslot
print("memory:", slot.frame_count, "frames")

# %% [markdown]
# ## Load a guest and let it run
#
# The daemon has a guest built in that touches each frame of a range, here to
# write to it. Nothing is mapped yet, so each frame faults once.
#
# `events` are all events of the VM from its first on, without a gap, also if
# the stream has to be opened again.

# %%
events = daemon.events(
    event_pb.WatchEventsRequest(vm=VM, start_sequence=1))
seen = []


def run_guest(gfn_range, write=True):
    """Runs the guest to its end; returns how many faults it took."""
    before = stats().fault_fixed_count
    daemon.call(
        daemon.vcpu.LoadGuest,
        vcpu_pb.LoadGuestRequest(
            name=VCPU,
            guest=vcpu_pb.Guest(
                touch=vcpu_pb.TouchGuest(range=gfn_range, write=write))))
    daemon.call(daemon.vm.StartVm, vm_pb.StartVmRequest(name=VM))
    vcpu = daemon.call(daemon.vcpu.WaitVcpu,
                       vcpu_pb.WaitVcpuRequest(name=VCPU),
                       idempotent=True).vcpu
    assert vcpu.state == vcpu_pb.Vcpu.STATE_EXITED, vcpu
    wait_until_stopped()
    return stats().fault_fixed_count - before


def stats():
    return daemon.call(daemon.stats.GetVmStats,
                       stats_pb.GetVmStatsRequest(vm=VM),
                       idempotent=True).stats


def wait_until_stopped():
    """The vCPU has left the guest; an event tells when the VM has noticed."""
    for event in events:
        seen.append(event)
        if event.vm_state_changed.new_state == vm_pb.Vm.STATE_STOPPED:
            return


print("faults of 1024 frames:", run_guest(frames(0, 1024)))
print("faults of the same frames again:", run_guest(frames(0, 1024)))

# %% [markdown]
# ## Map before the guest touches
#
# `ranged` calls a ranged method again until it has handled the whole range: a
# call works within a time budget and says in `next_gfn` how far it came.

# %%
mapped = sum(
    answer.mapped_frame_count for answer in daemon.ranged(
        daemon.mmu.MapRange,
        mmu_pb.MapRangeRequest(vm=VM, range=frames(1024, 4096), write=True,
                               max_level=types_pb.PAGE_LEVEL_4K)))
print("mapped:", mapped, "frames")
print("faults of 4096 frames:", run_guest(frames(0, 4096)))

# %% [markdown]
# ## Walk
#
# The path to one frame, root to leaf: tables, then the entry that maps it. And
# all entries that map something, over any range.

# %%
path = daemon.call(daemon.mmu.WalkGfn,
                   mmu_pb.WalkGfnRequest(vm=VM, gfn=2000),
                   idempotent=True).sptes
for spte in path:
    level = types_pb.PageLevel.Name(spte.level).removeprefix("PAGE_LEVEL_")
    kind = "leaf" if spte.leaf else "table"
    access = "r" * spte.access.read + "w" * spte.access.write
    print(f"{level:>4} {kind:5} from frame {spte.base_gfn} {access}".rstrip())

leaves = list(daemon.leaves(
    mmu_pb.WalkRangeRequest(vm=VM, range=frames(0, FRAMES),
                            present_only=True)))
print("leaves:", len(leaves))

# %% [markdown]
# ## Dirty log
#
# Switch it on, let the guest write 256 frames, and read which ones were
# written: a bitmap, one bit a frame. Clearing what was read protects these
# frames again, so the next write to each of them is noticed anew.

# %%
update = memslot_pb.UpdateMemslotRequest(
    memslot=memslot_pb.Memslot(name=RAM, dirty_log_enabled=True))
update.update_mask.paths.append("dirty_log_enabled")
daemon.call(daemon.memslot.UpdateMemslot, update)
run_guest(frames(512, 768))


def dirty_bitmaps():
    return [answer.dirty for answer in daemon.dirty_log.ReadDirtyLog(
        dirty_pb.ReadDirtyLogRequest(memslot=RAM, sparse=True))]


def set_frames(bitmaps):
    return [bitmap.first_gfn + 8 * i + bit
            for bitmap in bitmaps
            for i, byte in enumerate(bitmap.bits)
            for bit in range(8) if byte >> bit & 1]


dirty = dirty_bitmaps()
written = set_frames(dirty)
print(f"dirty: {len(written)} frames, {written[0]} to {written[-1]}")
cleared = daemon.dirty_log.ClearDirtyLog(
    iter([dirty_pb.ClearDirtyLogRequest(memslot=RAM, dirty=bitmap)
          for bitmap in dirty]))
print("cleared:", cleared.cleared_frame_count)
print("dirty now:", len(set_frames(dirty_bitmaps())))

# %% [markdown]
# ## Zap
#
# Takes mappings away; the bytes stay. The next touch of each frame faults it
# back in.

# %%
zapped = sum(answer.zapped_frame_count for answer in daemon.ranged(
    daemon.mmu.ZapRange,
    mmu_pb.ZapRangeRequest(vm=VM, range=frames(256, 512))))
print("zapped:", zapped, "frames")
print("faults afterwards:", run_guest(frames(0, 1024), write=False))
data = daemon.read_memory(
    memory_pb.ReadGuestMemoryRequest(vm=VM, gpa=256 << 12, size_bytes=4096))
print("bytes of frame 256 are still there:", len(data) == 4096 and any(data))

# %% [markdown]
# ## Working set
#
# How long ago was each mapped frame used? Buckets are by idle age, the youngest
# first. To find out, the daemon clears the Accessed bits: the next touch of each
# frame sets its bit again, at the price of one fault.

# %%
working_set = daemon.call(daemon.working_set.EstimateWorkingSet,
                          ws_pb.EstimateWorkingSetRequest(vm=VM),
                          idempotent=True).working_set
print("frames with an age:",
      sum(bucket.frame_count for bucket in working_set.buckets))
print("faults afterwards:", run_guest(frames(0, 1024), write=False))

# %% [markdown]
# ## Errors
#
# An error has a code, a message for people, and a `reason` for programs; where
# it names something, `metadata` has it.

# %%
try:
    daemon.call(daemon.mmu.WalkGfn,
                mmu_pb.WalkGfnRequest(vm="vms/nobody", gfn=0),
                idempotent=True)
except tdpd.Error as error:
    print(error.code.name, error.reason, sep=" / ")

# %% [markdown]
# ## The end
#
# Deleting the VM ends its stream of events, so this reads them to the last one.

# %%
daemon.call(daemon.memslot.DeleteMemslot,
            memslot_pb.DeleteMemslotRequest(name=RAM))
daemon.call(daemon.vm.DeleteVm, vm_pb.DeleteVmRequest(name=VM))
seen.extend(events)
gapless = [event.sequence for event in seen] == list(range(1, len(seen) + 1))
print("events without a gap:", gapless)
print("runs:", sum(event.vm_state_changed.new_state == vm_pb.Vm.STATE_RUNNING
                   for event in seen))
deleted = [event.memslot_changed.memslot for event in seen
           if event.memslot_changed.deleted]
print("memslots deleted:", ", ".join(deleted))
