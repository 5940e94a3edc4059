// What a training run will need of memory, before it starts.
//
//   log_info(describe(estimate_memory(model, args)));
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <tendril/nn/models/gpt2.h>
#include <tendril/trainer/training_arguments.h>

namespace tendril {

/// In bytes.
struct MemoryEstimate {
  int64_t weights = 0;    // parameters and buffers
  int64_t gradients = 0;  // of the parameters that require grad; of the largest alone where
                          // backward updates and frees each
  int64_t optimizer = 0;  // state and f32 masters once every parameter has been updated
  /// What forward leaves for backward, roughly; for a Gpt2 alone.
  std::optional<int64_t> activations = {};

  int64_t total() const { return weights + gradients + optimizer + activations.value_or(0); }
};

/// For the model as it is, under `args` (optim and its options, batch size, bf16, gradient
/// checkpointing). All but the activations are exact; they are for sequences of the given length,
/// the model's longest by default.
TENDRIL_API MemoryEstimate estimate_memory(nn::Module& model, const TrainingArguments& args,
                                           std::optional<int64_t> sequence_length = {});

struct ActivationOptions {
  int64_t batch_size = 1;
  int64_t sequence_length = 1;
  bool autocast = false;  // to 16 bits
  bool gradient_checkpointing = false;
};

/// A forward pass with loss of f32 weights keeps, per token and in units of C floats:
///   13 for each block (its two normalised inputs, q k v, the attention's result, the
///   feed-forward's input and hidden layer, the residual stream), or 2 with gradient checkpointing,
///   and then one block's 13 at a time; 3 outside of the blocks.
/// Autocast makes about 60 % of that, and keeps 16-bit copies of the matrices.
/// Backward's own temporaries come on top.
TENDRIL_API int64_t gpt2_activation_bytes(const nn::models::Gpt2Config& config,
                                          const ActivationOptions& options);

/// A row for each part, in MiB, and the total.
TENDRIL_API std::string describe(const MemoryEstimate& estimate);

}  // namespace tendril
