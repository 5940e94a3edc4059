// Two GPUs in one process: whatever runs on the first runs on the second, with the same numbers and
// the second's own memory and streams; what needs both says where its tensors are. On one GPU there
// is nothing to see. Whole test files run on the second one with TENDRIL_TEST_GPU=1.
#include <doctest/doctest.h>

#include <string>
#include <thread>
#include <vector>

#include <tendril/tendril.h>

#include "cuda_tools.h"
#include "file_tools.h"
#include "op_harness.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

const Device kFirst = Device::cuda(0), kSecond = Device::cuda(1);

// Weights after some steps of a small model that begins with the same numbers everywhere.
StateDict trained_on(Device device, const std::string& kind) {
  manual_seed(11);
  nn::models::Gpt2 model({.vocab_size = 29,
                          .n_positions = 8,
                          .n_layer = 1,
                          .n_head = 2,
                          .n_embd = 16});  // with dropout
  model.to(device);
  std::unique_ptr<optim::Optimizer> optimizer;
  if (kind == "adamw")
    optimizer =
        std::make_unique<optim::AdamW>(model.named_parameters(), optim::AdamWOptions{.lr = 1e-2});
  else
    optimizer = std::make_unique<optim::Sgd>(model.named_parameters(),
                                             optim::SgdOptions{.lr = 1e-2, .momentum = 0.9});
  for (uint64_t step = 0; step < 3; ++step) {
    const Tensor tokens = to(randint(0, 29, {2, 8}, i64, RandomKey{step, 0, Stream::data}), device);
    model.loss(tokens, tokens).backward();
    optim::clip_grad_norm(optimizer->parameters(), 0.5);
    optimizer->step();
    optimizer->zero_grad();
  }
  StateDict result;
  for (const auto& [name, tensor] : model.state_dict()) {
    CHECK(tensor.device() == device);
    result[name] = to(tensor, Device::cpu());
  }
  for (const auto& [name, tensor] : optimizer->state_dict())
    result["optimizer." + name] = to(tensor, Device::cpu());
  return result;
}

bool same_state(const StateDict& a, const StateDict& b) {
  if (a.size() != b.size() || a.empty()) return false;
  for (const auto& [name, tensor] : a)
    if (!b.contains(name) || !same_bits(tensor, b.at(name))) return false;
  return true;
}

}  // namespace

TEST_SUITE("cuda_devices") {
  TEST_CASE("each GPU has its own tensors, and there is an end to them") {
    if (skipped_without_two_gpus()) return;
    const Tensor a = full({3}, 2.0, f32, kFirst), b = full({3}, 5.0, f32, kSecond);
    CHECK(a.device() == kFirst);
    CHECK((b * b).device() == kSecond);
    CHECK((b * b + b).to_vector<float>() == std::vector<float>(3, 30.0f));
    CHECK((a + a).to_vector<float>() == std::vector<float>(3, 4.0f));
    CHECK(cuda::properties(kSecond).multiprocessors > 0);
    CHECK(cuda::free_bytes(kSecond) > 0);
    const Device beyond = Device::cuda(cuda::device_count());
    CHECK_THROWS_AS(zeros({2}, f32, beyond), Error);
    CHECK_THROWS_AS(cuda::synchronize(beyond), Error);
    CHECK_THROWS_AS(to(a, beyond), Error);
  }

  TEST_CASE("training on the second GPU gives the first's bits") {
    if (skipped_without_two_gpus()) return;
    for (const std::string kind : {"adamw", "sgd"}) {
      CAPTURE(kind);
      CHECK(same_state(trained_on(kSecond, kind), trained_on(kFirst, kind)));
    }
  }

  TEST_CASE("random numbers do not depend on the GPU") {
    if (skipped_without_two_gpus()) return;
    const auto draws = [](Device device) {
      manual_seed(4);
      const Tensor x = ones({1000}, f32, device);
      std::vector<float> all = dropout(x, 0.3).to_vector<float>();
      const std::vector<int64_t> chosen = multinomial(x + 1.0).to_vector<int64_t>();
      all.insert(all.end(), chosen.begin(), chosen.end());
      const std::vector<float> after = rand({5}).to_vector<float>();  // as many were drawn
      all.insert(all.end(), after.begin(), after.end());
      return all;
    };
    CHECK(draws(kSecond) == draws(kFirst));
  }

  TEST_CASE("copies between GPUs, of every dtype and layout") {
    if (skipped_without_two_gpus()) return;
    for (const auto& [from, to_device] : {std::pair{kFirst, kSecond}, std::pair{kSecond, kFirst}}) {
      for (const DType dtype : {f64, f32, bf16, f16, i64, i32, u8}) {
        CAPTURE(dtype);
        const Tensor here = to(randint(0, 100, {5, 7}, i64, RandomKey{1, 2, Stream::data}), dtype);
        const Tensor there = to(here, from);
        CHECK(to(there, to_device).device() == to_device);
        CHECK(same_bits(to(there, to_device), here));
        CHECK(same_bits(to(transpose(there), to_device), transpose(here)));
        const Tensor target = zeros({5, 7}, dtype, to_device);
        copy_(target, there);
        CHECK(same_bits(target, here));
        const Tensor strided = zeros({7, 5}, dtype, to_device);
        copy_(transpose(strided), there);
        CHECK(same_bits(transpose(strided), here));
      }
      const Tensor row = Tensor::from<float>({1, 2, 3}, {3});
      const Tensor wide = zeros({2, 3}, f64, to_device);
      copy_(wide, to(row, from));  // converted and repeated
      CHECK(wide.to_vector<double>() == std::vector<double>{1, 2, 3, 1, 2, 3});
    }
  }

  TEST_CASE("a copy between GPUs keeps its place in the streams of both") {
    if (skipped_without_two_gpus()) return;
    const cuda::Stream of_first(kFirst), of_second(kSecond);
    const cuda::StreamGuard first(of_first), second(of_second);
    for (int i = 0; i < 20; ++i) {
      Tensor x = full({257, 65}, i, f32, kFirst);
      for (int n = 0; n < 5; ++n) x = x + 1.0;  // queued, perhaps not done
      Tensor y = full({257, 65}, -1.0, f32, kSecond);
      y = to(x, kSecond) + y;  // takes over memory that y's may still be read
      const Tensor back = to(y * 2.0, kFirst);
      CHECK(sum(back).item<double>() == 257.0 * 65.0 * 2.0 * (i + 4));
    }
  }

  TEST_CASE("gradients stay on the GPU of their tensor") {
    if (skipped_without_two_gpus()) return;
    const Tensor host = rand({4, 6}, f64);
    Tensor x = to(host, kSecond).requires_grad_(), y = clone(host).requires_grad_();
    sum(square(matmul(transpose(x), x))).backward();
    sum(square(matmul(transpose(y), y))).backward();
    CHECK(x.grad().device() == kSecond);
    CHECK(difference(x.grad(), y.grad()) < 1e-12);
    // From one GPU to the other and back through the tape.
    Tensor w = to(host, kFirst).requires_grad_();
    sum(square(to(w * 3.0, kSecond))).backward();
    CHECK(w.grad().device() == kFirst);
    CHECK(difference(w.grad(), host * 18.0) < 1e-12);
  }

  TEST_CASE("every GPU's memory is counted on its own") {
    if (skipped_without_two_gpus()) return;
    const MemoryStats first = memory_stats(kFirst), second = memory_stats(kSecond);
    {
      const Tensor x = zeros({1 << 16}, f32, kSecond);
      CHECK(memory_stats(kSecond).current_bytes == second.current_bytes + (4 << 16));
      CHECK(memory_stats(kSecond).allocations == second.allocations + 1);
      CHECK(memory_stats(kFirst).current_bytes == first.current_bytes);
      CHECK(memory_stats(kFirst).allocations == first.allocations);
    }
    CHECK(memory_stats(kSecond).current_bytes == second.current_bytes);
    const int64_t free = cuda::free_bytes(kSecond);
    const int64_t cached = memory_stats(kSecond).reserved_bytes;
    empty_cache(kSecond);
    CHECK(memory_stats(kSecond).reserved_bytes < cached);
    CHECK(cuda::free_bytes(kSecond) > free);  // unless another program takes more meanwhile
  }

  TEST_CASE("tensors of two GPUs do not mix") {
    if (skipped_without_two_gpus()) return;
    const Tensor a = ones({4, 4}, f32, kFirst), b = ones({4, 4}, f32, kSecond);
    const Tensor ids = zeros({4}, i64, kSecond);
    const auto says_both = [](const auto& body) {
      const std::string message = error_of(body);
      CAPTURE(message);
      CHECK(contains_text(message, "cuda:0"));
      CHECK(contains_text(message, "cuda:1"));
    };
    says_both([&] { a + b; });
    says_both([&] { where(ones({4, 4}, bool_, kFirst), b, b); });
    says_both([&] { matmul(a, b); });
    says_both([&] { cat({a, b}, 0); });
    says_both([&] { embedding(ids, a); });
    says_both([&] { index_select(a, 0, ids); });
    says_both([&] { gather(a, 0, zeros({4, 4}, i64, kSecond)); });
    says_both([&] { layer_norm(a, ones({4}, f32, kSecond), ones({4}, f32, kSecond)); });
    says_both([&] { rms_norm(a, ones({4}, f32, kSecond)); });
    says_both([&] { linear(a, b); });
    says_both([&] { cross_entropy(a, ids); });
    says_both([&] { add_(a, b); });
    says_both([&] {
      scaled_dot_product_attention(ones({1, 1, 4, 8}, f32, kFirst),
                                   ones({1, 1, 4, 8}, f32, kSecond),
                                   ones({1, 1, 4, 8}, f32, kFirst));
    });
    Tensor x = ones({4, 4}, f32, kFirst).requires_grad_();
    says_both([&] { (x * 2.0).backward(b); });
  }

  TEST_CASE("threads work on GPUs of their own, and leave the others' streams alone") {
    if (skipped_without_two_gpus()) return;
    const void* stream = cuda::Stream::current(kFirst).handle();
    std::vector<double> sums(4, 0.0);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < sums.size(); ++i)
      threads.emplace_back([&sums, i] {
        const Device device = Device::cuda(static_cast<int>(i % 2));
        const cuda::Stream own(device);
        const cuda::StreamGuard guard(own);
        Tensor x = full({100}, static_cast<double>(i), f64, device);
        for (int n = 0; n < 50; ++n) x = x + 1.0;
        sums[i] = sum(x).item<double>();
      });
    for (std::thread& thread : threads) thread.join();
    for (size_t i = 0; i < sums.size(); ++i)
      CHECK(sums[i] == 100.0 * (50.0 + static_cast<double>(i)));
    CHECK(cuda::Stream::current(kFirst).handle() == stream);
    CHECK(ones({2}, f32, Device::cuda()).device() == kFirst);
  }

  TEST_CASE("an index out of range is told by the GPU that met it") {
    if (skipped_without_two_gpus()) return;
    const Tensor x = ones({4, 3}, f32, kSecond);
    const Tensor bad = to(Tensor::from<int64_t>({0, 4}, {2}), kSecond);
    const Tensor rows = index_select(x, 0, bad);
    CHECK(sum(ones({2}, f32, kFirst)).item<float>() == 2.0f);
    CHECK(contains_text(error_of([&] { rows.to_vector<float>(); }), "got 4"));
    CHECK(sum(x).item<float>() == 12.0f);
  }
}
