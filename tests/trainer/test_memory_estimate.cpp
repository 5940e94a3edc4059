// The memory of a run, worked out before it starts, against what it takes.
#include <doctest/doctest.h>

#include <tendril/autograd/autocast.h>
#include <tendril/core/allocator.h>
#include <tendril/core/creation.h>
#include <tendril/trainer/decay_parameters.h>
#include <tendril/trainer/memory_estimate.h>
#include <tendril/trainer/optimizer_choice.h>
#include "test_tools.h"
#include "trainer/trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

const char* const kOptimizers[] = {"adamw_torch",
                                   "adam",
                                   "sgd",
                                   "adagrad",
                                   "rmsprop",
                                   "adafactor",
                                   "lion_32bit",
                                   "muon",
                                   "adamw_8bit",
                                   "lion_8bit",
                                   "ademamix",
                                   "stable_adamw",
                                   "adamw_torch_fused",
                                   "schedule_free_adamw",
                                   "schedule_free_sgd",
                                   "adamw_bnb_8bit",
                                   "galore_adamw",
                                   "galore_adamw_8bit",
                                   "galore_adafactor",
                                   "apollo_adamw",
                                   "apollo_adamw_layerwise"};

TrainingArguments args_for(const std::string& optim) {
  TrainingArguments args;
  args.optim = optim;
  if (optim.starts_with("galore") || optim.starts_with("apollo")) {
    args.optim_target_modules = {"attn", "mlp"};
    args.optim_args = "rank=8";
  }
  return args;
}

nn::models::Gpt2Config small_config() {
  return {.vocab_size = 50,
          .n_positions = 128,
          .n_layer = 2,
          .n_head = 2,
          .n_embd = 64,
          .embd_pdrop = 0.0,
          .attn_pdrop = 0.0,
          .resid_pdrop = 0.0};
}

// Bytes of the tensors that the optimizer has after one update; counts, and numbers that the host
// has, aside.
int64_t measured_state(nn::Module& model, const TrainingArguments& args) {
  const auto optimizer =
      make_optimizer(args, parameter_groups(model, decay_parameter_names(model), args));
  for (Tensor p : optimizer->parameters())
    p.set_grad(randn(p.shape(), p.dtype(), RandomKey{.seed = 1}));
  optimizer->step();
  int64_t bytes = 0;
  for (const auto& [name, tensor] : optimizer->state_dict())
    if (name.ends_with(".scaled_norm") || (tensor.dtype() != i64 && tensor.dtype() != f64))
      bytes += tensor.nbytes();
  return bytes;
}

// What is live between forward and backward; the loss has made the embedding's gradient already.
int64_t measured_activations(nn::models::Gpt2& model, int64_t batch, int64_t length,
                             bool autocast) {
  const Tensor tokens = zeros({batch, length}, i64);
  const int64_t before = memory_stats(Device::cpu()).current_bytes;
  const AutocastGuard guard(autocast ? std::optional<DType>(bf16) : std::nullopt);
  const Tensor loss = model.loss(tokens, tokens);
  const int64_t embedding = model.config().vocab_size * model.config().n_embd * 4;
  return memory_stats(Device::cpu()).current_bytes - before - embedding;
}

}  // namespace

TEST_SUITE("memory_estimate") {
  TEST_CASE("the state of every optimizer, f32 and bf16") {
    for (const char* optim : kOptimizers)
      for (const DType dtype : {f32, bf16}) {
        CAPTURE(optim);
        CAPTURE(name(dtype));
        nn::models::Gpt2 model(small_config());
        model.to(dtype);
        const TrainingArguments args = args_for(optim);
        CHECK(estimate_memory(model, args).optimizer == measured_state(model, args));
      }
  }

  TEST_CASE("bytes per parameter, by hand") {
    nn::models::Gpt2 model(small_config());
    const int64_t n = model.parameter_count();
    const auto estimate = [&](const char* optim, const char* optim_args = nullptr) {
      TrainingArguments args = args_for(optim);
      if (optim_args) args.optim_args = optim_args;
      return estimate_memory(model, args);
    };
    CHECK(estimate("adamw_torch").weights == 4 * n);
    CHECK(estimate("adamw_torch").gradients == 4 * n);
    CHECK(estimate("adamw_torch").optimizer == 8 * n);
    CHECK(estimate("adamw_torch", "amsgrad=true").optimizer == 12 * n);
    CHECK(estimate("sgd").optimizer == 0);
    CHECK(estimate("sgd", "momentum=0.9").optimizer == 4 * n);
    CHECK(estimate("ademamix").optimizer == 12 * n);
    // Eight bits for the four matrices of each block alone: 12 C^2 of them, in blocks of 256.
    const int64_t quantized = 2 * 12 * 64 * 64;
    CHECK(estimate("adamw_8bit").optimizer ==
          8 * (n - quantized) + 2 * quantized + 8 * quantized / 256);
    // Rank 8, of the longer sides C, 3 C, 4 C and 4 C: 12 C per block; the shorter ones are C.
    const int64_t moments = 2 * 2 * 12 * 64 * 8, bases = 2 * 4 * 64 * 8;
    CHECK(estimate("galore_adamw").optimizer == 8 * (n - quantized) + 4 * (moments + bases));
    const int64_t norms = 2 * 4 * 8;  // APOLLO's one number for each matrix
    CHECK(estimate("apollo_adamw").optimizer == 8 * (n - quantized) + 4 * moments + norms);
    CHECK(estimate("apollo_adamw", "rank=1, scale_type=tensor").optimizer ==
          8 * (n - quantized) + 4 * moments / 8 + norms);
    CHECK(estimate("galore_adamw_8bit", "rank=8, min_8bit_size=0").optimizer <
          estimate("galore_adamw").optimizer);
    model.to(bf16);
    CHECK(estimate("adamw_torch").weights == 2 * n);
    CHECK(estimate("adamw_torch").optimizer == 12 * n);  // with masters
    CHECK(estimate("adamw_torch", "stochastic_rounding=true").optimizer == 8 * n);
  }

  TEST_CASE("GaLore by hand, and what updates during backward") {
    nn::models::Gpt2 model(small_config());
    const int64_t n = model.parameter_count();
    TrainingArguments args;
    args.optim = "galore_adamw";
    args.optim_args = "rank=8";
    args.optim_target_modules = {"attn", "mlp"};
    // Per block (m, n) = (192, 64), (64, 64), (256, 64), (256, 64): 4 r (2 m + n) bytes each.
    const int64_t projected = 2 * 4 * 8 * (448 + 192 + 576 + 576);
    CHECK(estimate_memory(model, args).optimizer == 8 * (n - 2 * 12 * 64 * 64) + projected);
    CHECK(estimate_memory(model, args).gradients == 4 * n);
    args.optim += "_layerwise";
    CHECK(estimate_memory(model, args).optimizer == 8 * (n - 2 * 12 * 64 * 64) + projected);
    CHECK(estimate_memory(model, args).gradients == 4 * 64 * 256);  // of a c_fc
    args = {};
    args.optim = "lomo";
    CHECK(estimate_memory(model, args).optimizer == 0);
    CHECK(estimate_memory(model, args).gradients == 4 * 64 * 256);
  }

  TEST_CASE("frozen parameters have neither gradients nor state") {
    nn::models::Gpt2 model(small_config());
    const MemoryEstimate whole = estimate_memory(model, {});
    for (const NamedTensor& parameter : model.named_parameters())
      if (parameter.name == "transformer.wte.weight") {
        Tensor table = parameter.tensor;
        table.requires_grad_(false);
      }
    const MemoryEstimate frozen = estimate_memory(model, {});
    CHECK(frozen.weights == whole.weights);
    CHECK(whole.gradients - frozen.gradients == 50 * 64 * 4);
    CHECK(whole.optimizer - frozen.optimizer == 50 * 64 * 8);
  }

  TEST_CASE("activations of a GPT-2 within a quarter") {
    for (const bool autocast : {false, true})
      for (const bool checkpointing : {false, true})
        for (const int64_t layers : {2, 5}) {
          CAPTURE(autocast);
          CAPTURE(checkpointing);
          CAPTURE(layers);
          nn::models::Gpt2Config config = small_config();
          config.n_layer = layers;
          nn::models::Gpt2 model(config);
          model.set_gradient_checkpointing(checkpointing);
          TrainingArguments args;
          args.per_device_train_batch_size = 4;
          args.bf16 = autocast;
          args.gradient_checkpointing = checkpointing;
          auto estimate = static_cast<double>(*estimate_memory(model, args).activations);
          // Recomputation happens in backward, which is not measured here.
          if (checkpointing) estimate -= 4.0 * 128 * 64 * (autocast ? 30 : 52);
          const auto measured = static_cast<double>(measured_activations(model, 4, 128, autocast));
          CHECK(std::abs(estimate - measured) <= 0.25 * measured);
        }
  }

  TEST_CASE("a description names every part") {
    const std::string text = describe({.weights = 3 << 20, .gradients = 1 << 19, .optimizer = 0});
    CHECK(contains(text, "weights                   3.0 MiB"));
    CHECK(contains(text, "gradients                 0.5 MiB"));
    CHECK(contains(text, "together                  3.5 MiB"));
    CHECK_FALSE(contains(text, "activations"));
  }
}
