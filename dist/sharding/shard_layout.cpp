#include <tendril/dist/sharding/shard_layout.h>

#include <algorithm>
#include <numeric>

namespace tendril::dist {
namespace {

// ceil(rows / ranks) rows each, the last ranks fewer or none; a tensor without axes is one row.
std::vector<int64_t> cut_rows(const Shape& shape, int ranks) {
  const int64_t rows = shape.rank() == 0 ? 1 : shape[0];
  const int64_t per_row = rows == 0 ? 0 : shape.numel() / rows;
  const int64_t each = (rows + ranks - 1) / ranks;
  std::vector<int64_t> counts;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const int64_t begin = std::min(rows, rank * each), end = std::min(rows, begin + each);
    counts.push_back((end - begin) * per_row);
  }
  return counts;
}

// The largest parameter first, each to the rank that has least.
std::vector<std::vector<int64_t>> give_whole(const std::vector<NamedTensor>& parameters,
                                             int ranks) {
  std::vector<size_t> largest_first(parameters.size());
  std::iota(largest_first.begin(), largest_first.end(), size_t{0});
  std::stable_sort(largest_first.begin(), largest_first.end(), [&](size_t a, size_t b) {
    return parameters[a].tensor.numel() > parameters[b].tensor.numel();
  });
  std::vector<int64_t> load(static_cast<size_t>(ranks), 0);
  std::vector<std::vector<int64_t>> counts(parameters.size(), load);
  for (const size_t index : largest_first) {
    const auto owner = std::min_element(load.begin(), load.end());
    const int64_t elements = parameters[index].tensor.numel();
    counts[index][static_cast<size_t>(owner - load.begin())] = elements;
    *owner += elements;
  }
  return counts;
}

}  // namespace

std::vector<std::vector<int64_t>> shard_counts(const std::vector<NamedTensor>& parameters,
                                               Partition partition, int ranks) {
  if (partition == Partition::whole) return give_whole(parameters, ranks);
  std::vector<std::vector<int64_t>> counts;
  for (const NamedTensor& parameter : parameters)
    counts.push_back(cut_rows(parameter.tensor.shape(), ranks));
  return counts;
}

Shape part_shape(const Shape& whole, int64_t count) {
  if (count == whole.numel()) return whole;
  if (whole.rank() == 0) return Shape{0};
  Shape part = whole;
  part[0] = whole[0] == 0 ? 0 : count / (whole.numel() / whole[0]);
  return part;
}

int64_t elements_before(const std::vector<int64_t>& counts, int rank) {
  return std::accumulate(counts.begin(), counts.begin() + rank, int64_t{0});
}

}  // namespace tendril::dist
