// Attention without a (B, H, T, T) tensor: scores exist for one block of queries and keys at a
// time. Rabe and Staats 2021, Dao et al. 2022 ("FlashAttention").
//
//   S = scale Q K^T + mask       P = softmax(S)       O = dropout(P) V
//   lse_t = log sum_s exp(S_ts) is kept, so that backward recomputes P block by block:
//   delta_t = sum_d dO_td O_td   dV = dropout(P)^T dO   dP = dropout'(dO V^T)   dS = P (dP - delta)
//   dQ = scale dS K              dK = scale dS^T Q
#pragma once

#include <tendril/core/random.h>
#include <tendril/core/tensor.h>

namespace tendril::ops {

struct AttentionSettings {
  bool causal = false;
  int64_t window = 0;    // > 0: keys t - window < s <= t only
  double scale = 0.0;    // 0: 1 / sqrt(D)
  double dropout = 0.0;  // in [0, 1)
  RandomKey key = {};    // of the dropout mask; element ((b H + h) Tq + t) Tk + s
  // Undefined, bool (true: may attend) or floating (added); broadcasts to (B, H, Tq, Tk).
  Tensor mask = {};
};

/// Private to core: the settings with nothing left open. Error when they or the shapes are wrong.
AttentionSettings checked_settings(const Tensor& q, const Tensor& k, const Tensor& v,
                                   AttentionSettings settings);

struct AttentionResult {
  Tensor output;  // (B, H, Tq, D) in the dtype of q
  Tensor lse;     // (B, H, Tq) f32 (f64 for f64); -inf where a query sees no key
};

/// q (B, H, Tq, D), k and v (B, Hk, Tk, D); head h of q uses head h / (H / Hk) of k and v.
TENDRIL_API AttentionResult attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                      const AttentionSettings& settings);

struct AttentionGradients {
  Tensor q, k, v;
};
TENDRIL_API AttentionGradients attention_backward(const Tensor& g, const Tensor& q, const Tensor& k,
                                                  const Tensor& v, const AttentionResult& result,
                                                  const AttentionSettings& settings);

}  // namespace tendril::ops
