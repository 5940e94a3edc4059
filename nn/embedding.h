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

 private:
  Tensor weight_;
  std::optional<int64_t> padding_idx_;
};

}  // namespace tendril::nn
