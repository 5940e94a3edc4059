#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/optimizer_step.h>
#include <tendril/core/threads.h>
#include <tendril/optim/adamw.h>
#include <tendril/optim/lion.h>
#include <tendril/optim/sgd.h>

#include <cmath>
#include <string>
#include <vector>

#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

Tensor leaf(std::vector<double> values, DType dtype = f64) {
  const int64_t count = static_cast<int64_t>(values.size());
  Tensor x = Tensor::empty({count}, dtype);
  copy_(x, Tensor::from(values, {count}));
  x.requires_grad_();
  return x;
}

void set_gradient(Tensor& parameter, std::vector<double> values) {
  Tensor gradient = Tensor::empty(parameter.shape(), parameter.dtype());
  copy_(gradient, Tensor::from(values, parameter.shape()));
  parameter.set_grad(gradient);
}

// One parameter with value 1; its value after each of the given gradients.
template <class Optimizer, class Options>
std::vector<double> trace(const Options& options, const std::vector<double>& gradients,
                          DType dtype = f64) {
  Tensor p = leaf({1.0}, dtype);
  Optimizer optimizer({NamedTensor{"p", p}}, options);
  std::vector<double> values;
  for (const double gradient : gradients) {
    set_gradient(p, {gradient});
    optimizer.step();
    values.push_back(p.item<double>());
  }
  return values;
}

void check_trace(const std::vector<double>& got, const std::vector<double>& expected,
                 double tolerance) {
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) CHECK(std::abs(got[i] - expected[i]) <= tolerance);
}

}  // namespace

TEST_SUITE("optim") {
  // The expected numbers were computed with 40 decimal digits.
  TEST_CASE("AdamW follows PyTorch's order of operations") {
    const optim::AdamWOptions options = {.lr = 0.1, .weight_decay = 0.01};
    check_trace(trace<optim::AdamW>(options, {0.5, -0.25}), {0.899000002, 0.871467298705846}, 1e-9);
    check_trace(trace<optim::AdamW>(options, {0.5, -0.25}, f32), {0.899000002, 0.871467298705846},
                1e-6);
  }

  TEST_CASE("Adam puts weight decay into the gradient") {
    const optim::AdamOptions options = {.lr = 0.1, .weight_decay = 0.01};
    check_trace(trace<optim::Adam>(options, {0.5, -0.25}), {0.900000001961, 0.871229347623}, 1e-9);
    check_trace(trace<optim::Adam>(options, {0.5, -0.25}, f32), {0.900000001961, 0.871229347623},
                1e-6);
  }

  TEST_CASE("Lion goes by the sign of a mean") {
    const optim::LionOptions options = {.lr = 0.1, .weight_decay = 0.01};
    check_trace(trace<optim::Lion>(options, {0.5, -0.25, -0.25}), {0.899, 0.998101, 1.097102899},
                1e-12);
    Tensor p = leaf({1.0});
    optim::Lion optimizer({NamedTensor{"p", p}}, options);
    for (const auto& [gradient, mean] :
         {std::pair{0.5, 0.005}, {-0.25, 0.00245}, {-0.25, -0.0000745}}) {
      set_gradient(p, {gradient});
      optimizer.step();
      CHECK(std::abs(optimizer.state_dict().at("p.exp_avg").item<double>() - mean) <= 1e-15);
    }
    Tensor still = leaf({1.0});
    optim::Lion none({NamedTensor{"p", still}}, {.lr = 0.1});
    set_gradient(still, {0.0});
    none.step();
    CHECK(still.item<double>() == 1.0);  // sign(0) = 0
  }

  TEST_CASE("AdamW maximizes, and AMSGrad remembers the largest square") {
    check_trace(
        trace<optim::AdamW>(optim::AdamWOptions{.lr = 0.1, .weight_decay = 0.01, .maximize = true},
                            {0.5, -0.25}),
        {1.098999998, 1.124534701294154}, 1e-9);
    optim::AdamWOptions options = {.lr = 0.1, .beta2 = 0.5, .weight_decay = 0.01};
    check_trace(trace<optim::AdamW>(options, {2, 0.01, 0.01}),
                {0.8990000005, 0.815602748862896, 0.734786017902184}, 1e-9);
    options.amsgrad = true;
    check_trace(trace<optim::AdamW>(options, {2, 0.01, 0.01}),
                {0.8990000005, 0.839764468824664, 0.798921140055541}, 1e-9);
  }

  TEST_CASE("SGD with momentum, Nesterov and dampening") {
    check_trace(trace<optim::Sgd>(optim::SgdOptions{.lr = 0.1}, {0.5, -0.25}), {0.95, 0.975},
                1e-12);
    check_trace(trace<optim::Sgd>(optim::SgdOptions{.lr = 0.1, .momentum = 0.9}, {0.5, -0.25}),
                {0.95, 0.93}, 1e-12);
    check_trace(trace<optim::Sgd>(optim::SgdOptions{.lr = 0.1, .momentum = 0.9, .nesterov = true},
                                  {0.5, -0.25}),
                {0.905, 0.912}, 1e-12);
    check_trace(
        trace<optim::Sgd>(
            optim::SgdOptions{.lr = 0.1, .momentum = 0.9, .dampening = 0.5, .weight_decay = 0.1},
            {0.5, -0.25, 1.0}),
        {0.94, 0.8938, 0.797751}, 1e-12);
    check_trace(trace<optim::Sgd>(optim::SgdOptions{.lr = 0.1, .maximize = true}, {0.5}), {1.05},
                1e-12);
  }

  TEST_CASE(
      "every element gets the same arithmetic, whatever its place, the threads and the layout") {
    // 70001 elements: several chunks and a remainder for every vector width.
    const int64_t count = 70001;
    const auto run = [&](int threads, bool strided) {
      const int before = num_threads();
      set_num_threads(threads);
      Tensor p = full({count}, 1.0);
      p.requires_grad_();
      optim::AdamW optimizer({NamedTensor{"p", p}}, {.lr = 0.1, .weight_decay = 0.01});
      for (const double gradient : {0.5, -0.25}) {
        const Tensor wide = full({2 * count}, gradient);
        p.set_grad(strided ? Tensor::view(wide.storage(), 0, {count}, {2}, f32)
                           : full({count}, gradient));
        optimizer.step();
      }
      set_num_threads(before);
      return p.to_vector<float>();
    };
    const std::vector<float> expected = run(1, false);
    CHECK(std::abs(expected[0] - 0.871467298705846) <= 1e-6);
    for (const float value : expected) REQUIRE(value == expected[0]);
    CHECK(run(2, false) == expected);
    CHECK(run(4, true) == expected);
  }

  TEST_CASE("16-bit parameters follow an f32 master") {
    Tensor p = leaf({1.0, -2.0}, bf16);
    optim::Sgd optimizer({NamedTensor{"p", p}}, {.lr = 1.0});
    // bf16 steps near 1 are 2^-7 wide (2^-8 below 1): a single 1e-3 is lost, but eight add up.
    for (int i = 0; i < 8; ++i) {
      set_gradient(p, {-1e-3, 0.0});
      optimizer.step();
    }
    CHECK(p.to_vector<float>()[0] == 1.0078125f);
    const Tensor master = optimizer.state_dict().at("p.master");
    CHECK(master.dtype() == f32);
    CHECK(std::abs(master.to_vector<float>()[0] - 1.008f) <
          1e-4f);  // 1e-3 itself is rounded to bf16
    CHECK(master.to_vector<float>()[1] == -2.0f);

    {
      const NoGradGuard no_grad;
      fill_(p, 5.0);  // somebody loads other weights
    }
    set_gradient(p, {1.0, 1.0});
    optimizer.step();
    CHECK(p.to_vector<float>() == std::vector<float>{4.0f, 4.0f});

    p.set_data(Tensor::from<float>({1.25f, 1.25f}, {2}));  // widened: it needs no master any more
    set_gradient(p, {1.0, 1.0});
    optimizer.step();
    CHECK(p.to_vector<float>() == std::vector<float>{0.25f, 0.25f});
    CHECK(optimizer.state_dict().count("p.master") == 0);

    Tensor q = leaf({1.0, -2.0}, bf16);
    optim::AdamW adamw({NamedTensor{"p", q}}, {.lr = 1.0});
    set_gradient(q, {1.0, 1.0});
    adamw.step();
    CHECK(adamw.state_dict().count("p.master") == 1);
    q.set_data(to(q.detach(), f32));
    set_gradient(q, {1.0, 1.0});
    adamw.step();
    CHECK(adamw.state_dict().count("p.master") == 0);
  }

  TEST_CASE("AdamW on f16 and bf16 agrees with f32 within the parameter's rounding") {
    for (const DType dtype : {f16, bf16}) {
      const std::vector<double> got = trace<optim::AdamW>(
          optim::AdamWOptions{.lr = 0.1, .weight_decay = 0.01}, {0.5, -0.25}, dtype);
      check_trace(got, {0.899000002, 0.871467298705846}, dtype == f16 ? 0.00025 : 0.002);
    }
  }

  TEST_CASE("parameters without a gradient are left alone") {
    Tensor a = leaf({1.0}), b = leaf({2.0});
    optim::AdamW optimizer({NamedTensor{"a", a}, NamedTensor{"b", b}}, {.lr = 0.1});
    set_gradient(a, {1.0});
    optimizer.step();
    CHECK(a.item<double>() != 1.0);
    CHECK(b.item<double>() == 2.0);
    CHECK(optimizer.state_dict().count("a.step") == 1);
    CHECK(optimizer.state_dict().count("b.step") == 0);
    optimizer.zero_grad();
    CHECK(!a.grad().defined());
  }

  TEST_CASE("groups have their own options and rates") {
    Tensor a = leaf({1.0}), b = leaf({1.0});
    optim::Sgd optimizer;
    optimizer.add_param_group({{"a", a}}, {.lr = 0.1});
    optimizer.add_param_group({{"b", b}}, {.lr = 0.4, .weight_decay = 1.0});
    CHECK(optimizer.group_count() == 2);
    optimizer.scale_lr(0.5);
    CHECK(optimizer.lr(0) == 0.05);
    CHECK(optimizer.lr(1) == 0.2);
    set_gradient(a, {1.0});
    set_gradient(b, {1.0});
    optimizer.step();
    CHECK(a.item<double>() == doctest::Approx(0.95).epsilon(1e-12));
    CHECK(b.item<double>() == doctest::Approx(0.6).epsilon(1e-12));
    optimizer.scale_lr(1.0);
    CHECK(optimizer.lr(1) == 0.4);
    optimizer.set_lr(0.25);
    CHECK(optimizer.lr(0) == 0.25);
    CHECK_THROWS_AS(optimizer.lr(2), Error);
    CHECK_THROWS_AS(optimizer.set_lr(2, 0.1), Error);
    for (const double wrong : {std::nan(""), HUGE_VAL, -0.1}) {
      CHECK_THROWS_AS(optimizer.set_lr(wrong), Error);
      CHECK_THROWS_AS(optimizer.scale_lr(wrong), Error);
    }
    CHECK(optimizer.lr() == 0.25);  // refused, and nothing changed
    CHECK(optimizer.parameters().size() == 2);
  }

  TEST_CASE("a step counts as a change in place for the tape") {
    Tensor w = leaf({2.0});
    const Tensor y = square(w);
    optim::Sgd optimizer({NamedTensor{"w", w}}, {.lr = 0.1});
    set_gradient(w, {1.0});
    optimizer.step();
    CHECK_THROWS_AS(y.backward(), Error);
  }

  TEST_CASE("state round trip continues exactly; loading replaces") {
    const std::vector<double> gradients = {0.5, -0.25, 0.125, 1.0};
    for (const bool amsgrad : {false, true}) {
      const optim::AdamWOptions options = {.lr = 0.1, .amsgrad = amsgrad};
      Tensor p = leaf({1.0, 3.0}), q = leaf({0.0, 0.0});
      optim::AdamW first({NamedTensor{"p", p}}, options), second({NamedTensor{"p", q}}, options);
      const auto advance = [](optim::AdamW& optimizer, Tensor& x, double g) {
        set_gradient(x, {g, -2 * g});
        optimizer.step();
      };
      advance(first, p, 0.5);
      advance(first, p, -0.25);
      for (int i = 0; i < 5; ++i) advance(second, q, 7.0);  // a history that must vanish
      second.load_state_dict(first.state_dict());
      {
        const NoGradGuard no_grad;
        copy_(q, p);
      }
      CHECK(second.state_dict().size() == first.state_dict().size());
      CHECK(second.state_dict().at("p.step").item<int64_t>() == 2);
      advance(first, p, 0.125);
      advance(second, q, 0.125);
      CHECK(p.to_vector<double>() == q.to_vector<double>());
      second.load_state_dict({});
      CHECK(second.state_dict().empty());
    }
  }

  TEST_CASE("a state that does not fit is refused as a whole, with every problem") {
    Tensor p = leaf({1.0, 2.0}), q = leaf({1.0});
    optim::AdamW optimizer({NamedTensor{"p", p}, NamedTensor{"q", q}}, {.lr = 0.1});
    set_gradient(p, {1.0, 1.0});
    optimizer.step();
    StateDict state = optimizer.state_dict();
    state["p.exp_avg"] = zeros({3}, f64);
    state["q.step"] = Tensor::from<int64_t>({4}, {1});
    state["other.step"] = Tensor::from<int64_t>({4}, {1});
    const std::string message = message_of([&] { optimizer.load_state_dict(state); });
    CHECK(contains(message, "p.exp_avg must be floating-point of shape (2"));
    CHECK(contains(message, "q.exp_avg is missing"));
    CHECK(contains(message, "q.exp_avg_sq is missing"));
    CHECK(contains(message, "other.step belongs to no parameter"));
    CHECK(optimizer.state_dict().at("p.exp_avg").shape() == Shape{2});
    CHECK(optimizer.state_dict().count("q.step") == 0);
    state = {{"p.step", Tensor::from<int64_t>({-1}, {1})}};
    CHECK_THROWS_AS(optimizer.load_state_dict(state), Error);
    state = {{"p.step", Tensor::from<double>({1}, {1})}};
    CHECK_THROWS_AS(optimizer.load_state_dict(state), Error);
  }

  TEST_CASE("what cannot be optimized is an Error") {
    Tensor p = leaf({1.0, 2.0});
    using Named = std::vector<NamedTensor>;
    const auto make = [](Named list, optim::AdamWOptions options = {}) {
      optim::AdamW(std::move(list), options);
    };
    CHECK_THROWS_AS(make({{"p", p}, {"q", p}}), Error);
    CHECK_THROWS_AS(make({{"p", p}, {"p", leaf({1.0})}}), Error);
    CHECK_THROWS_AS(make({{"", p}}), Error);
    CHECK_THROWS_AS(make({{"p", Tensor()}}), Error);
    CHECK_THROWS_AS(make({{"p", zeros({2}, i64)}}), Error);
    const std::string message = message_of([&] { make({{"p", p * 2.0}}); });
    CHECK(contains(message, "mul"));
    CHECK_THROWS_AS(make({{"p", p}}, {.lr = -1.0}), Error);
    CHECK_THROWS_AS(make({{"p", p}}, {.lr = NAN}), Error);
    CHECK_THROWS_AS(make({{"p", p}}, {.beta1 = 1.0}), Error);
    CHECK_THROWS_AS(make({{"p", p}}, {.eps = -1.0}), Error);
    CHECK_THROWS_AS(optim::Sgd({NamedTensor{"p", p}}, {.nesterov = true}), Error);
    CHECK_THROWS_AS(optim::Sgd({NamedTensor{"p", p}}, {.momentum = -0.1}), Error);
  }

  TEST_CASE("an optimizer of one's own: a rule for one parameter, or for all at once") {
    struct OneByOne : optim::Optimizer {
      explicit OneByOne(const std::vector<Tensor>& list) {
        register_group(optim::numbered(list), 0.5);
      }
      void update(Slot& slot, const Tensor& gradient, double lr) override {
        add_(slot.parameter, gradient, -lr * static_cast<double>(slot.step));
      }
      std::vector<StateSpec> state_specs(const Slot&) const override { return {}; }
    };
    Tensor p = leaf({1.0}), q = leaf({2.0}), unused = leaf({3.0});
    OneByOne optimizer({p, q, unused});
    set_gradient(p, {1.0});
    set_gradient(q, {2.0});
    optimizer.step();
    optimizer.step();
    CHECK(p.item<double>() == 1.0 - 0.5 - 1.0);
    CHECK(q.item<double>() == 2.0 - 1.0 - 2.0);
    CHECK(unused.item<double>() == 3.0);

    struct Neither : optim::Optimizer {
      explicit Neither(const Tensor& x) { register_group({{"weight", x}}, 0.5); }
      std::vector<StateSpec> state_specs(const Slot&) const override { return {}; }
    };
    Neither lacking(p);
    CHECK(contains(message_of([&] { lacking.step(); }), "neither update() nor update_all()"));
  }

  TEST_CASE("many updates at once are the same as one after the other") {
    for (const DType dtype : {f32, bf16}) {
      std::vector<ops::AdamWUpdate> together;
      std::vector<Tensor> alone;
      for (uint64_t i = 0; i < 5; ++i) {
        const Shape shape = {static_cast<int64_t>(i) * 7 + 1};
        const Tensor p = randn(shape, dtype, RandomKey{i, 0}),
                     g = randn(shape, dtype, RandomKey{i, 1});
        const auto state = [&] {
          return ops::AdamWState{
              zeros(shape), zeros(shape), {}, dtype == f32 ? Tensor() : ops::cast(p, f32)};
        };
        const ops::AdamWStep options{.lr = 0.1 * static_cast<double>(i + 1)};
        alone.push_back(ops::clone(p));
        ops::adamw_step(alone.back(), g, state(), options);
        together.push_back({p, g, state(), options});
      }
      ops::adamw_steps(together);
      for (size_t i = 0; i < alone.size(); ++i)
        CHECK(together[i].parameter.to_vector<float>() == alone[i].to_vector<float>());
      together[3].options.step = 0;
      const std::vector<float> before = together[0].parameter.to_vector<float>();
      CHECK_THROWS_AS(ops::adamw_steps(together), Error);
      CHECK(together[0].parameter.to_vector<float>() == before);  // all are checked first
    }
    ops::adamw_steps({});
  }

  TEST_CASE("the kernels refuse what does not fit") {
    const Tensor p = zeros({2, 3}), g = zeros({2, 3}), m = zeros({2, 3}), v = zeros({2, 3});
    const ops::AdamWStep options;
    ops::adamw_step(p, g, {m, v, {}, {}}, options);
    CHECK_THROWS_AS(ops::adamw_step(p, zeros({3, 2}), {m, v, {}, {}}, options), Error);
    CHECK_THROWS_AS(ops::adamw_step(p, g, {zeros({2, 3}, f64), v, {}, {}}, options), Error);
    CHECK_THROWS_AS(ops::adamw_step(p, g, {m, zeros({6}), {}, {}}, options), Error);
    CHECK_THROWS_AS(ops::adamw_step(p, g, {m, {}, {}, {}}, options), Error);
    CHECK_THROWS_AS(ops::adamw_step(zeros({2, 3}, bf16), g, {m, v, {}, {}}, options), Error);
    CHECK_THROWS_AS(ops::adamw_step(p, g, {m, v, {}, {}}, {.step = 0}), Error);
    CHECK_THROWS_AS(ops::sgd_step(p, g, {zeros({3}), {}}, {}), Error);
    CHECK_THROWS_AS(ops::sgd_step(zeros({2, 3}, i64), g, {}, {}), Error);
    const Tensor empty = zeros({0});
    ops::adamw_step(empty, empty, {empty, empty, {}, {}}, options);
    CHECK(empty.numel() == 0);
  }

  TEST_CASE("unnamed parameters are numbered; decay split by rank") {
    Tensor p = leaf({1.0});
    optim::Sgd optimizer(std::vector<Tensor>{leaf({1.0}), p}, {.lr = 0.1});
    set_gradient(p, {1.0});
    optimizer.step();
    CHECK(optimizer.state_dict().count("1.step") == 1);
    const optim::DecaySplit split = optim::split_for_decay(
        {{"weight", zeros({2, 2})}, {"bias", zeros({2})}, {"kernel", zeros({1, 1, 1})}});
    REQUIRE(split.decayed.size() == 2);
    CHECK(split.decayed[1].name == "kernel");
    REQUIRE(split.kept.size() == 1);
    CHECK(split.kept[0].name == "bias");
  }
}
