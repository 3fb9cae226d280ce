// tdpctl mem read|write.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "client/lib/address.h"
#include "client/lib/hex_dump.h"
#include "client/lib/progress_bar.h"
#include "client/tdpctl/commands.h"

namespace tdp::client {
namespace {

struct ReadArgs {
  v1::ReadGuestMemoryRequest request;
  bool raw = false;
  std::string output_path;
};

struct WriteArgs {
  std::string vm;
  uint64_t gpa = 0;
  std::optional<std::string> bytes;
  std::string path;
};

absl::StatusOr<int64_t> ParsePositiveSize(absl::string_view text) {
  const absl::StatusOr<int64_t> size = ParseSize(text);
  if (size.ok() && *size == 0) {
    return absl::InvalidArgumentError("at least one byte must be read");
  }
  return size;
}

// Whether a bar tells how far a read is. It would get in the way of what is
// printed on a terminal meanwhile, which tells that as well.
enum class Progress { kNone, kBar };

// Streams the bytes into `take`, and checks that none is missing.
absl::Status Read(Session& session, const v1::ReadGuestMemoryRequest& request,
                  Progress progress,
                  absl::FunctionRef<void(absl::string_view)> take) {
  ProgressBar bar(session.progress_place(), "read",
                  static_cast<uint64_t>(request.size_bytes()));
  uint64_t next = request.gpa();
  const absl::Status status = session.client().ReadGuestMemory(
      request, [&](const v1::ReadGuestMemoryResponse& response) {
        if (response.gpa() != next) return false;
        take(response.data());
        next += response.data().size();
        if (progress == Progress::kBar) bar.Update(next - request.gpa());
        return true;
      });
  if (!status.ok()) return status;
  if (next - request.gpa() != static_cast<uint64_t>(request.size_bytes())) {
    return absl::DataLossError(absl::StrCat(
        "the stream stopped at ", FormatHex(next), ", before the end"));
  }
  return absl::OkStatus();
}

absl::Status ReadRaw(Session& session,
                     const v1::ReadGuestMemoryRequest& request,
                     Progress progress, std::ostream& out) {
  return Read(session, request, progress, [&](absl::string_view bytes) {
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  });
}

absl::Status ReadToFile(Session& session, const ReadArgs& args) {
  std::ofstream file(args.output_path, std::ios::binary | std::ios::trunc);
  if (!file) {
    session.UsageError(absl::StrCat("cannot write ", args.output_path));
    return absl::OkStatus();
  }
  const absl::Status status =
      ReadRaw(session, args.request, Progress::kBar, file);
  file.close();
  if (status.ok() && !file) {
    session.Fail(absl::StrCat("could not write all of ", args.output_path));
  }
  return status;
}

absl::Status RunRead(Session& session, const ReadArgs& args) {
  if (!args.output_path.empty()) return ReadToFile(session, args);
  if (args.raw) {
    return ReadRaw(
        session, args.request,
        session.out_terminal().exists() ? Progress::kNone : Progress::kBar,
        session.out());
  }
  if (session.json()) {
    return session.client().ReadGuestMemory(
        args.request, [&](const v1::ReadGuestMemoryResponse& response) {
          session.PrintJson(response);
          return true;
        });
  }
  HexDump dump(args.request.gpa(), session.out());
  const absl::Status status =
      Read(session, args.request, Progress::kNone,
           [&](absl::string_view bytes) { dump.Append(bytes); });
  if (status.ok()) dump.Finish();
  return status;
}

// `size` is that of `bytes`, where it is known.
absl::StatusOr<v1::WriteGuestMemoryResponse> Write(Session& session,
                                                   const WriteArgs& args,
                                                   std::optional<uint64_t> size,
                                                   std::istream& bytes) {
  ProgressBar bar(session.progress_place(), "write", size);
  return session.client().WriteGuestMemory(
      args.vm, args.gpa, bytes,
      [&](uint64_t done_bytes) { bar.Update(done_bytes); });
}

absl::Status WriteFrom(Session& session, const WriteArgs& args,
                       std::optional<uint64_t> size, std::istream& bytes) {
  const auto response = Write(session, args, size, bytes);
  if (!response.ok()) return response.status();
  if (session.json()) {
    session.PrintJson(*response);
  } else {
    session.out() << "wrote " << response->written_bytes() << " bytes at "
                  << FormatHex(args.gpa) << "\n";
  }
  return absl::OkStatus();
}

// Nothing for a pipe or a device.
std::optional<uint64_t> SizeOf(const std::string& path) {
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(path, error);
  return error ? std::nullopt : std::optional<uint64_t>(size);
}

absl::Status RunWrite(Session& session, const WriteArgs& args) {
  if (args.bytes) {
    std::istringstream bytes(*args.bytes);
    return WriteFrom(session, args, args.bytes->size(), bytes);
  }
  if (args.path.empty())
    return WriteFrom(session, args, std::nullopt, session.in());
  std::ifstream file(args.path, std::ios::binary);
  if (!file) {
    session.UsageError(absl::StrCat("cannot read ", args.path));
    return absl::OkStatus();
  }
  return WriteFrom(session, args, SizeOf(args.path), file);
}

void AddRead(CommandSet& commands, CommandSet::Group group) {
  auto command = commands.Add(
      group, "read", "Show or save the bytes of guest memory", RunRead);
  Parameters& parameters = command.parameters;
  ReadArgs* args = command.args.get();
  v1::ReadGuestMemoryRequest* request = &args->request;
  parameters.AddVm([=](const std::string& vm) { request->set_vm(vm); });
  parameters.Add({.name = "ADDRESS",
                  .description = "First address",
                  .presence = Presence::kRequired},
                 ParseNumber, [=](uint64_t gpa) { request->set_gpa(gpa); });
  parameters.Add({.name = "SIZE",
                  .description = "Bytes to read",
                  .presence = Presence::kRequired},
                 ParsePositiveSize,
                 [=](int64_t bytes) { request->set_size_bytes(bytes); });
  parameters.AddFlag(
      {.name = "--raw",
       .description = "Print the bytes as they are, not a hex dump"},
      [=] { args->raw = true; });
  parameters.AddText(
      {.name = "-o,--output", .description = "Save the bytes to this file"},
      [=](const std::string& path) { args->output_path = path; });
}

void AddWrite(CommandSet& commands, CommandSet::Group group) {
  auto command = commands.Add(
      group, "write", "Write bytes into guest memory, from stdin unless given",
      RunWrite);
  Parameters& parameters = command.parameters;
  WriteArgs* args = command.args.get();
  parameters.AddVm([=](const std::string& vm) { args->vm = vm; });
  parameters.Add({.name = "ADDRESS",
                  .description = "First address",
                  .presence = Presence::kRequired},
                 ParseNumber, [=](uint64_t gpa) { args->gpa = gpa; });
  Parameters source = parameters.AddAlternatives("Bytes", Presence::kOptional);
  source.Add(
      {.name = "--hex", .description = "The bytes in hexadecimal digits"},
      ParseHexBytes, [=](const std::string& bytes) { args->bytes = bytes; });
  source.AddText({.name = "--string", .description = "The bytes as text"},
                 [=](const std::string& text) { args->bytes = text; });
  source.AddText({.name = "--file", .description = "A file with the bytes"},
                 [=](const std::string& path) { args->path = path; });
}

}  // namespace

void AddMemoryCommands(CommandSet& commands) {
  const CommandSet::Group group =
      commands.AddGroup("mem", "Read and write the bytes of guest memory");
  AddRead(commands, group);
  AddWrite(commands, group);
}

}  // namespace tdp::client
