#include "engine/vm/elf_image.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <random>
#include <string>

#include "engine/base/errors.h"

namespace tdp {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kDataOffset = 0x200;

// A small executable that is right; each test breaks one thing.
struct Parts {
  Elf64_Ehdr header = {};
  Elf64_Phdr segments[3] = {};
  std::string data = std::string("codeDATA");

  Parts() {
    memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_entry = 0x100002;
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 3;
    // The data before the code, and a note between.
    segments[0].p_type = PT_LOAD;
    segments[0].p_flags = PF_R | PF_W;
    segments[0].p_offset = kDataOffset + 4;
    segments[0].p_vaddr = 0x200000;
    segments[0].p_paddr = 0x200000;
    segments[0].p_filesz = 4;
    segments[0].p_memsz = 0x3000;
    segments[1].p_type = PT_NOTE;
    segments[2] = segments[0];
    segments[2].p_flags = PF_R | PF_X;
    segments[2].p_offset = kDataOffset;
    segments[2].p_vaddr = 0x100000;
    segments[2].p_paddr = 0x100000;
    segments[2].p_memsz = 4;
  }

  std::string File() const {
    std::string file(kDataOffset, '\0');
    memcpy(file.data(), &header, sizeof header);
    memcpy(file.data() + sizeof header, segments, sizeof segments);
    return file + data;
  }
};

absl::StatusOr<ElfImage> ParseString(const std::string& file) {
  return ParseElfImage(file, "guest.elf");
}

void ExpectInvalid(const std::string& file, const std::string& text) {
  const absl::Status status = ParseString(file).status();
  ASSERT_FALSE(status.ok()) << text;
  EXPECT_EQ(DetailOf(status)->reason, ErrorReason::kFieldInvalid);
  EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  EXPECT_THAT(std::string(status.message()), HasSubstr("guest.elf"));
}

TEST(ElfImageTest, SegmentsComeByAddressWithTheirBytes) {
  const std::string file = Parts().File();
  const auto image = ParseString(file);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->entry, 0x100002u);
  ASSERT_EQ(image->segments.size(), 2u);
  EXPECT_EQ(image->segments[0].gpa, Gpa(0x100000));
  EXPECT_EQ(image->segments[0].file_bytes, "code");
  EXPECT_EQ(image->segments[0].memory_bytes, 4u);
  EXPECT_EQ(image->segments[1].gpa, Gpa(0x200000));
  EXPECT_EQ(image->segments[1].file_bytes, "DATA");
  EXPECT_EQ(image->segments[1].memory_bytes, 0x3000u);
}

TEST(ElfImageTest, TheVirtualAddressCountsWhereNoPhysicalOneIsGiven) {
  Parts parts;
  parts.segments[2].p_paddr = 0;
  EXPECT_EQ(ParseString(parts.File())->segments[0].gpa, Gpa(0x100000));
  parts.segments[2].p_paddr = 0x100000;
  parts.segments[2].p_vaddr = 0xffffffff80000000;
  EXPECT_EQ(ParseString(parts.File())->segments[0].gpa, Gpa(0x100000));
}

TEST(ElfImageTest, EmptySegmentsAreLeftOut) {
  Parts parts;
  parts.segments[0].p_filesz = 0;
  parts.segments[0].p_memsz = 0;
  EXPECT_EQ(ParseString(parts.File())->segments.size(), 1u);
}

TEST(ElfImageTest, SegmentsMayTouch) {
  Parts parts;
  parts.segments[0].p_paddr = 0x100004;
  EXPECT_TRUE(ParseString(parts.File()).ok());
  parts.segments[0].p_paddr = 0x100003;
  ExpectInvalid(parts.File(), "overlap at 0x100003");
}

TEST(ElfImageTest, ASegmentMayEndWhereAddressesEnd) {
  Parts parts;
  parts.segments[0].p_paddr = (uint64_t{1} << 47) - 0x3000;
  EXPECT_TRUE(ParseString(parts.File()).ok());
  parts.segments[0].p_paddr += 1;
  ExpectInvalid(parts.File(), "past the address space");
}

TEST(ElfImageTest, EachMalformedFileIsNamed) {
  const struct {
    std::function<void(Parts&)> damage;
    std::string text;
  } cases[] = {
      {[](Parts& p) { p.header.e_ident[0] = 'x'; }, "does not begin"},
      {[](Parts& p) { p.header.e_ident[EI_CLASS] = ELFCLASS32; }, "32-bit"},
      {[](Parts& p) { p.header.e_ident[EI_CLASS] = 9; }, "class is unknown"},
      {[](Parts& p) { p.header.e_ident[EI_DATA] = ELFDATA2MSB; },
       "little-endian"},
      {[](Parts& p) { p.header.e_ident[EI_VERSION] = 0; }, "version"},
      {[](Parts& p) { p.header.e_version = 2; }, "version"},
      {[](Parts& p) { p.header.e_machine = EM_AARCH64; }, "machine is number"},
      {[](Parts& p) { p.header.e_type = ET_DYN; }, "-no-pie"},
      {[](Parts& p) { p.header.e_type = ET_REL; }, "type is 1"},
      {[](Parts& p) { p.header.e_phnum = 0; }, "no program headers"},
      {[](Parts& p) { p.header.e_phnum = PN_XNUM; }, "too many"},
      {[](Parts& p) { p.header.e_phnum = 100; }, "headers lie past the end"},
      {[](Parts& p) { p.header.e_phentsize = 32; }, "have 32 bytes"},
      {[](Parts& p) { p.header.e_phoff = ~uint64_t{0}; },
       "headers lie past the end"},
      {[](Parts& p) { p.segments[1].p_type = PT_INTERP; }, "dynamically"},
      {[](Parts& p) { p.segments[1].p_type = PT_DYNAMIC; }, "dynamically"},
      {[](Parts& p) { p.segments[0].p_filesz = 0x4000; },
       "more bytes in the file"},
      {[](Parts& p) { p.segments[0].p_filesz = 5; }, "segment 0 lies past"},
      {[](Parts& p) { p.segments[0].p_offset = ~uint64_t{0}; },
       "segment 0 lies past"},
      {[](Parts& p) { p.segments[0].p_memsz = ~uint64_t{0}; },
       "past the address space"},
      {[](Parts& p) { p.segments[0].p_paddr = ~uint64_t{0}; },
       "past the address space"},
      {[](Parts& p) { p.segments[0].p_paddr = 0x100000; }, "overlap"},
      {[](Parts& p) { p.header.e_entry = 0x100004; }, "no executable segment"},
      {[](Parts& p) { p.header.e_entry = 0x200000; }, "no executable segment"},
      {[](Parts& p) {
         p.segments[0].p_type = PT_NOTE;
         p.segments[2].p_type = PT_NOTE;
       },
       "no segment to load"},
  };
  for (const auto& [damage, text] : cases) {
    Parts parts;
    damage(parts);
    ExpectInvalid(parts.File(), text);
  }
}

TEST(ElfImageTest, EveryTruncationIsRefused) {
  const std::string file = Parts().File();
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_FALSE(ParseString(file.substr(0, size)).ok()) << size;
  }
}

// What the parser accepts lies within the file and the address space.
void CheckImage(const std::string& file) {
  const auto image = ParseString(file);
  if (!image.ok()) {
    EXPECT_EQ(DetailOf(image.status())->reason, ErrorReason::kFieldInvalid);
    return;
  }
  ASSERT_FALSE(image->segments.empty());
  uint64_t end = 0;
  for (const ElfSegment& segment : image->segments) {
    EXPECT_GE(segment.gpa.value(), end);
    end = segment.gpa.value() + segment.memory_bytes;
    EXPECT_GT(segment.memory_bytes, 0u);
    EXPECT_LE(end, uint64_t{1} << 47);
    EXPECT_LE(segment.file_bytes.size(), segment.memory_bytes);
    EXPECT_GE(segment.file_bytes.data(), file.data());
    EXPECT_LE(segment.file_bytes.data() + segment.file_bytes.size(),
              file.data() + file.size());
  }
}

TEST(ElfImageTest, EverySingleByteChangeIsHandled) {
  const std::string good = Parts().File();
  const size_t headers = sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr);
  for (size_t at = 0; at < headers; ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string file = good;
      file[at] = static_cast<char>(value);
      CheckImage(file);
    }
  }
}

TEST(ElfImageTest, ManyByteChangesAreHandled) {
  std::mt19937 random(1);
  const std::string good = Parts().File();
  for (int round = 0; round < 20000; ++round) {
    std::string file = good.substr(
        0, random() % 4 == 0 ? random() % (good.size() + 1) : good.size());
    for (int flips = random() % 8; flips >= 0 && !file.empty(); --flips) {
      const size_t headers = sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr);
      file[random() % std::min(file.size(), headers)] ^=
          static_cast<char>(1 << random() % 8);
    }
    CheckImage(file);
  }
}

}  // namespace
}  // namespace tdp
