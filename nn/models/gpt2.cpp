#include <tendril/autograd/checkpoint.h>
#include <tendril/autograd/tape.h>
#include <tendril/nn/attention.h>
#include <tendril/nn/init.h>
#include <tendril/nn/models/gpt2.h>

#include <cmath>
#include <tuple>

namespace tendril::nn::models {
namespace {

// Each of the 2 L residual additions would otherwise grow the variance of the stream.
double residual_std(const Gpt2Config& config) {
  return config.initializer_range / std::sqrt(2.0 * static_cast<double>(config.n_layer));
}

// The stream's sum and its normalisation.
SumAndNorm normalised(const LayerNorm& norm, const ResidualStream& stream) {
  if (stream.branch.defined()) return norm.of_sum(stream.x, stream.branch);
  return {stream.x, norm(stream.x)};
}

const Gpt2Config& validated(const Gpt2Config& config) {
  config.validate();
  return config;
}

}  // namespace

Conv1D::Conv1D(int64_t in, int64_t out, double std) {
  weight_ = add_parameter("weight", Tensor::empty({in, out}));
  bias_ = add_parameter("bias", zeros({out}));
  init::normal_(weight_, 0.0, std);
}

Tensor Conv1D::operator()(const Tensor& x) const { return linear(x, weight(), bias_); }

Gpt2Attention::Gpt2Attention(const Gpt2Config& config)
    : heads_(config.n_head),
      dropout_(config.attn_pdrop),
      c_attn_(config.n_embd, 3 * config.n_embd, config.initializer_range),
      c_proj_(config.n_embd, config.n_embd, residual_std(config)),
      resid_dropout_(config.resid_pdrop) {
  add("c_attn", c_attn_);
  add("c_proj", c_proj_);
  add("resid_dropout", resid_dropout_);
}

Tensor Gpt2Attention::forward(const Tensor& x, KeyValueCache* cache) const {
  const std::vector<Tensor> qkv = split(c_attn_(x), x.size(-1), -1);  // 3 x (B, T, C)
  const Tensor q = split_heads(qkv[0], heads_);                       // (B, H, T, D)
  Tensor k = split_heads(qkv[1], heads_), v = split_heads(qkv[2], heads_);
  if (cache) std::tie(k, v) = cache->append(k, v);
  const Tensor y = scaled_dot_product_attention(
      q, k, v, {.causal = true, .dropout = dropout_, .training = training()});
  return resid_dropout_(c_proj_(merge_heads(y)));
}

Gpt2Mlp::Gpt2Mlp(const Gpt2Config& config)
    : activation_(config.activation),
      c_fc_(config.n_embd, config.inner(), config.initializer_range),
      c_proj_(config.inner(), config.n_embd, residual_std(config)),
      dropout_(config.resid_pdrop) {
  add("c_fc", c_fc_);
  add("c_proj", c_proj_);
  add("dropout", dropout_);
}

Tensor Gpt2Mlp::operator()(const Tensor& x) const {
  const FeedForwardWeights weights{c_fc_.weight(), c_fc_.bias(), c_proj_.weight(), c_proj_.bias()};
  return dropout_(feed_forward(x, weights, operation(activation_)));
}

Gpt2Block::Gpt2Block(const Gpt2Config& config)
    : ln_1_(config.n_embd, {.eps = config.layer_norm_epsilon}),
      attn_(config),
      ln_2_(config.n_embd, {.eps = config.layer_norm_epsilon}),
      mlp_(config) {
  add("ln_1", ln_1_);
  add("attn", attn_);
  add("ln_2", ln_2_);
  add("mlp", mlp_);
}

ResidualStream Gpt2Block::forward(const ResidualStream& stream, KeyValueCache* cache) const {
  const auto [x, normed] = normalised(ln_1_, stream);
  const auto [y, normed_again] = ln_2_.of_sum(x, attn_.forward(normed, cache));
  return {y, mlp_(normed_again)};
}

namespace {

// The block without what it would keep for its backward pass.
ResidualStream recomputed(const Gpt2Block& block, const ResidualStream& stream) {
  std::vector<Tensor> inputs{stream.x};
  if (stream.branch.defined()) inputs.push_back(stream.branch);  // undefined before the first block
  const std::vector<Tensor> outputs = checkpoint_many(
      [&block](const std::vector<Tensor>& in) {
        const ResidualStream result =
            block.forward({in[0], in.size() > 1 ? in[1] : Tensor()}, nullptr);
        return std::vector<Tensor>{result.x, result.branch};
      },
      inputs);
  return {outputs[0], outputs[1]};
}

}  // namespace

Gpt2Transformer::Gpt2Transformer(const Gpt2Config& config)
    : n_positions_(config.n_positions),
      wte_(config.vocab_size, config.n_embd, {.std = config.initializer_range}),
      wpe_(config.n_positions, config.n_embd, {.std = config.initializer_range}),
      drop_(config.embd_pdrop),
      ln_f_(config.n_embd, {.eps = config.layer_norm_epsilon}) {
  add("wte", wte_);
  add("wpe", wpe_);
  add("drop", drop_);
  add("h", h_);
  for (int64_t i = 0; i < config.n_layer; ++i) h_.emplace_back(config);
  add("ln_f", ln_f_);
}

Tensor Gpt2Transformer::forward(const Tensor& tokens, ModelCache* cache) {
  TENDRIL_CHECK(tokens.rank() == 2 && tokens.size(1) > 0,
                "[Gpt2] needs tokens (B, T), T > 0; got shape ", tokens.shape());
  const int64_t past = cache ? cache->length() : 0;
  TENDRIL_CHECK(past + tokens.size(1) <= n_positions_, "[Gpt2] has ", n_positions_,
                " positions; got ", tokens.size(1), " tokens after ", past,
                "; shorten the sequence or raise n_positions");
  TENDRIL_CHECK(!cache || cache->layers() == static_cast<int64_t>(h_.size()),
                "[Gpt2] needs a cache of ", h_.size(), " layers; got ", cache ? cache->layers() : 0,
                "; use make_cache()");
  const Tensor x =
      wte_(tokens) + slice(wpe_.weight(), 0, past, past + tokens.size(1));  // (B, T, C) + (T, C)
  ResidualStream stream{drop_(x), {}};
  const bool recompute = checkpointing_ && !cache && grad_enabled();
  for (size_t i = 0; i < h_.size(); ++i)
    stream = recompute
                 ? recomputed(h_[i], stream)
                 : h_[i].forward(stream, cache ? &cache->layer(static_cast<int64_t>(i)) : nullptr);
  return normalised(ln_f_, stream).y;
}

Gpt2::Gpt2(const Gpt2Config& config) : config_(validated(config)), transformer_(config_) {
  add("transformer", transformer_);
  if (config_.tie_word_embeddings) return;
  lm_head_ =
      std::make_shared<Linear>(config_.n_embd, config_.vocab_size, LinearOptions{.bias = false});
  init::normal_(lm_head_->weight(), 0.0, config_.initializer_range);
  add("lm_head", lm_head_);
}

const Tensor& Gpt2::head_weight() const {
  return lm_head_ ? lm_head_->weight() : transformer_.token_embedding();
}

Tensor Gpt2::head(const Tensor& hidden) const { return linear(hidden, head_weight()); }

Tensor Gpt2::compute_loss(const Tensor& tokens, const Tensor& targets,
                          const CrossEntropyOptions& options) {
  return linear_cross_entropy(transformer_.forward(tokens, nullptr), head_weight(), targets, {},
                              options);
}

void Gpt2::set_gradient_checkpointing(bool enabled) {
  transformer_.set_gradient_checkpointing(enabled);
}

Tensor Gpt2::forward(const Tensor& tokens) { return head(transformer_.forward(tokens, nullptr)); }

Tensor Gpt2::forward(const Tensor& tokens, ModelCache& cache) {
  return head(transformer_.forward(tokens, &cache));
}

Tensor Gpt2::next_logits(const Tensor& tokens, ModelCache& cache) {
  return head(select(transformer_.forward(tokens, &cache), 1, -1));
}

}  // namespace tendril::nn::models
