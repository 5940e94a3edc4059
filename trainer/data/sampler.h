// Samplers: in which order a pass visits the examples of a dataset.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <tendril/core/api.h>

namespace tendril {

class TENDRIL_API Sampler {
 public:
  virtual ~Sampler();
  virtual int64_t size() const = 0;
  /// The indices of pass number `epoch`: a pure function of it, so that a resumed run sees the same
  /// order.
  virtual std::vector<int64_t> indices(int64_t epoch) const = 0;
};

class TENDRIL_API SequentialSampler : public Sampler {
 public:
  explicit SequentialSampler(int64_t size);
  int64_t size() const override { return size_; }
  std::vector<int64_t> indices(int64_t epoch) const override;

 private:
  int64_t size_;
};

/// A random permutation, drawn from (seed, epoch) alone with Philox (Stream::data).
class TENDRIL_API RandomSampler : public Sampler {
 public:
  RandomSampler(int64_t size, uint64_t seed);
  int64_t size() const override { return size_; }
  std::vector<int64_t> indices(int64_t epoch) const override;

 private:
  int64_t size_;
  uint64_t seed_;
};

/// Random, but neighbours have similar lengths: a permutation is cut into pieces of min(size /
/// (4 batch_size), 50) batches, each sorted by falling length, and the longest example of all comes
/// first, so that memory runs out at once or never.
class TENDRIL_API LengthGroupedSampler : public Sampler {
 public:
  LengthGroupedSampler(std::vector<int64_t> lengths, int64_t batch_size, uint64_t seed);
  int64_t size() const override { return static_cast<int64_t>(lengths_.size()); }
  std::vector<int64_t> indices(int64_t epoch) const override;

 private:
  std::vector<int64_t> lengths_;
  int64_t batch_size_;
  uint64_t seed_;
};

}  // namespace tendril
