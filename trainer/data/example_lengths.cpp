#include <tendril/core/error.h>
#include <tendril/trainer/data/example_lengths.h>

namespace tendril {

std::vector<int64_t> example_lengths(const Dataset& dataset, const std::string& length_column) {
  const std::optional<int64_t> size = dataset.size();
  TENDRIL_CHECK(size, "[group_by_length] needs a dataset that knows its size");
  std::vector<int64_t> lengths(static_cast<size_t>(*size));
  for (int64_t i = 0; i < *size; ++i) {
    const Example example = dataset.get(i);
    const auto length = example.find(length_column);
    const auto tokens = example.find("input_ids");
    TENDRIL_CHECK(length != example.end() || tokens != example.end(), "[group_by_length] example ",
                  i, " has neither ", length_column,
                  " nor input_ids; name its column in length_column_name");
    lengths[static_cast<size_t>(i)] =
        length != example.end() ? length->second.item<int64_t>() : tokens->second.numel();
  }
  return lengths;
}

}  // namespace tendril
