// The profiler's two outputs: a table for people, a trace for viewers.

#include <algorithm>
#include <cstdio>

#include <tendril/core/file.h>
#include <tendril/core/json.h>
#include <tendril/core/profile_log.h>

namespace tendril {
namespace {

// printf into a std::string.
template <class... Values>
std::string format(const char* pattern, Values... values) {
  std::string text(static_cast<size_t>(std::snprintf(nullptr, 0, pattern, values...)), '\0');
  std::snprintf(text.data(), text.size() + 1, pattern, values...);
  return text;
}

std::string readable_bytes(int64_t bytes) {
  static constexpr const char* kUnits[] = {"B ", "kB", "MB", "GB", "TB", "PB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1000.0 && unit + 1 < std::size(kUnits); ++unit) value /= 1000.0;
  return format(unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
}

std::string title(const ProfileRow& row) {
  std::string text = row.name;
  if (row.kind == ProfileKind::backward) text += " backward";
  if (!row.shapes.empty()) text.append(" ").append(row.shapes);
  return text;
}

std::string rate(double value) { return value > 0.0 ? format("%.1f", value) : "-"; }

std::string line(const ProfileRow& row, int width) {
  return format("%-*s %8lld %11.3f %11.3f %6.1f %% %9s %9s %13s\n", width, title(row).c_str(),
                static_cast<long long>(row.calls), row.seconds * 1e3, row.self_seconds * 1e3,
                row.share * 100.0, rate(row.gflops_per_second()).c_str(),
                rate(row.gbytes_per_second()).c_str(),
                row.bytes > 0 ? readable_bytes(row.bytes).c_str() : "-");
}

bool is_range(const ProfileRow& row) { return row.kind == ProfileKind::range; }

}  // namespace

const ProfileRow* Profile::find(std::string_view name, ProfileKind kind) const {
  const auto found = std::find_if(rows.begin(), rows.end(), [&](const ProfileRow& row) {
    return row.name == name && row.kind == kind;
  });
  return found == rows.end() ? nullptr : &*found;
}

std::string Profile::table() const {
  size_t longest = 30;
  double operations = 0.0, ranges = 0.0;
  for (const ProfileRow& row : rows) {
    longest = std::max(longest, title(row).size());
    (is_range(row) ? ranges : operations) += row.self_seconds;
  }
  const int width = static_cast<int>(longest);
  std::string text = format("%-*s %8s %11s %11s %8s %9s %9s %13s\n", width, "operation", "calls",
                            "total ms", "self ms", "share", "GFLOP/s", "GB/s", "bytes");
  for (const ProfileRow& row : rows)
    if (!is_range(row)) text += line(row, width);
  if (std::any_of(rows.begin(), rows.end(), is_range)) text += "ranges\n";
  for (const ProfileRow& row : rows)
    if (is_range(row)) text += line(row, width);
  text += format(
      "wall time %.3f ms; in %d thread%s: operations %.3f ms, the rest of the ranges %.3f ms\n",
      wall_seconds * 1e3, threads, threads == 1 ? "" : "s", operations * 1e3, ranges * 1e3);
  if (dropped_events > 0)
    text +=
        format("the trace lacks the last %lld events\n", static_cast<long long>(dropped_events));
  return text;
}

namespace detail {

Profile make_profile(const ProfileRows& rows, bool shapes) {
  ProfileRows merged;
  for (const auto& [key, counts] : rows)
    merged[shapes ? key : ProfileKey{key.kind, key.label, {}}] += counts;
  Profile profile;
  double self_sum = 0.0;
  for (const auto& [key, counts] : merged) {
    const double self = static_cast<double>(counts.self_ns) * 1e-9;
    self_sum += self;
    profile.rows.push_back({key.label, key.kind, key.shapes, counts.calls,
                            static_cast<double>(counts.total_ns) * 1e-9, self, 0.0, counts.flops,
                            counts.bytes});
  }
  for (ProfileRow& row : profile.rows)
    row.share = self_sum > 0.0 ? row.self_seconds / self_sum : 0.0;
  std::stable_sort(
      profile.rows.begin(), profile.rows.end(),
      [](const ProfileRow& a, const ProfileRow& b) { return a.self_seconds > b.self_seconds; });
  return profile;
}

namespace {

// A range's name is the user's: what is not UTF-8 cannot stand in JSON.
std::string quoted(std::string text) {
  if (!is_utf8(text))
    for (char& c : text)
      if (static_cast<unsigned char>(c) >= 0x80) c = '?';
  return json_quote(text);
}

std::string event_text(const TraceEvent& event, int thread, int64_t begin_ns) {
  static constexpr const char* kCategories[] = {"forward", "backward", "range"};
  const ProfileKey& key = *event.key;
  const bool backward = key.kind == ProfileKind::backward;
  std::string text = "{\"name\": ";
  text += quoted(backward ? key.label + " backward" : key.label);
  text += format(", \"cat\": \"%s\", \"ph\": \"X\", \"pid\": 1, \"tid\": %d",
                 kCategories[static_cast<size_t>(key.kind)], thread);
  const int64_t start =
      event.start_ns - begin_ns;  // written as microseconds, without a locale's comma
  for (const auto& [name, ns] : {std::pair{"ts", start}, std::pair{"dur", event.duration_ns}})
    text += format(", \"%s\": %lld.%03d", name, static_cast<long long>(ns / 1000),
                   static_cast<int>(ns % 1000));
  text += format(", \"args\": {\"flops\": %lld, \"bytes\": %lld",
                 static_cast<long long>(event.flops), static_cast<long long>(event.bytes));
  if (!key.shapes.empty()) text.append(", \"shapes\": ").append(quoted(key.shapes));
  return text += "}}";
}

}  // namespace

void write_trace(const std::string& path, const ThreadLogs& logs, int64_t begin_ns) {
  AtomicFile file(path);
  file.write("{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n");
  file.write(
      "{\"name\": \"process_name\", \"ph\": \"M\", \"pid\": 1, \"tid\": 0, \"args\": {\"name\": "
      "\"tendril\"}}");
  std::string text;
  for (const auto& log : logs) {
    const std::lock_guard lock(log->mutex);
    text = format(
        ",\n{\"name\": \"thread_name\", \"ph\": \"M\", \"pid\": 1, \"tid\": %d, "
        "\"args\": {\"name\": \"thread %d\"}}",
        log->id, log->id);
    for (const TraceEvent& event : log->events) {
      if (event.start_ns < begin_ns) continue;
      text.append(",\n").append(event_text(event, log->id, begin_ns));
      if (text.size() < (1 << 16)) continue;
      file.write(text);
      text.clear();
    }
    file.write(text);
  }
  file.write("\n]}\n");
  file.commit();
}

}  // namespace detail
}  // namespace tendril
