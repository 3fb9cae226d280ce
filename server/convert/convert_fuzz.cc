// What is parsed out of the fields of requests: names, page tokens, masks,
// bitmaps, and the text that errors show. An input is a byte that says what,
// and the text; for a bitmap eleven bytes of numbers, and its bits.

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/check.h"
#include "engine/base/errors.h"
#include "engine/base/types.h"
#include "server/convert/bitmap_convert.h"
#include "server/convert/image_path.h"
#include "server/convert/paging.h"
#include "server/convert/request_cache.h"
#include "server/convert/resource_names.h"
#include "server/convert/status.h"
#include "server/convert/text.h"
#include "server/convert/update_mask.h"
#include "tdp/v1/memslot_service.pb.h"

namespace tdp::server {
namespace {

// Whether protobuf's parser would take it as a string: it refuses what is not
// UTF-8 before a handler sees it.
bool IsString(absl::string_view text) {
  while (!text.empty()) {
    const auto first = static_cast<unsigned char>(text[0]);
    const size_t size = first < 0x80    ? 1
                        : first < 0xc2  ? 0
                        : first < 0xe0  ? 2
                        : first < 0xf0  ? 3
                        : first <= 0xf4 ? 4
                                        : 0;
    if (size == 0 || size > text.size()) return false;
    uint32_t code = first & (size == 1 ? 0x7f : 0x7f >> size);
    for (size_t i = 1; i < size; ++i) {
      if ((text[i] & 0xc0) != 0x80) return false;
      code = code << 6 | (text[i] & 0x3f);
    }
    if ((size == 3 && code < 0x800) || (size == 4 && code < 0x10000) ||
        code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
      return false;
    }
    text.remove_prefix(size);
  }
  return true;
}

void CheckError(const absl::Status& status) {
  TDP_CHECK(DetailOf(status).has_value(), "an error has a detail");
  TDP_CHECK(DetailOf(status)->reason == ErrorReason::kFieldInvalid,
            "a bad field is the caller's fault");
  v1::RpcStatus sent;
  TDP_CHECK(sent.ParseFromString(ToRpcStatus(status).SerializeAsString()),
            "an error can be sent");
}

void CheckNames(absl::string_view name) {
  if (const auto vm = ParseVmName("name", name); vm.ok()) {
    TDP_CHECK(MakeVmName(*vm) == name, "a VM has one name");
    TDP_CHECK(CheckId("id", *vm).ok(), "a name has good ids");
  } else {
    CheckError(vm.status());
  }
  if (const auto slot = ParseMemslotName("name", name); slot.ok()) {
    TDP_CHECK(MakeMemslotName(slot->vm, slot->memslot) == name,
              "a memslot has one name");
  } else {
    CheckError(slot.status());
  }
  if (const auto consumer = ParseDirtyConsumerName("name", name);
      consumer.ok()) {
    TDP_CHECK(MakeDirtyConsumerName(consumer->vm, consumer->consumer) == name,
              "a consumer has one name");
  } else {
    CheckError(consumer.status());
  }
  if (const auto vcpu = ParseVcpuName("name", name, Wildcard::kRefused);
      vcpu.ok()) {
    TDP_CHECK(MakeVcpuName(vcpu->vm, vcpu->index) == name,
              "a vCPU has one name");
    TDP_CHECK(vcpu->index >= 0, "a vCPU has an index");
  } else {
    CheckError(vcpu.status());
  }
  if (const auto id = CheckId("id", name); id.ok()) {
    TDP_CHECK(ParseVmName("name", MakeVmName(name)).ok(), "ids make names");
  } else {
    CheckError(id);
  }
}

void CheckTokens(absl::string_view text) {
  const auto key = ParsePageToken("vms", text);
  if (!key.ok()) {
    CheckError(key.status());
  } else if (key->has_value()) {
    TDP_CHECK(ParsePageToken("vms", MakePageToken("vms", **key)) == key,
              "a token keeps its key");
  }
  if (const auto number = ParseNumericPageToken("vms", text); !number.ok()) {
    CheckError(number.status());
  }
  if (text.empty()) return;
  const auto made = ParsePageToken("vms", MakePageToken("vms", text));
  TDP_CHECK(made.ok() && *made == std::string(text), "every key has a token");
  TDP_CHECK(!ParsePageToken("vms/a/vcpus", MakePageToken("vms", text)).ok(),
            "a token is for one list");
}

void CheckMasks(absl::string_view text) {
  google::protobuf::FieldMask mask;
  mask.add_paths(std::string(text));
  const auto fields =
      ParseUpdateMask(mask, *v1::Memslot::descriptor(), {"read_only"});
  if (!fields.ok()) {
    CheckError(fields.status());
  } else {
    TDP_CHECK(fields->size() == 1 && fields->contains("read_only"),
              "only mutable fields are updated");
  }
  if (const auto id = RequestCache::CheckId(text); !id.ok()) CheckError(id);
  if (const auto path = CheckImagePath("path", text); !path.ok()) {
    CheckError(path);
  }
}

void CheckTexts(absl::string_view text) {
  for (const size_t size : {3, 4, 7, 64}) {
    const std::string clipped = Clipped(text, size);
    TDP_CHECK(clipped.size() <= size, "a clipped text is short");
    TDP_CHECK(text.size() > size || clipped == text,
              "a short text is not clipped");
  }
  for (const char c : Shown(text)) {
    TDP_CHECK(static_cast<unsigned char>(c) >= ' ' && c != '\x7f',
              "what is shown has no control characters");
  }
}

void CheckBitmaps(absl::string_view bytes) {
  v1::Bitmap bitmap;
  uint64_t first = 0;
  uint16_t count = 0;
  if (bytes.size() < 1 + sizeof(first) + sizeof(count)) return;
  const int shift = bytes[0] & 63;
  bytes.remove_prefix(1);
  std::memcpy(&first, bytes.data(), sizeof(first));
  bytes.remove_prefix(sizeof(first));
  std::memcpy(&count, bytes.data(), sizeof(count));
  bytes.remove_prefix(sizeof(count));
  bitmap.set_first_gfn(first >> shift << shift);
  bitmap.set_frame_count(int64_t{count} - 4);
  bitmap.set_bits(std::string(bytes));
  const absl::StatusOr<FrameBitmap> known = BitmapFrom("dirty", bitmap);
  if (!known.ok()) return CheckError(known.status());
  __extension__ using Wide = unsigned __int128;
  TDP_CHECK(known->frame_count >= 0, "frames are counted");
  TDP_CHECK(
      Wide{known->first_gfn.value()} + static_cast<Wide>(known->frame_count) <=
          kGfnEnd.value(),
      "the frames end in the space");
  TDP_CHECK(known->bits.size() == bytes.size(), "no bits are lost");
  const auto frames = static_cast<size_t>(known->frame_count);
  for (size_t bit = 0; bit < known->bits.size() * 8; ++bit) {
    const bool was = bytes[bit / 8] >> bit % 8 & 1;
    const bool is = known->bits[bit / 8] >> bit % 8 & 1;
    TDP_CHECK(is == (was && bit < frames), "bits are those of frames");
  }
}

}  // namespace
}  // namespace tdp::server

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tdp::server;
  if (size == 0) return 0;
  const absl::string_view text(reinterpret_cast<const char*>(data + 1),
                               size - 1);
  const int kind = data[0] % 5;
  if (kind < 4 && !IsString(text)) return 0;
  switch (kind) {
    case 0:
      CheckNames(text);
      break;
    case 1:
      CheckTokens(text);
      break;
    case 2:
      CheckMasks(text);
      break;
    case 3:
      CheckTexts(text);
      break;
    default:
      CheckBitmaps(text);
      break;
  }
  return 0;
}
