// cuda::Graph: what it replays is what the eager step computes, and what it cannot record is an
// Error.
#include <doctest/doctest.h>
#include <tendril/tendril.h>

#include <string>
#include <vector>

#include "cuda_tools.h"
#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

const Device kGpu = gpu_under_test();

nn::models::Gpt2Config small() {
  return {.vocab_size = 61,
          .n_positions = 16,
          .n_layer = 2,
          .n_head = 2,
          .n_embd = 32,
          .embd_pdrop = 0.0,
          .attn_pdrop = 0.0,
          .resid_pdrop = 0.0};
}

Tensor batch(uint64_t number) {
  return to(randint(0, 61, {4, 17}, i64, RandomKey{number, 0, Stream::data}), kGpu);
}

}  // namespace

TEST_SUITE("cuda_graph") {
  TEST_CASE("a replayed step is the eager one") {
    if (skipped_without_gpu()) return;
    manual_seed(5);
    nn::models::Gpt2 model(small());
    model.to(kGpu);
    const Tensor tokens = Tensor::empty({4, 17}, i64, kGpu);
    copy_(tokens, batch(0));
    Tensor loss;
    const auto step = [&] {
      model.zero_grad();
      loss = model.loss(slice(tokens, 1, 0, 16), slice(tokens, 1, 1, 17));
      loss.backward();
      loss = loss.detach();
    };
    const cuda::Graph graph(step, kGpu);
    CHECK(graph.node_count() > 10);
    const Tensor recorded = loss;
    std::vector<Tensor> gradients;
    for (const Tensor& parameter : model.parameters()) gradients.push_back(parameter.grad());
    for (uint64_t number : {1, 2, 1}) {
      copy_(tokens, batch(number));
      graph.replay();
      const double replayed = recorded.item<double>();
      std::vector<std::vector<float>> numbers_of_replay;
      for (const Tensor& gradient : gradients)
        numbers_of_replay.push_back(gradient.to_vector<float>());
      step();
      CHECK(loss.item<double>() == replayed);
      size_t i = 0;
      for (const Tensor& parameter : model.parameters())
        CHECK(parameter.grad().to_vector<float>() == numbers_of_replay[i++]);
    }
  }

  TEST_CASE("numbers on the host and random draws cannot be recorded") {
    if (skipped_without_gpu()) return;
    const Tensor x = to(ones({8}), kGpu);
    CHECK(
        contains(message_of([&] { cuda::Graph([&] { sum(x).item<float>(); }, kGpu); }), "[Graph]"));
    CHECK(contains(message_of([&] { cuda::Graph([&] { dropout(x, 0.5); }, kGpu); }), "[Graph]"));
    CHECK_FALSE(cuda::is_recording_graph());
    CHECK(sum(x).item<float>() == 8.0f);  // the stream is usable again
    Tensor y;
    const cuda::Graph graph([&] { y = x * 2.0; }, kGpu);
    graph.replay();
    CHECK(y.to_vector<float>() == std::vector<float>(8, 2.0f));
  }

  TEST_CASE("without the back end or a GPU the functions say so") {
    if (cuda::is_available()) return;
    CHECK(cuda::device_count() == 0);
    CHECK_FALSE(cuda::is_recording_graph());
    CHECK_THROWS_AS(cuda::synchronize(), Error);
    CHECK_THROWS_AS(cuda::Stream(), Error);
    CHECK_THROWS_AS(cuda::Event(), Error);
    CHECK_THROWS_AS(cuda::properties(), Error);
    CHECK_THROWS_AS(cuda::Graph([] {}), Error);
  }
}
