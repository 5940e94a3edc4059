// Multi-head self-attention (Vaswani et al. 2017) with grouped queries (Ainslie et al. 2023),
// rotary positions (Su et al. 2021) and a key/value cache.
#pragma once

#include <optional>

#include <tendril/nn/dropout.h>
#include <tendril/nn/kv_cache.h>
#include <tendril/nn/linear.h>

namespace tendril::nn {

struct AttentionLayerOptions {
  int64_t kv_heads = 0;       // 0: as many as heads; else a divisor of heads (1: multi-query)
  int64_t head_channels = 0;  // 0: channels / heads
  bool causal = true;         // a token sees itself and its past only
  int64_t window = 0;         // > 0: and of its past only the last `window` tokens, itself included
  std::optional<double> rotary_theta = {};  // rotate queries and keys by their position
  bool bias = true;
  double dropout = 0.0;  // on the attention probabilities
  DType dtype = f32;
};

/// x (B, T, channels) -> (B, T, channels). Children: q_proj (heads * D), k_proj and v_proj
/// (kv_heads * D), o_proj.
class TENDRIL_API MultiHeadAttention : public Module {
 public:
  MultiHeadAttention(int64_t channels, int64_t heads, const AttentionLayerOptions& options = {});

  /// `mask` as in AttentionOptions: broadcasts to (B, heads, T, T).
  Tensor forward(const Tensor& x, const Tensor& mask = {}) const;
  /// x holds the T tokens that follow those in the cache; they are added to it. Needs NoGradGuard.
  Tensor forward(const Tensor& x, KeyValueCache& cache) const;
  Tensor operator()(const Tensor& x, const Tensor& mask = {}) const { return forward(x, mask); }
  Tensor operator()(const Tensor& x, KeyValueCache& cache) const { return forward(x, cache); }

 private:
  Tensor attend(const Tensor& x, const Tensor& mask, KeyValueCache* cache) const;

  int64_t channels_, heads_, kv_heads_, head_channels_;
  AttentionLayerOptions options_;
  Linear q_proj_, k_proj_, v_proj_, o_proj_;
};

/// (B, T, H * D) -> (B, H, T, D), a view; Error when the last axis does not divide.
TENDRIL_API Tensor split_heads(const Tensor& x, int64_t heads);
/// (B, H, T, D) -> (B, T, H * D)
TENDRIL_API Tensor merge_heads(const Tensor& x);

}  // namespace tendril::nn
