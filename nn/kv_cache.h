// Keys and values of past tokens, so that generating a token costs one position instead of all.
#pragma once

#include <utility>

#include <tendril/core/tensor.h>

namespace tendril::nn {

/// One attention layer's cache: room for `capacity` positions of (B, Hk, T, D), filled from the
/// front.
class TENDRIL_API KeyValueCache {
 public:
  explicit KeyValueCache(int64_t capacity);

  /// Appends keys and values (B, Hk, T, D) and returns views of all so far (B, Hk, length, D). The
  /// first call fixes B, Hk, D and the dtype. Error when full, or when recording: the cache is
  /// overwritten in place, so use NoGradGuard.
  std::pair<Tensor, Tensor> append(const Tensor& keys, const Tensor& values);

  int64_t length() const { return length_; }
  int64_t capacity() const { return capacity_; }
  /// Forgets all positions; the memory is kept.
  void clear() { length_ = 0; }

 private:
  int64_t capacity_;
  int64_t length_ = 0;
  Tensor keys_, values_;
};

}  // namespace tendril::nn
