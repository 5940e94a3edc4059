// Private to dist: which rank keeps which elements of a parameter.
#pragma once

#include <cstdint>
#include <vector>

#include <tendril/core/shape.h>
#include <tendril/dist/fully_sharded.h>

namespace tendril::dist {

/// Elements of each rank for every parameter, cut as `partition` says.
std::vector<std::vector<int64_t>> shard_counts(const std::vector<NamedTensor>& parameters,
                                               Partition partition, int ranks);

/// Shape of a part with this many elements: (rows, ...), or the whole shape where a tensor without
/// axes lies.
Shape part_shape(const Shape& whole, int64_t count);

/// Elements before those of `rank`.
int64_t elements_before(const std::vector<int64_t>& counts, int rank);

}  // namespace tendril::dist
