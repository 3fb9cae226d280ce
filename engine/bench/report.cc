#include "engine/bench/report.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tdp::bench {
namespace {

std::string Quoted(absl::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    // Nothing that is reported has control characters but these.
    out += c == '\n' || c == '\t' ? ' ' : c;
  }
  return out + "\"";
}

std::string Target(const Result& row) {
  if (row.verdict == Verdict::kInfo && row.target == 0) return "";
  return absl::StrFormat(
      "%s %.4g", row.better == Better::kAtMost ? "<=" : ">=", row.target);
}

}  // namespace

std::string ToJson(const Facts& facts, absl::Span<const Result> results) {
  std::string out = "{\n  \"machine\": {";
  const char* separator = "\n";
  for (const auto& [name, value] : facts) {
    absl::StrAppend(&out, separator, "    ", Quoted(name), ": ", Quoted(value));
    separator = ",\n";
  }
  absl::StrAppend(&out, "\n  },\n  \"rows\": [");
  separator = "\n";
  for (const Result& row : results) {
    absl::StrAppendFormat(
        &out,
        "%s    {\"id\": %s, \"what\": %s, \"unit\": %s, \"median\": %.6g, "
        "\"interval\": [%.6g, %.6g], \"p10\": %.6g, \"p90\": %.6g, "
        "\"target\": %.6g, \"better\": \"%s\", \"verdict\": %s, "
        "\"candidate_ns\": %.6g, \"baseline_ns\": %.6g, \"rounds\": %d, "
        "\"dropped_rounds\": %d, \"rerun\": %s, \"note\": %s}",
        separator, Quoted(row.id), Quoted(row.what), Quoted(row.unit),
        row.median, row.interval.low, row.interval.high, row.p10, row.p90,
        row.target, row.better == Better::kAtMost ? "at most" : "at least",
        Quoted(VerdictName(row.verdict)), row.candidate_ns, row.baseline_ns,
        row.rounds, row.dropped, row.rerun ? "true" : "false",
        Quoted(row.note));
    separator = ",\n";
  }
  return out + "\n  ]\n}\n";
}

std::string ToTable(const Facts& facts, absl::Span<const Result> results) {
  std::string out;
  for (const auto& [name, value] : facts) {
    absl::StrAppendFormat(&out, "%-22s %s\n", name, value);
  }
  absl::StrAppendFormat(&out, "\n%-6s %9s %-5s %-17s %-9s %-12s %9s %9s %7s\n",
                        "row", "median", "", "95 % interval", "target",
                        "verdict", "ns", "base ns", "rounds");
  for (const Result& row : results) {
    const bool ratio = row.candidate_ns != 0;
    absl::StrAppendFormat(
        &out, "%-6s %9.4g %-5s %-17s %-9s %-12s %9s %9s %7s\n", row.id,
        row.median, row.unit,
        ratio
            ? absl::StrFormat("%.4g..%.4g", row.interval.low, row.interval.high)
            : "",
        Target(row), VerdictName(row.verdict),
        ratio ? absl::StrFormat("%.2f", row.candidate_ns) : "",
        ratio ? absl::StrFormat("%.2f", row.baseline_ns) : "",
        ratio ? absl::StrFormat("%d-%d", row.rounds, row.dropped) : "");
    absl::StrAppend(&out, "       ", row.what, row.rerun ? " (run twice)" : "",
                    row.note.empty() ? "" : "; ", row.note, "\n");
  }
  absl::StrAppend(&out,
                  "\nx: ratio of costs (<=) or gain (>=). ns: medians, never "
                  "judged. rounds: kept-dropped.\n");
  return out;
}

}  // namespace tdp::bench
