// TDP_TRACE: a static trace point of the provider "tdp": one no-operation
// instruction until a tracer attaches, with its arguments where the code has
// them anyway. All of them are listed in engine/doc/tracing.md.
//
//   bpftrace -e 'usdt:PATH_OF_tdpd:tdp:fault { printf("%x %d\n", arg0, arg2);
//   }'

#ifndef ENGINE_BASE_TRACE_H_
#define ENGINE_BASE_TRACE_H_

#define SDT_USE_VARIADIC
#include <sys/sdt.h>

#define TDP_TRACE(name, ...) STAP_PROBEV(tdp, name, __VA_ARGS__)

#endif  // ENGINE_BASE_TRACE_H_
