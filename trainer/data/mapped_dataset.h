// Datasets made of others, without copying an example.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include <tendril/trainer/data/dataset.h>

namespace tendril {

/// Example i is function(example i of `dataset`), made each time it is asked for. Loader threads
/// call the function at the same time.
class TENDRIL_API MappedDataset : public Dataset {
 public:
  using Function = std::function<Example(Example)>;
  /// Error for an iterable dataset.
  MappedDataset(std::shared_ptr<const Dataset> dataset, Function function);
  std::optional<int64_t> size() const override { return dataset_->size(); }
  Example get(int64_t index) const override { return function_(dataset_->get(index)); }

 private:
  std::shared_ptr<const Dataset> dataset_;
  Function function_;
};

/// Example i is example indices[i] of `dataset`: a selection, another order, or repetitions.
class TENDRIL_API SubsetDataset : public Dataset {
 public:
  /// Error for indices out of range, or an iterable dataset.
  SubsetDataset(std::shared_ptr<const Dataset> dataset, std::vector<int64_t> indices);
  std::optional<int64_t> size() const override { return static_cast<int64_t>(indices_.size()); }
  Example get(int64_t index) const override;

 private:
  std::shared_ptr<const Dataset> dataset_;
  std::vector<int64_t> indices_;
};

/// The examples of the first dataset, then those of the second, ...
class TENDRIL_API ConcatDataset : public Dataset {
 public:
  /// Error for an iterable dataset.
  explicit ConcatDataset(std::vector<std::shared_ptr<const Dataset>> datasets);
  std::optional<int64_t> size() const override { return ends_.empty() ? 0 : ends_.back(); }
  Example get(int64_t index) const override;

 private:
  std::vector<std::shared_ptr<const Dataset>> datasets_;
  std::vector<int64_t> ends_;  // of each, counted from the first
};

}  // namespace tendril
