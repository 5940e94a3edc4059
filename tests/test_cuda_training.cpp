// A small GPT-2 on a GPU: it learns what the CPU's learns, repeats itself to the bit, never makes
// the host wait, keeps to its memory, and moves between devices and files.
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include <tendril/tendril.h>

#include "cuda_tools.h"
#include "file_tools.h"
#include "op_harness.h"

using namespace tendril;
using namespace tendril::testing;
using nn::models::Gpt2;

namespace {

const Device kGpu = gpu_under_test();
constexpr int64_t kVocabulary = 61, kBatch = 4, kContext = 32;

nn::models::Gpt2Config config(double dropout = 0.0) {
  return {.vocab_size = kVocabulary,
          .n_positions = kContext,
          .n_layer = 2,
          .n_head = 2,
          .n_embd = 64,
          .embd_pdrop = dropout,
          .attn_pdrop = dropout,
          .resid_pdrop = dropout};
}

// Counting upwards modulo the vocabulary from a random start: (B, T + 1).
Tensor counting(uint64_t step) {
  const Tensor start = randint(0, kVocabulary, {kBatch}, i64, RandomKey{5, step, Stream::data});
  std::vector<int64_t> tokens;
  for (const int64_t first : start.to_vector<int64_t>())
    for (int64_t t = 0; t <= kContext; ++t) tokens.push_back((first + 3 * t) % kVocabulary);
  return Tensor::from(tokens, {kBatch, kContext + 1});
}

// A model with its optimizer. Weights and data are those of the CPU: drawn there, then moved.
struct Training {
  Gpt2 model;
  optim::AdamW optimizer;
  Device device;
  uint64_t steps = 0;

  Training(Device on, DType dtype, double dropout = 0.0)
      : model((manual_seed(3), config(dropout))),
        optimizer(model.named_parameters(), {.lr = 3e-3}),
        device(on) {
    model.to(dtype);
    model.to(device);
  }

  Tensor loss_of(const Tensor& tokens) {
    return model.loss(slice(tokens, 1, 0, kContext), slice(tokens, 1, 1, kContext + 1));
  }

  // Everything but the reading of the loss.
  Tensor step(const Tensor& tokens) {
    optimizer.zero_grad();
    const Tensor loss = loss_of(tokens);
    loss.backward();
    optim::clip_grad_norm_async(optimizer.parameters(), 1.0);
    optimizer.step();
    return loss.detach();
  }

  std::vector<double> losses(int count) {
    std::vector<double> all;
    for (int i = 0; i < count; ++i)
      all.push_back(step(to(counting(steps++), device)).item<double>());
    return all;
  }
};

// On the emulated GPU a step takes a second under sanitizers; few of them reach the same code.
int steps_on_gpu(int count, int when_emulated) { return gpu_is_emulated() ? when_emulated : count; }

double farthest(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0.0;
  for (size_t i = 0; i < a.size(); ++i)
    if (!(std::fabs(a[i] - b[i]) <= worst)) worst = std::fabs(a[i] - b[i]);
  return worst;
}

}  // namespace

TEST_SUITE("cuda_training") {
  TEST_CASE("50 steps on a GPU follow the CPU") {
    if (skipped_without_gpu()) return;
    const int count = steps_on_gpu(50, 12);
    std::vector<double> cpu = Training(Device::cpu(), f32).losses(50);
    CHECK(cpu.back() < 0.7 * cpu.front());
    cpu.resize(static_cast<size_t>(count));
    const std::vector<double> gpu = Training(kGpu, f32).losses(count);
    CHECK(farthest(gpu, cpu) <= 1e-3);
    const std::vector<double> half = Training(kGpu, bf16).losses(count);
    CHECK(farthest(half, cpu) <= 0.15);
    CHECK(farthest(half, Training(Device::cpu(), bf16).losses(count)) <= 0.15);
  }

  TEST_CASE("dropout on a GPU drops what it drops on the CPU") {
    if (skipped_without_gpu()) return;
    const std::vector<double> cpu = Training(Device::cpu(), f32, 0.2).losses(5);
    CHECK(farthest(Training(kGpu, f32, 0.2).losses(5), cpu) <= 1e-3);
    // The comparison can fail: without dropout the losses are others from the first step on.
    CHECK(farthest(Training(kGpu, f32).losses(5), cpu) > 1e-3);
  }

  TEST_CASE("the same run on a GPU gives the same bits") {
    if (skipped_without_gpu()) return;
    for (const DType dtype : {f32, bf16}) {
      const int count = steps_on_gpu(20, 5);
      const std::vector<double> first = Training(kGpu, dtype, 0.1).losses(count);
      CHECK(Training(kGpu, dtype, 0.1).losses(count) == first);
    }
  }

  TEST_CASE("a step never makes the host wait") {
    if (skipped_without_gpu()) return;
    for (const DType dtype : {f32, bf16}) {
      Training training(kGpu, dtype, 0.1);
      const Tensor tokens = to(counting(0), kGpu);
      for (int i = 0; i < 3; ++i) training.step(tokens);
      cuda::synchronize(kGpu);
      const int64_t before = cuda::synchronization_count();
      CHECK(before > 0);
      const Tensor loss = training.step(tokens);
      CHECK(cuda::synchronization_count() == before);
      CHECK(std::isfinite(loss.item<double>()));
      CHECK(cuda::synchronization_count() > before);
    }
  }

  TEST_CASE("memory of a GPU is flat after the second step") {
    if (skipped_without_gpu()) return;
    const int64_t outside = memory_stats(kGpu).current_bytes;
    {
      Training training(kGpu, bf16, 0.1);
      const Tensor tokens = to(counting(0), kGpu);
      for (int i = 0; i < 2; ++i) training.step(tokens);
      const MemoryStats settled = memory_stats(kGpu);
      CHECK(settled.current_bytes > outside);
      for (int i = 0; i < steps_on_gpu(20, 5); ++i) {
        training.step(tokens);
        CHECK(memory_stats(kGpu).current_bytes == settled.current_bytes);
      }
      CHECK(memory_stats(kGpu).system_allocations == settled.system_allocations);
    }
    CHECK(memory_stats(kGpu).current_bytes == outside);
  }

  TEST_CASE("moving a model keeps handles, tied weights and the optimizer's grip") {
    if (skipped_without_gpu()) return;
    manual_seed(1);
    Gpt2 model(config());
    const Tensor embedding = model.parameter("transformer.wte.weight");
    optim::AdamW optimizer(model.named_parameters(), {.lr = 1e-2});
    const int64_t count = model.parameter_count();
    model.to(kGpu);
    CHECK(embedding.device() == kGpu);
    CHECK(model.parameter_count() == count);
    for (const NamedTensor& entry : model.named_parameters()) CHECK(entry.tensor.device() == kGpu);
    const std::vector<float> before = embedding.to_vector<float>();
    const Tensor tokens = to(counting(0), kGpu);
    model.loss(slice(tokens, 1, 0, kContext), slice(tokens, 1, 1)).backward();
    CHECK(embedding.grad().device() == kGpu);
    optimizer.step();
    CHECK(embedding.to_vector<float>() != before);
    model.to(Device::cpu());
    CHECK(embedding.device().is_cpu());
    CHECK(embedding.grad().device().is_cpu());
    const std::vector<float> between = embedding.to_vector<float>();
    optimizer.step();  // its state follows
    CHECK(embedding.to_vector<float>() != between);
    CHECK(optimizer.state_dict().at("transformer.wte.weight.exp_avg").device().is_cpu());
  }
}

namespace {

bool same_state(const StateDict& a, const StateDict& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, tensor] : a)
    if (!b.contains(name) || !same_bits(tensor, b.at(name))) return false;
  return true;
}

}  // namespace

TEST_SUITE("cuda_training") {
  TEST_CASE("what a GPU saves the CPU loads, and the other way round") {
    if (skipped_without_gpu()) return;
    const TemporaryFolder folder;
    Training trained(kGpu, bf16);
    trained.losses(3);
    const StateDict model = trained.model.state_dict(), state = trained.optimizer.state_dict();
    save_safetensors(folder.file("model.safetensors"), model);
    save_safetensors(folder.file("optimizer.safetensors"), state);

    Training here(Device::cpu(), bf16);
    here.model.load_state_dict(load_safetensors(folder.file("model.safetensors")));
    here.optimizer.load_state_dict(load_safetensors(folder.file("optimizer.safetensors")));
    CHECK(same_state(here.model.state_dict(), model));
    CHECK(same_state(here.optimizer.state_dict(), state));
    here.model.save_pretrained(folder.file("pretrained"));

    Training back(kGpu, bf16);
    back.model.load_state_dict(load_safetensors(folder.file("pretrained/model.safetensors")));
    back.optimizer.load_state_dict(here.optimizer.state_dict());
    CHECK(back.model.parameters().front().device() == kGpu);
    CHECK(same_state(back.model.state_dict(), model));
    back.steps = trained.steps;
    CHECK(back.losses(3) == trained.losses(3));  // it goes on to the bit
  }

  TEST_CASE("strided tensors of a GPU are saved") {
    if (skipped_without_gpu()) return;
    const TemporaryFolder folder;
    const Tensor x = rand({5, 7});
    save_safetensors(folder.file("x.safetensors"), {{"x", transpose(to(x, kGpu))}});
    CHECK(same_bits(load_safetensors(folder.file("x.safetensors")).at("x"), transpose(x)));
  }

  TEST_CASE("a GPU writes the CPU's tokens") {
    if (skipped_without_gpu()) return;
    Training training(Device::cpu(), f32);
    training.losses(60);
    Gpt2& model = training.model;
    model.to(kGpu);
    const std::vector<int64_t> prompt = {4, 7, 10};
    // More than the context holds.
    const nn::GenerateOptions greedy = {.max_new_tokens = steps_on_gpu(50, 34), .temperature = 0};
    nn::GenerateOptions uncached = greedy;
    uncached.use_cache = false;
    const std::vector<int64_t> gpu = nn::generate(model, prompt, greedy);
    CHECK(nn::generate(model, prompt, uncached) == gpu);
    model.to(Device::cpu());
    CHECK(nn::generate(model, prompt, greedy) == gpu);
  }

  TEST_CASE("a token out of range is an Error at the next wait, and the program goes on") {
    if (skipped_without_gpu()) return;
    Training training(kGpu, f32);
    const Tensor good = to(counting(0), kGpu);
    Tensor bad = counting(0);
    fill_(select(select(bad, 0, 1), 0, 2), static_cast<double>(kVocabulary));
    bad = to(bad, kGpu);
    const double before = training.loss_of(good).item<double>();
    std::string message;
    try {
      training.loss_of(bad).item<double>();
    } catch (const Error& error) {
      message = error.what();
    }
    CHECK(message.find("61") != std::string::npos);
    CHECK(message.find("out of range") != std::string::npos);
    CHECK(training.loss_of(good).item<double>() == before);
    CHECK(std::isfinite(training.losses(2).back()));
  }

  TEST_CASE("indices and weights that are wrong are Errors at the next wait") {
    if (skipped_without_gpu()) return;
    const Tensor x = to(rand({4, 3}), kGpu);
    const Tensor bad = to(Tensor::from<int64_t>({0, 4}, {2}), kGpu);
    const Tensor square = to(Tensor::from<int64_t>({0, -1, 2, 1}, {4, 1}), kGpu);
    const auto message = [](const auto& compute) {
      return error_of([&] { compute().template to_vector<float>(); });
    };
    CHECK(contains_text(message([&] { return index_select(x, 0, bad); }), "[index_select]"));
    CHECK(contains_text(message([&] { return gather(x, 1, square); }), "got -1"));
    CHECK(contains_text(message([&] {
                          return scatter_add(x, 1, square, ones({4, 1}, f32, kGpu));
                        }),
                        "[scatter_add]"));
    CHECK(contains_text(message([&] { return one_hot(bad, 3); }), "got 4"));
    CHECK(contains_text(message([&] { return multinomial(neg(x)); }), "not negative"));
    CHECK(contains_text(message([&] { return multinomial(zeros_like(x)); }), "positive"));
    CHECK(message([&] { return index_select(x, 0, slice(bad, 0, 0, 1)); }).empty());
  }

  TEST_CASE("a tensor of another device is an Error that says how to move it") {
    if (skipped_without_gpu()) return;
    Training training(kGpu, f32);
    CHECK_THROWS_AS(training.loss_of(counting(0)), Error);
    CHECK_THROWS_AS(zeros({2}) + zeros({2}, f32, kGpu), Error);
  }
}
