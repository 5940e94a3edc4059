// Updates during backward: every optimizer, one parameter after the other, gradients freed at once.
#include <doctest/doctest.h>
#include <tendril/autograd/after_backward.h>
#include <tendril/autograd/checkpoint.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/allocator.h>
#include <tendril/core/creation.h>
#include <tendril/core/log.h>
#include <tendril/nn/models/gpt2.h>
#include <tendril/optim/adafactor.h>
#include <tendril/optim/adamw.h>
#include <tendril/optim/apollo.h>
#include <tendril/optim/clip.h>
#include <tendril/optim/galore.h>
#include <tendril/optim/galore_adamw_8bit.h>
#include <tendril/optim/layerwise.h>
#include <tendril/optim/lomo.h>
#include <tendril/optim/muon.h>
#include <tendril/optim/sgd.h>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "golden_values.h"
#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

Tensor trained(const Shape& shape, uint64_t position, DType dtype = f64) {
  return randn(shape, dtype, RandomKey{.seed = 9, .position = position}).requires_grad_();
}

nn::models::Gpt2Config config(bool tied) {
  nn::models::Gpt2Config config = {.vocab_size = 24,
                                   .n_positions = 8,
                                   .n_layer = 2,
                                   .n_head = 2,
                                   .n_embd = 16,
                                   .embd_pdrop = 0.1,
                                   .attn_pdrop = 0.1,
                                   .resid_pdrop = 0.1};
  config.tie_word_embeddings = tied;
  return config;
}

Tensor tokens(int64_t step) {
  std::vector<int64_t> values;
  for (int64_t i = 0; i < 16; ++i) values.push_back((i * i + 5 * step) % 24);
  return Tensor::from(values, {2, 8});
}

std::vector<double> weights_of(const nn::Module& model) {
  std::vector<double> values;
  for (const NamedTensor& parameter : model.named_parameters())
    for (const double value : parameter.tensor.detach().to_vector<double>())
      values.push_back(value);
  return values;
}

using Make = std::function<std::unique_ptr<optim::Optimizer>(const std::vector<NamedTensor>&)>;

// The weights after three steps of a small GPT-2 with dropout.
std::vector<double> after_training(const Make& make, bool in_backward, bool tied,
                                   bool checkpointing) {
  manual_seed(4);
  nn::models::Gpt2 model(config(tied));
  model.set_gradient_checkpointing(checkpointing);
  const auto optimizer = make(model.named_parameters());
  if (in_backward) optimizer->update_in_backward();
  for (int64_t step = 0; step < 3; ++step) {
    optimizer->scale_lr(1.0 / static_cast<double>(step + 1));
    model.loss(tokens(step), tokens(step + 1)).backward();
    if (in_backward) {
      for (const Tensor& parameter : model.parameters()) CHECK(!parameter.grad().defined());
      CHECK(optimizer->backward_updates().delayed() == 0);
    }
    optimizer->step();
    optimizer->zero_grad();
  }
  return weights_of(model);
}

template <class Optimizer, class Options>
Make with(const Options& options) {
  return [options](const std::vector<NamedTensor>& list) {
    return std::make_unique<Optimizer>(list, options);
  };
}

// The matrices projected.
template <class Optimizer>
Make projecting() {
  return [](const std::vector<NamedTensor>& list) {
    const optim::DecaySplit split = optim::split_for_decay(list);
    auto optimizer = std::make_unique<Optimizer>(split.kept);
    optimizer->add_param_group(split.decayed, {.projection = {{.rank = 4, .update_proj_gap = 2}}});
    return optimizer;
  };
}

// A chain of square matrices without biases, whose activations are small beside its weights.
constexpr int64_t kWidth = 256, kLayers = 12;
constexpr int64_t kMatrixBytes = kWidth * kWidth * 4;

std::vector<NamedTensor> chain() {
  std::vector<NamedTensor> list;
  for (int64_t i = 0; i < kLayers; ++i)
    list.push_back({std::to_string(i), trained({kWidth, kWidth}, static_cast<uint64_t>(i), f32)});
  return list;
}

Tensor chain_loss(const std::vector<NamedTensor>& list) {
  Tensor h = ones({1, kWidth});
  for (const NamedTensor& entry : list) h = tanh(matmul(h, entry.tensor) * 0.05);
  return sum(square(h));
}

// What a backward pass allocates at most, beyond what lives before it.
int64_t backward_peak(const Tensor& loss) {
  const int64_t before = memory_stats().current_bytes;
  reset_peak_memory_stats();
  loss.backward();
  return memory_stats().peak_bytes - before;
}

}  // namespace

TEST_SUITE("layerwise") {
  TEST_CASE("the same bits as steps after backward, tied or not, recomputed or not") {
    const std::vector<Make> makes = {
        with<optim::AdamW>(optim::AdamWOptions{.lr = 1e-2}),
        with<optim::Sgd>(optim::SgdOptions{.lr = 1e-2, .momentum = 0.9}),
        with<optim::Adafactor>(optim::AdafactorOptions{.lr = 1e-2, .relative_step = false}),
        projecting<optim::GaloreAdamW>(),
        projecting<optim::GaloreAdamW8bit>(),
        projecting<optim::ApolloAdamW>()};
    for (const Make& make : makes)
      for (const bool tied : {false, true})
        for (const bool checkpointing : {false, true})
          CHECK(after_training(make, true, tied, checkpointing) ==
                after_training(make, false, tied, checkpointing));
  }

  TEST_CASE("gradients take the room of two parameters, not of all") {
    std::vector<NamedTensor> list = chain();
    const int64_t all = backward_peak(chain_loss(list));
    CHECK(all >= (kLayers - 1) * kMatrixBytes);  // while activations are freed
    for (const NamedTensor& entry : list) Tensor(entry.tensor).set_grad({});
    optim::Sgd sgd(list, {.lr = 1e-3});
    sgd.update_in_backward();
    const int64_t slack = kMatrixBytes / 4;  // activations
    CHECK(backward_peak(chain_loss(list)) <= 2 * kMatrixBytes + slack);
    CHECK(sgd.backward_updates().delayed() == 0);
  }

  TEST_CASE("a weight that a later operation still reads is updated when the pass is over") {
    Tensor w = trained({4, 4}, 1), u = trained({4, 4}, 2);
    const Tensor x = trained({3, 4}, 3).detach();
    const auto loss = [&](const Tensor& first, const Tensor& second) {
      // The product with the detached weight comes first, so that backward reaches it last.
      const Tensor h = matmul(matmul(x, second), first.detach());
      return sum(square(matmul(h, first)));
    };
    Tensor w2 = clone(w.detach()).requires_grad_(), u2 = clone(u.detach()).requires_grad_();
    optim::Sgd fused({NamedTensor{"w", w}, NamedTensor{"u", u}}, {.lr = 0.1});
    optim::Sgd plain({NamedTensor{"w", w2}, NamedTensor{"u", u2}}, {.lr = 0.1});
    fused.update_in_backward();
    loss(w, u).backward();
    CHECK(fused.backward_updates().delayed() == 1);
    CHECK(!w.grad().defined());
    loss(w2, u2).backward();
    plain.step();
    CHECK(numbers(w.detach()) == numbers(w2.detach()));
    CHECK(numbers(u.detach()) == numbers(u2.detach()));
  }

  TEST_CASE("a graph that is retained keeps its weights until its pass is over, and then says so") {
    Tensor w = trained({4, 4}, 4);
    optim::Sgd optimizer({NamedTensor{"w", w}}, {.lr = 0.1});
    optimizer.update_in_backward();
    const Tensor before = clone(w.detach());
    const Tensor loss = sum(square(matmul(trained({3, 4}, 5), w)));
    loss.backward({}, /*retain_graph=*/true);
    CHECK(optimizer.backward_updates().delayed() == 1);
    CHECK(numbers(w.detach()) != numbers(before));
    CHECK(contains(message_of([&] { loss.backward(); }), "was changed in place"));
  }

  TEST_CASE("clipping by norm takes a pass of its own") {
    manual_seed(5);
    nn::models::Gpt2 plain(config(true));
    manual_seed(5);
    nn::models::Gpt2 fused(config(true));
    plain.eval();
    fused.eval();
    optim::Sgd reference(plain.named_parameters(), {.lr = 0.1});
    optim::Sgd optimizer(fused.named_parameters(), {.lr = 0.1});
    optimizer.update_in_backward();
    for (int64_t step = 0; step < 2; ++step) {
      plain.loss(tokens(step), tokens(step + 1)).backward();
      const double norm = optim::clip_grad_norm(reference.parameters(), 0.25);
      CHECK(norm > 0.25);
      reference.step();
      reference.zero_grad();
      optim::BackwardUpdates& updates = optimizer.backward_updates();
      const std::vector<double> before = weights_of(fused);
      const double measured =
          updates.measure_norm([&] { fused.loss(tokens(step), tokens(step + 1)).backward(); });
      CHECK(weights_of(fused) == before);
      CHECK(measured == doctest::Approx(norm).epsilon(1e-12));
      updates.set_clip(norm, 0.25);
      fused.loss(tokens(step), tokens(step + 1)).backward();
      CHECK(weights_of(fused) == weights_of(plain));
    }
  }

  TEST_CASE("gradients that are not finite are refused, left out or used") {
    const auto run = [](optim::NonfiniteGradient policy, std::string& message) {
      Tensor good = leaf({1.0}), bad = leaf({2.0});
      optim::Sgd optimizer({NamedTensor{"good", good}, NamedTensor{"bad", bad}}, {.lr = 1.0});
      optimizer.update_in_backward({.nonfinite = policy});
      const Tensor loss = sum(bad * std::numeric_limits<double>::infinity() + good);
      set_log_sink([](LogLevel, const std::string&) {});
      message = message_of([&] { loss.backward(); });
      set_log_sink({});
      return std::vector<double>{good.detach().item<double>(), bad.detach().item<double>(),
                                 static_cast<double>(optimizer.backward_updates().skipped())};
    };
    std::string message;
    CHECK(run(optim::NonfiniteGradient::error, message)[1] == 2.0);
    CHECK(contains(message, "gradient of \"bad\" is not finite"));
    CHECK(run(optim::NonfiniteGradient::skip, message) == std::vector<double>{0.0, 2.0, 1.0});
    CHECK(message == "");
    CHECK(std::isinf(run(optim::NonfiniteGradient::use, message)[1]));
    CHECK(message == "");
  }

  TEST_CASE("values are clipped before the norm is measured") {
    Tensor p = leaf({0.0, 0.0});
    optim::Sgd optimizer({NamedTensor{"p", p}}, {.lr = 1.0});
    optimizer.update_in_backward({.clip_value = 3.0});
    const auto pass = [&] { sum(p * Tensor::from<double>({4.0, -9.0}, {2})).backward(); };
    CHECK(optimizer.backward_updates().measure_norm(pass) ==
          doctest::Approx(std::sqrt(18.0)).epsilon(1e-14));
    pass();
    CHECK(numbers(p.detach()) == std::vector<double>{-3.0, 3.0});
    CHECK(contains(message_of([&] { optimizer.update_in_backward({.clip_value = -1.0}); }),
                   "clip_value"));
  }

  TEST_CASE("an optimizer that is gone updates nothing, and groups may come later") {
    Tensor p = leaf({1.0}), q = leaf({1.0});
    {
      optim::Sgd optimizer;
      optimizer.update_in_backward();
      optimizer.add_param_group({NamedTensor{"p", p}}, {.lr = 1.0});
      optimizer.add_param_group({NamedTensor{"q", q}}, {.lr = 0.5});
      sum(p + q).backward();
    }
    CHECK(numbers(p.detach()) == std::vector<double>{0.0});
    CHECK(numbers(q.detach()) == std::vector<double>{0.5});
    sum(p + q).backward();
    CHECK(numbers(p.detach()) == std::vector<double>{0.0});
    CHECK(p.grad().defined());
    optim::Sgd plain({NamedTensor{"p", p}}, {});
    CHECK(contains(message_of([&] { plain.backward_updates(); }), "update_in_backward()"));
    CHECK(contains(message_of([&] { plain.step_parameter(1); }), "there are 1"));
  }

  TEST_CASE("after_backward waits for the outermost pass, and for nothing outside of one") {
    std::vector<std::string> events;
    after_backward([&] { events.push_back("at once"); });
    CHECK(events == std::vector<std::string>{"at once"});
    Tensor w = leaf({2.0});
    register_hook(w, [&](const Tensor&) {
      // A pass inside of the pass.
      const GradMode recording(true);
      Tensor inner = leaf({1.0});
      register_grad_complete_hook(
          inner, [&](Tensor&) { after_backward([&] { events.push_back("end"); }); });
      sum(inner * 2.0).backward();
      events.push_back("hook");
      return Tensor();
    });
    sum(w * w).backward();
    CHECK(events == std::vector<std::string>{"at once", "hook", "end"});
    // A pass that fails drops what it was given.
    Tensor v = leaf({1.0});
    register_grad_complete_hook(v, [&](Tensor&) {
      after_backward([&] { events.push_back("never"); });
      fail("[hook] no");
    });
    CHECK(contains(message_of([&] { sum(v * v).backward(); }), "[hook] no"));
    sum(leaf({1.0}) * 2.0).backward();
    CHECK(events.back() == "end");
  }
}
