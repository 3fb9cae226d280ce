// Every limit of the daemon, in one place but for those of HTTP/2 connections,
// which stand with their reasons in server/guard/guard_limits.h. GetInfo
// reports all of them by name.
//
// Limits that depend on the host are computed at start and live in
// VmRegistry::limits(); the constants here are their ceilings.

#ifndef ENGINE_BASE_LIMITS_H_
#define ENGINE_BASE_LIMITS_H_

#include <cstdint>

namespace tdp::limits {

inline constexpr int64_t kMaxVms = 256;
inline constexpr int64_t kMaxVcpusPerVm = 64;
// KVM takes 32,764 slots; each of ours costs a userfaultfd and two mappings.
inline constexpr int64_t kMaxMemslotsPerVm = 1024;
// KVM refuses a memslot of 2^31 frames or more.
inline constexpr int64_t kMaxMemslotFrames = (int64_t{1} << 31) - 1;
inline constexpr int64_t kDefaultPageTableLimitBytes = int64_t{1} << 30;
inline constexpr int64_t kMinPageTableLimitBytes = int64_t{64} << 10;
// Of all VMs together; the default is a part of the host's memory.
inline constexpr int64_t kMinPageTableBudgetBytes = int64_t{1} << 20;
inline constexpr int64_t kMaxCodeBytes = int64_t{1} << 20;
inline constexpr int64_t kMaxConsoleBytes = int64_t{64} << 10;
inline constexpr int64_t kMaxLabels = 64;
inline constexpr int64_t kMaxLabelBytes = 256;
inline constexpr int64_t kMaxWalkFrames = 65536;
inline constexpr int64_t kMaxAgeBitmapFrames = int64_t{1} << 21;
inline constexpr int64_t kMaxBatchOperations = 256;
inline constexpr int64_t kMaxBatchFrames = int64_t{1} << 14;
// Operations of one message of a stream of them.
inline constexpr int64_t kMaxStreamOperations = 4096;
inline constexpr int64_t kMaxMapAroundFrames = 512;
// One message of a dirty log: 64 KiB of bits.
inline constexpr int64_t kDirtyChunkFrames = int64_t{1} << 19;
inline constexpr int64_t kMaxDirtyConsumers = 16;
// Time between the scans that a watcher of the working set asks for.
inline constexpr int64_t kMinScanIntervalMs = 100;
inline constexpr int64_t kMaxScanIntervalMs = 60 * 60 * 1000;
inline constexpr int64_t kDefaultScanIntervalMs = 1000;
// Time between the samples that a watcher of the statistics asks for.
inline constexpr int64_t kMinStatsIntervalMs = 10;
inline constexpr int64_t kMaxStatsIntervalMs = 60 * 60 * 1000;
inline constexpr int64_t kDefaultStatsIntervalMs = 1000;
// Ranges of one VM on which ProtectRange() and ApplyBatch() limit the access.
inline constexpr int64_t kMaxProtectedRanges = 4096;
inline constexpr int64_t kMaxWriteChunkBytes = int64_t{1} << 20;
inline constexpr int64_t kReadChunkBytes = int64_t{1} << 18;
inline constexpr int64_t kMaxRequestBytes = int64_t{4} << 20;
// Calls that wait for a thread, and calls that one connection may have open.
inline constexpr int64_t kMaxQueuedCalls = 4096;
inline constexpr int64_t kMaxQueuedCallsPerClient = 1024;
inline constexpr int64_t kMaxStreamsPerConnection = 256;
// Of the file that says who may call, and names in a client's certificate.
inline constexpr int64_t kMaxPolicyBytes = int64_t{256} << 10;
inline constexpr int64_t kMaxPolicyLines = 4096;
inline constexpr int64_t kMaxPolicyPatterns = 256;
inline constexpr int64_t kMaxCertificateNames = 64;
// What all calls of one client, and of all, may have under way. A client is an
// identity, over however many connections; it watches each VM in three ways.
inline constexpr int64_t kMaxCallsPerClient = 2048;
inline constexpr int64_t kMaxCalls = 8192;
inline constexpr int64_t kMaxStreamsPerClient = 1024;
inline constexpr int64_t kMaxStreams = 4096;
// Of a client that may do nothing but ask for the daemon's health and methods.
inline constexpr int64_t kMaxCallsWithoutRole = 64;
inline constexpr int64_t kMaxStreamsWithoutRole = 16;
// What a client with a role may have when others have used up the whole.
inline constexpr int64_t kGuaranteedCallsPerClient = 16;
inline constexpr int64_t kGuaranteedStreamsPerClient = 16;
// Frames of 4 KiB that calls may work on, on average: 1 TiB and 4 TiB a second.
// Many times what one thread can do with small pages; large ones are cheap.
inline constexpr int64_t kMaxFramesPerSecondPerClient = int64_t{1} << 28;
inline constexpr int64_t kMaxFramesPerSecond = int64_t{1} << 30;
// Who was idle may do the work of so many seconds at once.
inline constexpr int64_t kWorkBurstSeconds = 16;
// Answers to one client that wait for it to read, in bytes and in time.
inline constexpr int64_t kMaxUnsentBytesPerClient = int64_t{32} << 20;
inline constexpr int64_t kMaxUnreadSeconds = 10;
// Headers of a call, decoded.
inline constexpr int64_t kMaxMetadataBytes = 8192;
// A connection that has not come to its first call's frames is closed.
inline constexpr int64_t kHandshakeTimeoutMs = 10000;
// A connection over which nothing came is asked, and closed without an answer.
inline constexpr int64_t kKeepaliveTimeMs = 20000;
inline constexpr int64_t kKeepaliveTimeoutMs = 10000;
inline constexpr int64_t kMaxKeptEvents = 8192;
inline constexpr int64_t kMaxRequestIds = 1024;
inline constexpr int64_t kDefaultPageSize = 50;
inline constexpr int64_t kMaxPageSize = 1000;
inline constexpr int64_t kMaxDivergences = 1000;
// Tables unlinked but not yet past a grace period, process-wide.
inline constexpr int64_t kMaxRetiredBytes = int64_t{64} << 20;
// Frames that one host call covers at most: a table of 4K leaves, or so many 2M
// ones that what the host takes for them stays below a millisecond.
inline constexpr int64_t kMaxHostCallFrames = 64 * 512;

}  // namespace tdp::limits

#endif  // ENGINE_BASE_LIMITS_H_
