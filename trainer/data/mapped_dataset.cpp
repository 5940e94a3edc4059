#include <tendril/trainer/data/mapped_dataset.h>

#include <algorithm>
#include <utility>

#include <tendril/trainer/data/index_check.h>

namespace tendril {
namespace {

// The size of a dataset whose examples can be asked for by number.
int64_t size_of_numbered(const char* op, const std::shared_ptr<const Dataset>& dataset) {
  TENDRIL_CHECK(dataset, "[", op, "] the dataset must not be null");
  TENDRIL_CHECK(!dynamic_cast<const IterableDataset*>(dataset.get()) && dataset->size(), "[", op,
                "] needs a dataset whose examples can be asked for by number; got an iterable one");
  return *dataset->size();
}

}  // namespace

MappedDataset::MappedDataset(std::shared_ptr<const Dataset> dataset, Function function)
    : dataset_(std::move(dataset)), function_(std::move(function)) {
  size_of_numbered("MappedDataset", dataset_);
  TENDRIL_CHECK(function_, "[MappedDataset] the function must not be empty");
}

SubsetDataset::SubsetDataset(std::shared_ptr<const Dataset> dataset, std::vector<int64_t> indices)
    : dataset_(std::move(dataset)), indices_(std::move(indices)) {
  const int64_t size = size_of_numbered("SubsetDataset", dataset_);
  for (const int64_t index : indices_) require_index("SubsetDataset", index, size);
}

Example SubsetDataset::get(int64_t index) const {
  require_index("SubsetDataset", index, *size());
  return dataset_->get(indices_[static_cast<size_t>(index)]);
}

ConcatDataset::ConcatDataset(std::vector<std::shared_ptr<const Dataset>> datasets)
    : datasets_(std::move(datasets)) {
  int64_t end = 0;
  for (const auto& dataset : datasets_)
    ends_.push_back(end += size_of_numbered("ConcatDataset", dataset));
}

Example ConcatDataset::get(int64_t index) const {
  require_index("ConcatDataset", index, *size());
  const auto part =
      static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), index) - ends_.begin());
  return datasets_[part]->get(index - (part == 0 ? 0 : ends_[part - 1]));
}

}  // namespace tendril
