// A heatmap as text and as JSON.
//
// Thread safety: free functions on values.

#ifndef CLIENT_LIB_HEATMAP_TEXT_H_
#define CLIENT_LIB_HEATMAP_TEXT_H_

#include <string>

#include "client/lib/heatmap.h"

namespace tdp::client {

// What the map is of, and whose dirty frames it shows.
struct HeatmapLabels {
  std::string memslot;
  std::string consumer;  // empty with DirtySource::kDirtyBits
};

struct HeatmapStyle {
  int width = 64;  // cells in a row
  bool colors = false;
};

// Rows that HeatmapText() adds to those of cells.
inline constexpr int kHeatmapHeaderRows = 2;

// A line with the range and the scale, a line of totals, then rows of cells,
// each after its first frame. A cell is one character, see HeatmapLegend().
std::string HeatmapText(const Heatmap& heatmap, const HeatmapLabels& labels,
                        const HeatmapStyle& style);

// What the characters mean: one line.
std::string HeatmapLegend(bool colors);

// One line: the range, the scale and each cell whose state is known with its
// counts. Numbers are strings, as in the API's own JSON.
std::string HeatmapJson(const Heatmap& heatmap, const HeatmapLabels& labels);

}  // namespace tdp::client

#endif  // CLIENT_LIB_HEATMAP_TEXT_H_
