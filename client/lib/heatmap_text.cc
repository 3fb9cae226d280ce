#include "client/lib/heatmap_text.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/lib/address.h"
#include "client/lib/json.h"
#include "client/lib/words.h"
#include "google/protobuf/struct.pb.h"

namespace tdp::client {
namespace {

using google::protobuf::Struct;

struct StateLook {
  HeatState state;
  char whole;
  char part;
  const char* word;
  const char* color;  // an SGR code
};

// The most telling first.
constexpr StateLook kLooks[] = {
    {HeatState::kDirty, 'D', 'd', "dirty", "\x1b[31m"},
    {HeatState::kYoung, 'Y', 'y', "young", "\x1b[33m"},
    {HeatState::kHuge, 'H', 'h', "huge", "\x1b[36m"},
    {HeatState::kMapped, 'M', 'm', "mapped", "\x1b[32m"},
    {HeatState::kUnmapped, '.', '.', "unmapped", "\x1b[2m"},
    {HeatState::kUnknown, '?', '?', "not reached", "\x1b[35m"},
};
constexpr char kNoColor[] = "\x1b[0m";

const StateLook& LookOf(HeatState state) {
  return *std::find_if(
      std::begin(kLooks), std::end(kLooks) - 1,
      [state](const StateLook& look) { return look.state == state; });
}

// Text whose colour changes no more often than it must.
class ColoredText {
 public:
  explicit ColoredText(bool colors) : colors_(colors) {}

  void Append(const char* color, absl::string_view text) {
    if (colors_ && color != color_) absl::StrAppend(&text_, color);
    color_ = color;
    absl::StrAppend(&text_, text);
  }
  std::string Finish() {
    if (colors_ && color_ != nullptr) absl::StrAppend(&text_, kNoColor);
    return std::move(text_);
  }

 private:
  const bool colors_;
  const char* color_ = nullptr;
  std::string text_;
};

std::string FrameText(uint64_t gfn) {
  return absl::StrCat("gfn:", FormatHex(gfn));
}

std::string Total(const Heatmap& heatmap, const char* word,
                  int64_t HeatCell::* count) {
  int64_t frames = 0;
  for (const HeatCell& cell : heatmap.cells()) frames += cell.*count;
  return absl::StrCat(
      word, " ", RoundSizeText(static_cast<uint64_t>(frames) << kFrameShift));
}

std::string DirtySourceText(const HeatmapLabels& labels) {
  if (labels.consumer.empty()) return "by the Dirty bits";
  const size_t id = labels.consumer.rfind('/') + 1;  // 0 if there is none
  return absl::StrCat("by the log of ", labels.consumer.substr(id));
}

void SetText(Struct& fields, const char* key, absl::string_view value) {
  (*fields.mutable_fields())[key].set_string_value(std::string(value));
}

template <typename Number>
void SetNumber(Struct& fields, const char* key, Number value) {
  SetText(fields, key, absl::StrCat(value));
}

}  // namespace

std::string HeatmapText(const Heatmap& heatmap, const HeatmapLabels& labels,
                        const HeatmapStyle& style) {
  const FrameRange range = heatmap.range();
  std::string text = absl::StrCat(
      labels.memslot, "  ", FormatFrameRange(range),
      "  cell: ", FramesText(static_cast<int64_t>(heatmap.frames_per_cell())),
      "\n", Total(heatmap, "mapped", &HeatCell::mapped_count), " of ",
      FormatSize((range.end_gfn - range.start_gfn) << kFrameShift), "  ",
      Total(heatmap, "huge", &HeatCell::huge_count), "  ",
      Total(heatmap, "young", &HeatCell::young_count), "  ",
      Total(heatmap, "dirty", &HeatCell::dirty_count), " ",
      DirtySourceText(labels), "\n");
  const std::vector<HeatCell>& cells = heatmap.cells();
  const size_t width = static_cast<size_t>(std::max(1, style.width));
  const size_t last_row = (cells.size() - 1) / width * width;
  const size_t label_width = FrameText(cells[last_row].frames.start_gfn).size();
  for (size_t row = 0; row < cells.size(); row += width) {
    const std::string label = FrameText(cells[row].frames.start_gfn);
    absl::StrAppend(&text, label, std::string(label_width - label.size(), ' '),
                    "  ");
    ColoredText line(style.colors);
    const size_t end = std::min(row + width, cells.size());
    for (size_t i = row; i < end; ++i) {
      const StateLook& look = LookOf(heatmap.StateOf(cells[i]));
      const char& character =
          heatmap.IsWhole(cells[i]) ? look.whole : look.part;
      line.Append(look.color, absl::string_view(&character, 1));
    }
    absl::StrAppend(&text, line.Finish(), "\n");
  }
  return text;
}

std::string HeatmapLegend(bool colors) {
  std::string text;
  for (const StateLook& look : kLooks) {
    ColoredText character(colors);
    character.Append(look.color, absl::string_view(&look.whole, 1));
    absl::StrAppend(&text, character.Finish(), " ", look.word, "  ");
  }
  return absl::StrCat(text, "(small: partly)\n");
}

std::string HeatmapJson(const Heatmap& heatmap, const HeatmapLabels& labels) {
  Struct document;
  SetText(document, "memslot", labels.memslot);
  SetNumber(document, "startGfn", heatmap.range().start_gfn);
  SetNumber(document, "endGfn", heatmap.range().end_gfn);
  SetNumber(document, "reachedGfn", heatmap.reached_gfn());
  SetNumber(document, "framesPerCell", heatmap.frames_per_cell());
  SetText(document, "dirtySource",
          labels.consumer.empty() ? "DIRTY_BITS" : labels.consumer);
  auto& list = *(*document.mutable_fields())["cells"].mutable_list_value();
  for (const HeatCell& cell : heatmap.cells()) {
    if (heatmap.StateOf(cell) == HeatState::kUnknown) continue;
    Struct& fields = *list.add_values()->mutable_struct_value();
    SetNumber(fields, "startGfn", cell.frames.start_gfn);
    SetNumber(fields, "frameCount", cell.frame_count());
    SetNumber(fields, "mappedFrameCount", cell.mapped_count);
    SetNumber(fields, "hugeFrameCount", cell.huge_count);
    SetNumber(fields, "youngFrameCount", cell.young_count);
    SetNumber(fields, "dirtyFrameCount", cell.dirty_count);
  }
  return ToJson(document);
}

}  // namespace tdp::client
