// Datasets: examples by number, or one after the other.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include <tendril/trainer/batch.h>

namespace tendril {

/// Examples that can be asked for by number. Loader threads call get() at the same time.
class TENDRIL_API Dataset {
 public:
  virtual ~Dataset();
  /// nullopt when it is not known in advance (IterableDataset only).
  virtual std::optional<int64_t> size() const = 0;
  /// Example `index`, 0 <= index < size(): a function of the index alone.
  virtual Example get(int64_t index) const = 0;
};

/// Walks over the examples of one pass.
class TENDRIL_API ExampleStream {
 public:
  virtual ~ExampleStream();
  /// nullopt at the end.
  virtual std::optional<Example> next() = 0;
  /// Moves on by `count` examples without making them where the stream can; the default makes and
  /// forgets them. Returns how many there were: fewer than `count` only at the end.
  virtual int64_t skip(int64_t count);
};

/// Examples that come one after the other.
class TENDRIL_API IterableDataset : public Dataset {
 public:
  std::optional<int64_t> size() const override { return std::nullopt; }
  Example get(int64_t index) const final;  // Error
  /// The examples of pass number `epoch`: the same ones every time it is asked for that pass.
  virtual std::unique_ptr<ExampleStream> iterate(int64_t epoch) const = 0;
};

}  // namespace tendril
