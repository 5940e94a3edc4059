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

  /// NEFTune (Jain et al. 2023): in training mode, noise drawn uniformly from +-alpha / sqrt(T C)
  /// is added to each element of the result (B, T, C). 0, as at first, adds none.
  void set_noise_alpha(double alpha);
  double noise_alpha() const { return noise_alpha_; }

 private:
  Tensor weight_;
  std::optional<int64_t> padding_idx_;
  double noise_alpha_ = 0.0;
};

}  // namespace tendril::nn
