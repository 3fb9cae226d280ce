// tdpctl web.

#include <string>

#include "client/lib/web_link.h"
#include "client/tdpctl/commands.h"
#include "google/protobuf/struct.pb.h"

namespace tdp::client {
namespace {

struct WebArgs {
  std::string http = "127.0.0.1:9464";
  std::string token_file = "/run/tdpd/web_token";
};

absl::Status RunWeb(Session& session, const WebArgs& args) {
  const absl::StatusOr<std::string> token = ReadWebToken(args.token_file);
  if (!token.ok()) return token.status();
  const std::string link = WebLink(args.http, *token);
  if (session.json()) {
    google::protobuf::Struct line;
    (*line.mutable_fields())["url"].set_string_value(link);
    session.PrintJson(line);
  } else {
    session.out() << link << "\n";
  }
  return absl::OkStatus();
}

}  // namespace

void AddWebCommand(CommandSet& commands) {
  auto [parameters, args] = commands.Add(
      commands.root(), "web",
      "Print the link to the daemon's web page; who has it sees all VMs",
      RunWeb);
  parameters.Add({.name = "--http",
                  .description = "The daemon's --http, HOST:PORT",
                  .shown_default = args->http},
                 ParseHttpAddress,
                 [args = args](const std::string& http) { args->http = http; });
  parameters.AddText(
      {.name = "--token-file",
       .description = "The daemon's --web_token_file",
       .shown_default = args->token_file},
      [args = args](const std::string& path) { args->token_file = path; });
}

}  // namespace tdp::client
