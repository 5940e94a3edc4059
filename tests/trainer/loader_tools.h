// Datasets that watch how they are read, for tests of the loader.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <tendril/trainer/data/data_loader.h>

namespace tendril::testing {

inline Example numbered(int64_t index) { return {{"x", Tensor::from<int64_t>({index}, {})}}; }

/// Example i is {"x": i}; keeps a list of the examples that were asked for.
class WatchedDataset : public Dataset {
 public:
  explicit WatchedDataset(int64_t size) : size_(size) {}
  std::optional<int64_t> size() const override { return size_; }
  Example get(int64_t index) const override {
    const std::lock_guard lock(mutex_);
    asked_.push_back(index);
    return numbered(index);
  }
  std::vector<int64_t> asked() const {
    const std::lock_guard lock(mutex_);
    return asked_;
  }

 private:
  int64_t size_;
  mutable std::mutex mutex_;
  mutable std::vector<int64_t> asked_;
};

/// The same, one after the other; counts the examples made, and offset by 1000 per pass.
class WatchedStreams : public IterableDataset {
 public:
  explicit WatchedStreams(int64_t size) : size_(size) {}
  std::unique_ptr<ExampleStream> iterate(int64_t epoch) const override {
    return std::make_unique<Walk>(this, epoch);
  }
  int64_t made() const { return made_; }

 private:
  struct Walk : ExampleStream {
    Walk(const WatchedStreams* dataset, int64_t epoch) : dataset(dataset), epoch(epoch) {}
    std::optional<Example> next() override {
      if (place == dataset->size_) return std::nullopt;
      ++dataset->made_;
      return numbered(1000 * epoch + place++);
    }
    int64_t skip(int64_t count) override {
      const int64_t skipped = std::min(count, dataset->size_ - place);
      place += skipped;
      return skipped;
    }
    const WatchedStreams* dataset;
    int64_t epoch, place = 0;
  };

  int64_t size_;
  mutable std::atomic<int64_t> made_{0};
};

/// Example i is what a function says.
class FunctionDataset : public Dataset {
 public:
  FunctionDataset(int64_t size, std::function<Example(int64_t)> function)
      : size_(size), function_(std::move(function)) {}
  std::optional<int64_t> size() const override { return size_; }
  Example get(int64_t index) const override { return function_(index); }

 private:
  int64_t size_;
  std::function<Example(int64_t)> function_;
};

using Batches = std::vector<std::vector<int64_t>>;

/// Column x of all batches.
inline Batches read_all(BatchStream& stream) {
  Batches batches;
  while (const auto batch = stream.next()) batches.push_back(batch->at("x").to_vector<int64_t>());
  return batches;
}
inline Batches read_all(const DataLoader& loader, int64_t epoch = 0, int64_t first = 0) {
  return read_all(*loader.iterate(epoch, first));
}

}  // namespace tendril::testing
