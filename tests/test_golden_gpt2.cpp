// A tiny GPT-2 of transformers and ten of its training steps (tests/golden/gpt2.py) against ours.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>

#include <tendril/autograd/tape.h>
#include <tendril/nn/models/gpt2.h>
#include <tendril/optim/adamw.h>
#include <tendril/optim/clip.h>

#include "golden_values.h"

namespace tendril::testing {
namespace {

const nn::models::Gpt2Config kConfig = {.vocab_size = 97,
                                        .n_positions = 32,
                                        .n_layer = 2,
                                        .n_head = 4,
                                        .n_embd = 48,
                                        .embd_pdrop = 0.0,
                                        .attn_pdrop = 0.0,
                                        .resid_pdrop = 0.0};
constexpr int64_t kSteps = 10, kBatches = 2, kChannels = 48;

// The tensors named prefix/NAME, as NAME.
StateDict part(const StateDict& golden, const std::string& prefix) {
  StateDict result;
  for (const auto& [name, tensor] : golden) {
    if (name.starts_with(prefix + "/")) result[name.substr(prefix.size() + 1)] = tensor;
  }
  return result;
}

Tensor batch(const StateDict& golden, const std::string& name, int64_t step) {
  return select(golden.at(name), 0, step % kBatches);
}

// The keys' bias does not influence the loss; what AdamW makes of its gradient is rounding noise.
Tensor without_key_bias(const std::string& name, const Tensor& parameter) {
  if (!name.ends_with("attn.c_attn.bias")) return parameter;
  return cat({slice(parameter, 0, 0, kChannels), slice(parameter, 0, 2 * kChannels)});
}

double largest_difference(const Tensor& a, const Tensor& b) {
  return max(abs(a - b)).item<double>();
}

}  // namespace

TEST_SUITE("golden_gpt2") {
  TEST_CASE("logits, loss and every gradient of a GPT-2 agree with transformers") {
    const StateDict golden = load_golden("gpt2");
    nn::models::Gpt2 model(kConfig);
    const nn::LoadReport report = model.load_state_dict(part(golden, "weights"));
    CHECK(report.converted.empty());

    const Tensor logits = model.forward(batch(golden, "tokens", 0));
    CHECK(max_norm_deviation(logits, golden.at("logits")) < 1e-5);
    const Tensor loss = model.loss(batch(golden, "tokens", 0), batch(golden, "targets", 0));
    CHECK(std::abs(loss.item<double>() - golden.at("loss").item<double>()) < 1e-5);

    loss.backward();
    const StateDict gradients = part(golden, "grad");
    CHECK(model.named_parameters().size() == gradients.size());
    for (const NamedTensor& parameter : model.named_parameters()) {
      const std::string& name = parameter.name;
      CAPTURE(name);
      REQUIRE(gradients.count(name));
      REQUIRE(parameter.tensor.grad().defined());
      CHECK(max_norm_deviation(parameter.tensor.grad(), gradients.at(name)) < 1e-4);
    }
  }

  TEST_CASE("ten AdamW steps of a GPT-2 agree with PyTorch") {
    const StateDict golden = load_golden("gpt2");
    nn::models::Gpt2 model(kConfig);
    model.load_state_dict(part(golden, "weights"));
    const optim::DecaySplit split = optim::split_for_decay(model.named_parameters());
    optim::AdamWOptions options{
        .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};
    optim::AdamW optimizer(split.decayed, options);
    options.weight_decay = 0.0;
    optimizer.add_param_group(split.kept, options);

    const auto losses = golden.at("losses").to_vector<double>();
    const auto norms = golden.at("grad_norms").to_vector<double>();
    for (int64_t step = 0; step < kSteps; ++step) {
      CAPTURE(step);
      const Tensor loss = model.loss(batch(golden, "tokens", step), batch(golden, "targets", step));
      CHECK(std::abs(loss.item<double>() - losses[step]) < 1e-4);
      optimizer.zero_grad();
      loss.backward();
      const double norm = optim::clip_grad_norm(optimizer.parameters(), 1.0);
      CHECK(std::abs(norm - norms[step]) < 1e-4 * norms[step]);
      optimizer.step();
    }

    // Weights moved by up to 1e-2. PyTorch's f32 and f64 runs end 3e-5 apart.
    const StateDict expected = part(golden, "final");
    NoGradGuard no_grad;
    for (const NamedTensor& parameter : model.named_parameters()) {
      const std::string& name = parameter.name;
      CAPTURE(name);
      REQUIRE(expected.count(name));
      CHECK(largest_difference(without_key_bias(name, parameter.tensor),
                               without_key_bias(name, expected.at(name))) < 1e-4);
    }
  }

  // By hand, for the way back: set TENDRIL_SAVE_FOLDER, run with --no-skip -tc="*opens in
  // transformers*", then python3 tests/golden/check_transformers.py $TENDRIL_SAVE_FOLDER
  // $TENDRIL_SAVE_FOLDER/expected.safetensors
  TEST_CASE("what we save opens in transformers" * doctest::skip()) {
    const char* variable = std::getenv("TENDRIL_SAVE_FOLDER");
    REQUIRE(variable != nullptr);
    const std::filesystem::path folder(variable);
    const StateDict golden = load_golden("gpt2");
    nn::models::Gpt2 model(kConfig);
    model.load_state_dict(part(golden, "weights"));
    model.eval();
    NoGradGuard no_grad;
    const Tensor tokens = contiguous(batch(golden, "tokens", 1));
    model.save_pretrained(folder);
    save_safetensors((folder / "expected.safetensors").string(),
                     {{"tokens", tokens}, {"logits", model.forward(tokens)}});
    CHECK(std::filesystem::exists(folder / "config.json"));
    CHECK(std::filesystem::exists(folder / "model.safetensors"));
  }
}

}  // namespace tendril::testing
