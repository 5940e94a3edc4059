// Work on many tensors, most of them too small to share.
#pragma once

#include <tendril/core/threads.h>

#include <cstdint>
#include <vector>

namespace tendril {

/// Calls body(i) for all i < count. Large tensors come one after the other, each cut among all
/// threads by the operations on it; of the small ones every thread takes some. `numel(i)` is the
/// size of tensor i.
template <class Numel, class Body>
void for_each_tensor(size_t count, const Numel& numel, const Body& body) {
  constexpr int64_t kSmall = 1 << 16;
  std::vector<size_t> small;
  for (size_t i = 0; i < count; ++i) {
    if (numel(i) < kSmall)
      small.push_back(i);
    else
      body(i);
  }
  parallel_for(static_cast<int64_t>(small.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(small[static_cast<size_t>(i)]);
  });
}

}  // namespace tendril
