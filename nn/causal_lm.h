// What a decoder-only language model offers to generate() and to a training loop.
#pragma once

#include <vector>

#include <tendril/nn/embedding.h>
#include <tendril/nn/kv_cache.h>
#include <tendril/nn/module.h>

namespace tendril::nn {

/// The key/value caches of all attention layers of a model.
class TENDRIL_API ModelCache {
 public:
  ModelCache(int64_t layers, int64_t capacity)
      : layers_(static_cast<size_t>(layers), KeyValueCache(capacity)) {}

  KeyValueCache& layer(int64_t i) { return layers_.at(static_cast<size_t>(i)); }
  int64_t layers() const { return static_cast<int64_t>(layers_.size()); }
  int64_t length() const { return layers_.empty() ? 0 : layers_.front().length(); }
  void clear() {
    for (KeyValueCache& layer : layers_) layer.clear();
  }

 private:
  std::vector<KeyValueCache> layers_;
};

class TENDRIL_API CausalLm : public Module {
 public:
  ~CausalLm() override;

  /// tokens (B, T) of i64 or i32 -> logits (B, T, V) for the token after each.
  virtual Tensor forward(const Tensor& tokens) = 0;
  /// The same for tokens that follow those in the cache, which takes them up. Needs NoGradGuard.
  virtual Tensor forward(const Tensor& tokens, ModelCache& cache) = 0;
  /// Only the last position's logits (B, V): what sampling needs, without T * V numbers.
  virtual Tensor next_logits(const Tensor& tokens, ModelCache& cache) = 0;

  virtual int64_t vocab_size() const = 0;
  /// The longest sequence the model can see.
  virtual int64_t max_positions() const = 0;
  /// The table that turns tokens into vectors, where NEFTune adds its noise; null when there is
  /// none.
  virtual Embedding* input_embedding() { return nullptr; }
  /// An empty cache for sequences of up to max_positions() tokens.
  virtual ModelCache make_cache() const = 0;

  /// Cross entropy of logits and targets (B, T), by default the mean; targets are the tokens one
  /// step ahead, -100 is ignored.
  Tensor loss(const Tensor& tokens, const Tensor& targets, const CrossEntropyOptions& options = {});

  Tensor operator()(const Tensor& tokens) { return forward(tokens); }

 protected:
  /// loss() of checked arguments, from all logits. A model whose head is one matrix overrides it
  /// with linear_cross_entropy, which spares the (B, T, V) logits.
  virtual Tensor compute_loss(const Tensor& tokens, const Tensor& targets,
                              const CrossEntropyOptions& options);
};

}  // namespace tendril::nn
