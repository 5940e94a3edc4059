// Lengths of examples, for batches of similar ones.
#pragma once

#include <string>
#include <vector>

#include <tendril/trainer/data/dataset.h>

namespace tendril {

/// Of every example: the column of this name where there is one, else the elements of input_ids.
/// Reads the whole dataset once. Error for an example that has neither.
TENDRIL_API std::vector<int64_t> example_lengths(const Dataset& dataset,
                                                 const std::string& length_column);

}  // namespace tendril
