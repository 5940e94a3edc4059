// A table of vectors, looked up by index.
#pragma once

#include <optional>

#include <tendril/nn/module.h>

namespace tendril::nn {

struct EmbeddingOptions {
  std::optional<int64_t> padding_idx = {};  // this row is zero and gets no gradient
  double std = 1.0;                         // of the normal initialisation
  DType dtype = f32;
};

/// indices (...) of i64 or i32 in [0, count) -> (..., channels). Parameter: weight (count,
/// channels), normal.
class TENDRIL_API Embedding : public Module {
 public:
  Embedding(int64_t count, int64_t channels, const EmbeddingOptions& options = {});

  Tensor forward(const Tensor& indices) const;
  Tensor operator()(const Tensor& indices) const { return forward(indices); }

  const Tensor& weight() const { return weight_; }

  /// NEFTune (Jain et al. 2023): in training mode, noise drawn uniformly from +-alpha / sqrt(L C)
  /// is added to each element of the result (..., T, C). L is T, unless set_noise_lengths() says
  /// better. 0, as at first, adds none. The noise is on what is looked up, not on the table: a head
  /// that shares the table does not see it.
  void set_noise_alpha(double alpha);
  double noise_alpha() const { return noise_alpha_; }
  /// For indices (..., T) of this shape: the number of tokens of the sequence that each position
  /// belongs to, 0 for padding, which gets no noise. They hold until the next call, so that a
  /// recomputation in backward sees them too; an undefined tensor ends it.
  void set_noise_lengths(Tensor lengths);

 private:
  Tensor noise_bound(const Tensor& indices) const;

  Tensor weight_;
  std::optional<int64_t> padding_idx_;
  double noise_alpha_ = 0.0;
  Tensor noise_lengths_;  // undefined: T
};

}  // namespace tendril::nn
