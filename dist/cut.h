// Private to dist: who sums what in an all_reduce of several tensors.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <tendril/core/tensor.h>

namespace tendril::dist {

/// `count` elements of a tensor, from `begin` on.
struct Stretch {
  size_t tensor;
  int64_t begin, count;
};

/// What rank `part` of `parts` gets when the tensors, one after the other, are cut as evenly as
/// possible between elements. Stretches are never empty.
inline std::vector<Stretch> cut_together(const std::vector<Tensor>& tensors, int part, int parts) {
  int64_t total = 0;
  for (const Tensor& tensor : tensors) total += tensor.numel();
  const int64_t share = total / parts, rest = total % parts;  // the first `rest` get one more
  const int64_t begin = part * share + std::min<int64_t>(part, rest);
  const int64_t end = begin + share + (part < rest);
  std::vector<Stretch> stretches;
  int64_t start = 0;  // of the tensor, among all
  for (size_t i = 0; i < tensors.size(); ++i) {
    const int64_t stop = start + tensors[i].numel();
    const int64_t from = std::max(begin, start), to = std::min(end, stop);
    if (from < to) stretches.push_back({i, from - start, to - from});
    start = stop;
  }
  return stretches;
}

}  // namespace tendril::dist
