// Private to dist: ranks in messages.
#pragma once

#include <string>
#include <vector>

namespace tendril::dist {

/// "rank 1", "ranks 1 and 4", "ranks 0, 1 and 4".
inline std::string name_ranks(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (i > 0) text += i + 1 == ranks.size() ? " and " : ", ";
    text += std::to_string(ranks[i]);
  }
  return text;
}

}  // namespace tendril::dist
