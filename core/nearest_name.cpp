#include <tendril/core/nearest_name.h>

#include <algorithm>
#include <numeric>

namespace tendril {
namespace {

constexpr size_t kLongest = 60;  // no name's length comes near; the distance takes quadratic time

// Insertions, deletions, changes of one character and swaps of neighbours that make `a` of `b`
// (optimal string alignment), row by row.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> before_last, last(b.size() + 1), row(b.size() + 1);
  std::iota(last.begin(), last.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = last[j - 1] + (a[i - 1] != b[j - 1]);
      row[j] = std::min({change, last[j] + 1, row[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
    before_last = last;
    last = row;
  }
  return last[b.size()];
}

}  // namespace

std::string nearest_name(const std::vector<std::string>& names, const std::string& name) {
  std::string nearest;
  if (name.size() > kLongest) return nearest;
  size_t least = std::max<size_t>(2, name.size() / 3) + 1;
  for (const std::string& known : names) {
    const size_t distance = edit_distance(name, known);
    if (distance < least) least = distance, nearest = known;
  }
  return nearest;
}

}  // namespace tendril
