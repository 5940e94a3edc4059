// GPT-2 (Radford et al. 2019), with the parameter names and files of Hugging Face transformers.
//
//   x = wte[tokens] + wpe[positions]
//   L times:  x += attn.c_proj(attention(attn.c_attn(ln_1(x))))
//             x += mlp.c_proj(gelu(mlp.c_fc(ln_2(x))))
//   logits = ln_f(x) wte^T
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <tendril/nn/causal_lm.h>
#include <tendril/nn/dropout.h>
#include <tendril/nn/embedding.h>
#include <tendril/nn/layer_norm.h>
#include <tendril/nn/linear.h>
#include <tendril/nn/mlp.h>
#include <tendril/nn/module_list.h>

namespace tendril::nn::models {

/// The defaults are GPT-2 small, 124,439,808 parameters.
struct TENDRIL_API Gpt2Config {
  int64_t vocab_size = 50257;
  int64_t n_positions = 1024;
  int64_t n_layer = 12;
  int64_t n_head = 12;
  int64_t n_embd = 768;
  int64_t n_inner = 0;  // channels inside the MLP; 0: 4 * n_embd
  Activation activation = Activation::gelu_tanh;
  double embd_pdrop = 0.1;
  double attn_pdrop = 0.1;
  double resid_pdrop = 0.1;
  double layer_norm_epsilon = 1e-5;
  double initializer_range =
      0.02;  // std of weights; of residual projections divided by sqrt(2 n_layer)
  bool tie_word_embeddings = true;  // the head is wte; otherwise lm_head.weight (V, C)
  int64_t bos_token_id = -1;        // negative: none, null in config.json
  int64_t eos_token_id = -1;

  int64_t inner() const { return n_inner > 0 ? n_inner : 4 * n_embd; }
  /// How many parameters a model of this shape has, without making one.
  int64_t parameter_count() const;
  /// Floating-point operations of forward and backward per token at sequence length T: 6 N + 12 L C
  /// T, N without position embeddings, attention counted as the full T x T (the PaLM and nanoGPT
  /// convention).
  double flops_per_token(int64_t sequence_length) const;
  /// Error that names the first field out of range.
  void validate() const;
  /// The text of config.json for weights of this dtype, and back. Reading is an Error for variants
  /// of the architecture that Gpt2 lacks.
  std::string to_json(DType dtype = f32) const;
  static Gpt2Config from_json(const std::string& text, const std::string& origin);

  friend bool operator==(const Gpt2Config&, const Gpt2Config&) = default;
};

/// A linear layer stored the other way round, as the original checkpoints do: weight (in, out),
/// bias (out).
class TENDRIL_API Conv1D : public Module {
 public:
  Conv1D(int64_t in, int64_t out, double std);
  Tensor operator()(const Tensor& x) const;             // (..., in) -> (..., out)
  Tensor weight() const { return transpose(weight_); }  // (out, in), as linear() takes it
  const Tensor& bias() const { return bias_; }

 private:
  Tensor weight_, bias_;
};

class TENDRIL_API Gpt2Attention : public Module {
 public:
  explicit Gpt2Attention(const Gpt2Config& config);
  /// x (B, T, C) -> (B, T, C); the cache may be null.
  Tensor forward(const Tensor& x, KeyValueCache* cache) const;

 private:
  int64_t heads_;
  double dropout_;
  Conv1D c_attn_;  // (B, T, C) -> (B, T, 3 C): queries, keys, values
  Conv1D c_proj_;
  Dropout resid_dropout_;
};

class TENDRIL_API Gpt2Mlp : public Module {
 public:
  explicit Gpt2Mlp(const Gpt2Config& config);
  Tensor operator()(const Tensor& x) const;  // (B, T, C) -> (B, T, C)

 private:
  Activation activation_;
  Conv1D c_fc_, c_proj_;
  Dropout dropout_;
};

/// The numbers between two layers, x + branch. The sum is left to the norm that reads it next,
/// which forms it in the same pass; `branch` is undefined before the first block.
struct ResidualStream {
  Tensor x, branch;  // (B, T, C)
};

class TENDRIL_API Gpt2Block : public Module {
 public:
  explicit Gpt2Block(const Gpt2Config& config);
  ResidualStream forward(const ResidualStream& stream, KeyValueCache* cache) const;

 private:
  LayerNorm ln_1_;
  Gpt2Attention attn_;
  LayerNorm ln_2_;
  Gpt2Mlp mlp_;
};

/// Everything below the head.
class TENDRIL_API Gpt2Transformer : public Module {
 public:
  explicit Gpt2Transformer(const Gpt2Config& config);
  /// tokens (B, T) -> (B, T, C). Error when the positions do not suffice.
  Tensor forward(const Tensor& tokens, ModelCache* cache);
  const Tensor& token_embedding() const { return wte_.weight(); }
  Embedding& token_table() { return wte_; }
  /// Keep each block's inputs only, and run it again in the backward pass.
  void set_gradient_checkpointing(bool enabled) override { checkpointing_ = enabled; }

 private:
  bool checkpointing_ = false;
  int64_t n_positions_;
  Embedding wte_, wpe_;
  Dropout drop_;
  ModuleList<Gpt2Block> h_;
  LayerNorm ln_f_;
};

class TENDRIL_API Gpt2 : public CausalLm {
 public:
  /// Draws new weights from default_generator(): N(0, initializer_range), biases 0, norms 1.
  explicit Gpt2(const Gpt2Config& config);

  /// tokens (B, T) -> logits (B, T, V); 1 <= T <= n_positions.
  Tensor forward(const Tensor& tokens) override;
  Tensor forward(const Tensor& tokens, ModelCache& cache) override;
  Tensor next_logits(const Tensor& tokens, ModelCache& cache) override;

  int64_t vocab_size() const override { return config_.vocab_size; }
  int64_t max_positions() const override { return config_.n_positions; }
  Embedding* input_embedding() override { return &transformer_.token_table(); }
  ModelCache make_cache() const override { return {config_.n_layer, config_.n_positions}; }
  const Gpt2Config& config() const { return config_; }
  /// The text of config.json for the weights' dtype.
  std::string config_json() const;
  void set_gradient_checkpointing(bool enabled) override;

  /// See Gpt2Config::flops_per_token.
  double flops_per_token(int64_t sequence_length) const {
    return config_.flops_per_token(sequence_length);
  }

  /// Writes model.safetensors and config.json into the folder, which is made when missing. Each
  /// file appears under its name only when it is complete.
  void save_pretrained(const std::filesystem::path& folder) const;
  /// Reads what save_pretrained or transformers wrote; names may lack the "transformer." prefix.
  /// The weights become f32. Error, naming every tensor, when something is missing or does not fit.
  static Gpt2 from_pretrained(const std::filesystem::path& folder);

 private:
  struct Pretrained {  // what from_pretrained has read
    Gpt2Config config;
    StateDict state;
  };
  explicit Gpt2(const Pretrained& pretrained);
  static Pretrained read(const std::filesystem::path& folder);
  const Tensor& head_weight() const;        // (V, C)
  Tensor head(const Tensor& hidden) const;  // (..., C) -> (..., V)
  Tensor compute_loss(const Tensor& tokens, const Tensor& targets,
                      const CrossEntropyOptions& options) override;

  Gpt2Config config_;
  Gpt2Transformer transformer_;
  std::shared_ptr<Linear> lm_head_;  // null when tied
};

}  // namespace tendril::nn::models
