#include <tendril/trainer/decay_parameters.h>
#include <tendril/trainer/memory_estimate.h>
#include <tendril/trainer/optimizer_choice.h>

#include <algorithm>
#include <cstdio>

namespace tendril {
namespace {

std::string row(const char* name, int64_t bytes) {
  char text[64];
  std::snprintf(text, sizeof text, "%-16s %12.1f MiB\n", name,
                static_cast<double>(bytes) / (1024.0 * 1024.0));
  return text;
}

}  // namespace

MemoryEstimate estimate_memory(nn::Module& model, const TrainingArguments& args,
                               std::optional<int64_t> sequence_length) {
  MemoryEstimate estimate;
  int64_t all_gradients = 0, largest_gradient = 0;
  for (const NamedTensor& parameter : model.named_parameters()) {
    const int64_t bytes = parameter.tensor.nbytes();
    estimate.weights += bytes;
    if (!parameter.tensor.requires_grad()) continue;
    all_gradients += bytes;
    largest_gradient = std::max(largest_gradient, bytes);
  }
  for (const NamedTensor& buffer : model.named_buffers())
    estimate.weights += buffer.tensor.nbytes();
  const ParameterGroups groups = parameter_groups(model, decay_parameter_names(model), args);
  const auto optimizer = make_optimizer(args, groups);
  estimate.optimizer = optimizer->state_bytes();
  estimate.gradients = optimizer->updates_in_backward() ? largest_gradient : all_gradients;
  if (const auto* gpt2 = dynamic_cast<const nn::models::Gpt2*>(&model))
    estimate.activations = gpt2_activation_bytes(
        gpt2->config(), {.batch_size = args.per_device_train_batch_size,
                         .sequence_length = sequence_length.value_or(gpt2->config().n_positions),
                         .autocast = args.bf16 || args.fp16,
                         .gradient_checkpointing = args.gradient_checkpointing});
  return estimate;
}

int64_t gpt2_activation_bytes(const nn::models::Gpt2Config& config,
                              const ActivationOptions& options) {
  const int64_t layers = config.n_layer, channels = config.n_embd;
  // Bytes per token and channel of one block: all that it keeps, and its input alone.
  const int64_t block = options.autocast ? 30 : 52, input = options.autocast ? 6 : 8;
  const int64_t blocks = options.gradient_checkpointing ? layers * input + block : layers * block;
  const int64_t outside = options.autocast ? 8 : 12;
  const int64_t tokens = options.batch_size * options.sequence_length;
  const int64_t kept = tokens * channels * (blocks + outside);
  if (!options.autocast) return kept;
  // 16-bit copies of c_attn (3 C^2), c_proj (C^2), the feed-forward's two (4 C^2 each) and the
  // table.
  const int64_t copied_blocks = options.gradient_checkpointing ? 1 : layers;
  return kept + 2 * (copied_blocks * 12 * channels + config.vocab_size) * channels;
}

std::string describe(const MemoryEstimate& estimate) {
  std::string text = row("weights", estimate.weights) + row("gradients", estimate.gradients) +
                     row("optimizer state", estimate.optimizer);
  if (estimate.activations) text += row("activations", *estimate.activations);
  return text + row("together", estimate.total());
}

}  // namespace tendril
