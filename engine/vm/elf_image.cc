#include "engine/vm/elf_image.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace tdp {
namespace {

constexpr char kField[] = "guest.elf.path";
// Where physical addresses end: 4-level guest page tables, lower half.
constexpr uint64_t kAddressEnd = uint64_t{1} << 47;

class ElfParser {
 public:
  ElfParser(absl::string_view file, absl::string_view path)
      : file_(file), path_(path) {}

  absl::StatusOr<ElfImage> Parse();

 private:
  absl::Status Invalid(absl::string_view what) const {
    return FieldError(
        kField, path_,
        absl::StrCat("a static ELF64 executable for x86-64, but ", what));
  }
  absl::Status CheckHeader() const;
  absl::Status ReadSegment(int index, const Elf64_Phdr& header);
  absl::Status CheckOverlap();
  absl::Status CheckEntry() const;

  const absl::string_view file_;
  const absl::string_view path_;
  Elf64_Ehdr header_ = {};
  ElfImage image_;
  bool entry_is_executable_ = false;
};

absl::StatusOr<ElfImage> ElfParser::Parse() {
  if (file_.size() < sizeof header_) {
    return Invalid("the file is shorter than an ELF header");
  }
  memcpy(&header_, file_.data(), sizeof header_);
  absl::Status status = CheckHeader();
  if (!status.ok()) return status;
  image_.entry = header_.e_entry;
  for (int i = 0; i < header_.e_phnum; ++i) {
    Elf64_Phdr header;
    memcpy(&header, file_.data() + header_.e_phoff + i * sizeof header,
           sizeof header);
    status = ReadSegment(i, header);
    if (!status.ok()) return status;
  }
  status = CheckOverlap();
  if (!status.ok()) return status;
  status = CheckEntry();
  if (!status.ok()) return status;
  return std::move(image_);
}

absl::Status ElfParser::CheckHeader() const {
  const unsigned char* ident = header_.e_ident;
  if (memcmp(ident, ELFMAG, SELFMAG) != 0) {
    return Invalid("the file does not begin with \\x7fELF");
  }
  if (ident[EI_CLASS] != ELFCLASS64) {
    return Invalid(ident[EI_CLASS] == ELFCLASS32 ? "it is a 32-bit file"
                                                 : "its class is unknown");
  }
  if (ident[EI_DATA] != ELFDATA2LSB) return Invalid("it is not little-endian");
  if (ident[EI_VERSION] != EV_CURRENT || header_.e_version != EV_CURRENT) {
    return Invalid("its ELF version is not 1");
  }
  if (header_.e_machine != EM_X86_64) {
    return Invalid(
        absl::StrCat("its machine is number ", header_.e_machine, ", not 62"));
  }
  if (header_.e_type != ET_EXEC) {
    return Invalid(header_.e_type == ET_DYN
                       ? "it is position independent; link it with -static "
                         "-no-pie"
                       : absl::StrCat("its type is ", header_.e_type,
                                      ", not an executable's"));
  }
  if (header_.e_phnum == 0) return Invalid("it has no program headers");
  if (header_.e_phnum == PN_XNUM) {
    return Invalid("it has too many program headers");
  }
  if (header_.e_phentsize != sizeof(Elf64_Phdr)) {
    return Invalid(absl::StrCat("its program headers have ",
                                header_.e_phentsize, " bytes, not ",
                                sizeof(Elf64_Phdr)));
  }
  const uint64_t headers_size = uint64_t{header_.e_phnum} * sizeof(Elf64_Phdr);
  if (header_.e_phoff > file_.size() ||
      headers_size > file_.size() - header_.e_phoff) {
    return Invalid("its program headers lie past the end of the file");
  }
  return absl::OkStatus();
}

absl::Status ElfParser::ReadSegment(int index, const Elf64_Phdr& header) {
  if (header.p_type == PT_INTERP || header.p_type == PT_DYNAMIC) {
    return Invalid("it is linked dynamically; link it with -static");
  }
  if (header.p_type != PT_LOAD) return absl::OkStatus();
  const std::string name = absl::StrCat("segment ", index);
  if (header.p_filesz > header.p_memsz) {
    return Invalid(absl::StrCat(name, " has more bytes in the file (",
                                header.p_filesz, ") than in memory (",
                                header.p_memsz, ")"));
  }
  if (header.p_offset > file_.size() ||
      header.p_filesz > file_.size() - header.p_offset) {
    return Invalid(absl::StrCat(name, " lies past the end of the file"));
  }
  const uint64_t address =
      header.p_paddr != 0 ? header.p_paddr : header.p_vaddr;
  if (address >= kAddressEnd || header.p_memsz > kAddressEnd - address) {
    return Invalid(
        absl::StrCat(name, " at ", Hex(address), " of ", Hex(header.p_memsz),
                     " bytes ends past the address space, ", Hex(kAddressEnd)));
  }
  if (header.p_memsz == 0) return absl::OkStatus();
  if ((header.p_flags & PF_X) != 0 && header_.e_entry >= address &&
      header_.e_entry - address < header.p_memsz) {
    entry_is_executable_ = true;
  }
  image_.segments.push_back({Gpa(address),
                             file_.substr(header.p_offset, header.p_filesz),
                             header.p_memsz});
  return absl::OkStatus();
}

absl::Status ElfParser::CheckOverlap() {
  std::vector<ElfSegment>& segments = image_.segments;
  std::sort(
      segments.begin(), segments.end(),
      [](const ElfSegment& a, const ElfSegment& b) { return a.gpa < b.gpa; });
  for (size_t i = 1; i < segments.size(); ++i) {
    if (segments[i].gpa - segments[i - 1].gpa < segments[i - 1].memory_bytes) {
      return Invalid(absl::StrCat("two of its segments overlap at ",
                                  Hex(segments[i].gpa.value())));
    }
  }
  return absl::OkStatus();
}

absl::Status ElfParser::CheckEntry() const {
  if (image_.segments.empty()) {
    return Invalid("it has no segment to load");
  }
  if (!entry_is_executable_) {
    return Invalid(absl::StrCat("its entry ", Hex(header_.e_entry),
                                " lies in no executable segment"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ElfImage> ParseElfImage(absl::string_view file,
                                       absl::string_view path) {
  return ElfParser(file, path).Parse();
}

}  // namespace tdp
