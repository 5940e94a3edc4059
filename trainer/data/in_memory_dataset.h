// Datasets of tensors that are there already.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <tendril/trainer/data/dataset.h>

namespace tendril {

/// A list of examples. get() hands out the same tensors again and again, not copies.
class TENDRIL_API InMemoryDataset : public Dataset {
 public:
  explicit InMemoryDataset(std::vector<Example> examples) : examples_(std::move(examples)) {}
  std::optional<int64_t> size() const override { return static_cast<int64_t>(examples_.size()); }
  Example get(int64_t index) const override;

 private:
  std::vector<Example> examples_;
};

/// Columns (N, ...): example i holds row i of each, a view (...).
class TENDRIL_API ColumnDataset : public Dataset {
 public:
  /// Error unless there is a column and all have the same N.
  explicit ColumnDataset(std::map<std::string, Tensor> columns);
  std::optional<int64_t> size() const override { return size_; }
  Example get(int64_t index) const override;

 private:
  std::map<std::string, Tensor> columns_;
  int64_t size_;
};

}  // namespace tendril
