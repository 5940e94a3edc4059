#include <tendril/core/ops/flops.h>

#include <algorithm>
#include <array>
#include <cctype>

namespace tendril::ops {

int64_t product_flops(const Tensor& y, int64_t k) { return 2 * y.numel() * k; }

int64_t einsum_flops(const std::string& equation, const Tensor& a, const Tensor& b) {
  struct Index {
    int64_t size = 1;
    int terms = 0;  // of a, b and the result: how many name it
  };
  std::array<Index, 128> indices;
  int term = 0;
  int64_t axis = 0;
  for (const char c : equation) {
    if (c == ',' || c == '>') {
      ++term;
      axis = 0;
    } else if (std::isalpha(static_cast<unsigned char>(c))) {
      Index& index = indices[static_cast<size_t>(c)];
      ++index.terms;
      if (term < 2) index.size = (term == 0 ? a : b).size(axis++);
    }
  }
  int64_t combinations = 1;
  for (const Index& index : indices)
    if (index.terms > 1) combinations *= index.size;
  return 2 * combinations;
}

int64_t attention_flops(const Tensor& q, const Tensor& k, const AttentionSettings& settings) {
  const int64_t queries = q.size(2), keys = k.size(2);
  int64_t pairs = queries * keys;
  if (settings.causal) {
    pairs = 0;
    for (int64_t t = 0; t < queries; ++t) {
      const int64_t end = t + 1 + keys - queries;
      const int64_t begin = settings.window > 0 ? std::max<int64_t>(0, end - settings.window) : 0;
      pairs += std::max<int64_t>(0, end - begin);
    }
  }
  return 4 * q.size(0) * q.size(1) * q.size(3) * pairs;
}

int64_t feed_forward_flops(const Tensor& x, const FeedForwardWeights& weights) {
  const int64_t rows = x.numel() / std::max<int64_t>(x.size(-1), 1);
  const int64_t gate = weights.gate.defined() ? weights.gate.numel() : 0;
  return 2 * rows * (weights.up.numel() + weights.down.numel() + gate);
}

int64_t backward_flops(Op op, int64_t forward, bool a, bool b) {
  if (op == Op::linear_cross_entropy) return 0;  // its gradients were formed with the loss
  if (op == Op::scaled_dot_product_attention) return forward / 2 * 5;
  if (op == Op::feed_forward) return 2 * forward;
  return forward * (int64_t{a} + int64_t{b});
}

}  // namespace tendril::ops
