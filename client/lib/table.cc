#include "client/lib/table.h"

#include <algorithm>
#include <cassert>
#include <string_view>
#include <utility>

namespace tdp::client {
namespace {

constexpr std::string_view kGap = "  ";  // between two columns

}  // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {
  for (Column& column : columns_) {
    column.min_width = std::max(column.min_width, column.title.size());
  }
}

void Table::AddRow(std::vector<std::string> cells) {
  assert(cells.size() == columns_.size());
  for (size_t i = 0; i < cells.size(); ++i) {
    if (cells[i].empty()) cells[i].push_back('-');
    columns_[i].min_width = std::max(columns_[i].min_width, cells[i].size());
  }
  rows_.push_back(std::move(cells));
}

void Table::Flush(std::ostream& out) {
  if (!header_printed_) {
    header_printed_ = true;
    std::vector<std::string> titles;
    for (const Column& column : columns_) titles.push_back(column.title);
    PrintRow(titles, out);
  }
  for (const std::vector<std::string>& row : rows_) PrintRow(row, out);
  rows_.clear();
}

size_t Table::Width() const {
  size_t width = 0;
  for (const Column& column : columns_) {
    width += column.min_width + (width > 0 ? kGap.size() : 0);
  }
  return width;
}

void Table::PrintRow(const std::vector<std::string>& cells, std::ostream& out) {
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) {
    if (i > 0) line += kGap;
    const std::string padding(columns_[i].min_width - cells[i].size(), ' ');
    line += columns_[i].align == Align::kRight ? padding + cells[i]
                                               : cells[i] + padding;
  }
  line.erase(line.find_last_not_of(' ') + 1);
  out << line << '\n';
}

}  // namespace tdp::client
