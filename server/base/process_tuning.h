// What the process sets once about its libraries, so that a call of some tens
// of microseconds does not pay for what it does not need.
//
// Thread safety: before the process has a second thread.

#ifndef SERVER_BASE_PROCESS_TUNING_H_
#define SERVER_BASE_PROCESS_TUNING_H_

namespace tdp::server {

// Returns whether all of it took effect.
bool TuneProcess();

}  // namespace tdp::server

#endif  // SERVER_BASE_PROCESS_TUNING_H_
