#include <tendril/nn/attention.h>

#include <tuple>

namespace tendril::nn {
namespace {

int64_t checked_head_channels(int64_t channels, int64_t heads,
                              const AttentionLayerOptions& options) {
  const int64_t kv_heads = options.kv_heads;
  TENDRIL_CHECK(channels > 0 && heads > 0 && kv_heads >= 0 && options.head_channels >= 0,
                "[MultiHeadAttention] sizes must be positive; got channels ", channels, ", heads ",
                heads, ", kv_heads ", kv_heads, ", head_channels ", options.head_channels);
  TENDRIL_CHECK(kv_heads == 0 || heads % kv_heads == 0,
                "[MultiHeadAttention] heads must be a multiple of kv_heads; got ", heads, " and ",
                kv_heads);
  TENDRIL_CHECK(options.head_channels > 0 || channels % heads == 0,
                "[MultiHeadAttention] channels must be a multiple of heads; got ", channels,
                " and ", heads, "; or give head_channels");
  TENDRIL_CHECK(options.window == 0 || options.causal,
                "[MultiHeadAttention] a window needs causal attention; got window ",
                options.window);
  return options.head_channels > 0 ? options.head_channels : channels / heads;
}

}  // namespace

Tensor split_heads(const Tensor& x, int64_t heads) {
  TENDRIL_CHECK(x.rank() == 3 && heads > 0 && x.size(2) % heads == 0,
                "[split_heads] needs (B, T, C) with C a multiple of ", heads, " heads; got shape ",
                x.shape());
  return transpose(reshape(x, {x.size(0), x.size(1), heads, x.size(2) / heads}), 1, 2);
}

Tensor merge_heads(const Tensor& x) {
  TENDRIL_CHECK(x.rank() == 4, "[merge_heads] needs (B, H, T, D); got shape ", x.shape());
  return reshape(transpose(x, 1, 2), {x.size(0), x.size(2), x.size(1) * x.size(3)});
}

MultiHeadAttention::MultiHeadAttention(int64_t channels, int64_t heads,
                                       const AttentionLayerOptions& options)
    : channels_(channels),
      heads_(heads),
      kv_heads_(options.kv_heads > 0 ? options.kv_heads : heads),
      head_channels_(checked_head_channels(channels, heads, options)),
      options_(options),
      q_proj_(channels, heads_ * head_channels_, {.bias = options.bias, .dtype = options.dtype}),
      k_proj_(channels, kv_heads_ * head_channels_, {.bias = options.bias, .dtype = options.dtype}),
      v_proj_(channels, kv_heads_ * head_channels_, {.bias = options.bias, .dtype = options.dtype}),
      o_proj_(heads_ * head_channels_, channels, {.bias = options.bias, .dtype = options.dtype}) {
  TENDRIL_CHECK(options.dropout >= 0.0 && options.dropout < 1.0,
                "[MultiHeadAttention] dropout must be in [0, 1); got ", options.dropout);
  add("q_proj", q_proj_);
  add("k_proj", k_proj_);
  add("v_proj", v_proj_);
  add("o_proj", o_proj_);
}

Tensor MultiHeadAttention::forward(const Tensor& x, const Tensor& mask) const {
  return attend(x, mask, nullptr);
}

Tensor MultiHeadAttention::forward(const Tensor& x, KeyValueCache& cache) const {
  return attend(x, {}, &cache);
}

Tensor MultiHeadAttention::attend(const Tensor& x, const Tensor& mask, KeyValueCache* cache) const {
  TENDRIL_CHECK(x.rank() == 3 && x.size(2) == channels_, "[MultiHeadAttention] needs (B, T, ",
                channels_, "); got shape ", x.shape());
  Tensor q = split_heads(q_proj_(x), heads_);     // (B, H, T, D)
  Tensor k = split_heads(k_proj_(x), kv_heads_);  // (B, Hk, T, D)
  Tensor v = split_heads(v_proj_(x), kv_heads_);
  if (options_.rotary_theta) {
    const int64_t past = cache ? cache->length() : 0;
    q = rotary_embedding(q, *options_.rotary_theta, past);
    k = rotary_embedding(k, *options_.rotary_theta, past);
  }
  if (cache) std::tie(k, v) = cache->append(k, v);
  const Tensor y = scaled_dot_product_attention(q, k, v,
                                                {.causal = options_.causal,
                                                 .window = options_.window,
                                                 .dropout = options_.dropout,
                                                 .training = training(),
                                                 .mask = mask});
  return o_proj_(merge_heads(y));
}

}  // namespace tendril::nn
