// The parameters that every command on a range begins with.

#ifndef CLIENT_TDPCTL_RANGE_PARAMETERS_H_
#define CLIENT_TDPCTL_RANGE_PARAMETERS_H_

#include <string>

#include "client/lib/address.h"
#include "client/tdpctl/parameters.h"

namespace tdp::client {

// Adds "VM RANGE", which go to `request`.
template <typename Request>
void AddVmAndRange(Parameters& parameters, Request* request,
                   const std::string& description) {
  parameters.AddVm([=](const std::string& vm) { request->set_vm(vm); });
  parameters.Add({.name = "RANGE",
                  .description = description,
                  .presence = Presence::kRequired},
                 ParseFrameRange, [=](FrameRange range) {
                   request->mutable_range()->set_start_gfn(range.start_gfn);
                   request->mutable_range()->set_end_gfn(range.end_gfn);
                 });
}

}  // namespace tdp::client

#endif  // CLIENT_TDPCTL_RANGE_PARAMETERS_H_
