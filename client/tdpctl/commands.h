// Every command of tdpctl; each function declares the ones of its file.

#ifndef CLIENT_TDPCTL_COMMANDS_H_
#define CLIENT_TDPCTL_COMMANDS_H_

#include "client/tdpctl/command_set.h"

namespace tdp::client {

void AddInfoCommand(CommandSet& commands);
void AddVmCommands(CommandSet& commands);
void AddSlotCommands(CommandSet& commands);
void AddVcpuCommands(CommandSet& commands);
void AddGuestCommands(CommandSet& commands);
void AddMapCommands(CommandSet& commands);
void AddProtectCommands(CommandSet& commands);
void AddHugePageCommands(CommandSet& commands);
void AddAgeCommand(CommandSet& commands);
void AddBatchCommand(CommandSet& commands);
void AddDirtyCommands(CommandSet& commands);
void AddDiscardCommand(CommandSet& commands);
void AddWalkCommand(CommandSet& commands);
void AddHeatmapCommand(CommandSet& commands);
void AddAuditCommand(CommandSet& commands);
void AddStatsCommand(CommandSet& commands);
void AddEventsCommand(CommandSet& commands);
void AddWaitingCommands(CommandSet& commands);
void AddMemoryCommands(CommandSet& commands);
void AddWorkingSetCommands(CommandSet& commands);
void AddTopCommand(CommandSet& commands);
void AddHealthCommand(CommandSet& commands);
void AddDoctorCommand(CommandSet& commands);
void AddWebCommand(CommandSet& commands);
void AddShellCommands(CommandSet& commands);

}  // namespace tdp::client

#endif  // CLIENT_TDPCTL_COMMANDS_H_
