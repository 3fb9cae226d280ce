// A table of text whose columns line up.
//
// Rows may be printed in several flushes, so that a long stream need not be
// held in memory: the header comes with the first, and columns grow but never
// shrink.
//
// Thread safety: one thread at a time.

#ifndef CLIENT_LIB_TABLE_H_
#define CLIENT_LIB_TABLE_H_

#include <cstddef>
#include <ostream>
#include <string>
#include <vector>

namespace tdp::client {

enum class Align { kLeft, kRight };

struct Column {
  std::string title;
  Align align = Align::kLeft;
  size_t min_width = 0;
};

class Table {
 public:
  explicit Table(std::vector<Column> columns);

  // REQUIRES: one cell for each column.
  void AddRow(std::vector<std::string> cells);
  // Prints and forgets the rows; the header too, the first time.
  void Flush(std::ostream& out);

  size_t pending_row_count() const { return rows_.size(); }
  // Of a line, as far as rows are known.
  size_t Width() const;

 private:
  void PrintRow(const std::vector<std::string>& cells, std::ostream& out);

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
  bool header_printed_ = false;
};

}  // namespace tdp::client

#endif  // CLIENT_LIB_TABLE_H_
