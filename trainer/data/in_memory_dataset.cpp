#include <tendril/trainer/data/in_memory_dataset.h>

#include <utility>

#include <tendril/core/ops/layout.h>
#include <tendril/trainer/data/index_check.h>

namespace tendril {

Example InMemoryDataset::get(int64_t index) const {
  require_index("InMemoryDataset", index, *size());
  return examples_[static_cast<size_t>(index)];
}

ColumnDataset::ColumnDataset(std::map<std::string, Tensor> columns) : columns_(std::move(columns)) {
  TENDRIL_CHECK(!columns_.empty(), "[ColumnDataset] needs at least one column");
  const auto& [first_name, first] = *columns_.begin();
  for (const auto& [name, column] : columns_) {
    TENDRIL_CHECK(column.defined() && column.rank() >= 1, "[ColumnDataset] column \"", name,
                  "\" must have an axis of examples, (N, ...)");
    TENDRIL_CHECK(column.size(0) == first.size(0), "[ColumnDataset] column \"", name,
                  "\" has shape ", column.shape(), ", column \"", first_name, "\" has ",
                  first.shape(), "; all need the same number of rows");
  }
  size_ = first.size(0);
}

Example ColumnDataset::get(int64_t index) const {
  require_index("ColumnDataset", index, size_);
  Example example;
  for (const auto& [name, column] : columns_) example[name] = ops::select(column, 0, index);
  return example;
}

}  // namespace tendril
