// Entries, ages, audits and statistics, from the engine to the API.

#ifndef SERVER_CONVERT_MMU_CONVERT_H_
#define SERVER_CONVERT_MMU_CONVERT_H_

#include "engine/vm/vm_types.h"
#include "tdp/v1/mmu_service.pb.h"
#include "tdp/v1/stats_service.pb.h"
#include "tdp/v1/types.pb.h"

namespace tdp::server {

void ToProto(const SpteView& view, v1::Spte* out);
void ToProto(const AgeResult& result, v1::AgeRangeResponse* out);
void ToProto(const AuditResult& result, v1::AuditRangeResponse* out);
void ToProto(const VmStats& stats, v1::VmStats* out);

}  // namespace tdp::server

#endif  // SERVER_CONVERT_MMU_CONVERT_H_
