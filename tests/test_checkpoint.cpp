// Recomputation, and the check of gradients that everything else leans on.

#include <doctest/doctest.h>

#include <tendril/tendril.h>

#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;

TEST_SUITE("checkpoint") {
  using Inputs = std::vector<Tensor>;

  TEST_CASE("same gradients, also of weights that the block captures, with identical random bits") {
    Tensor x = randn({4, 8}, f64), w = randn({8, 8}, f64);
    x.requires_grad_();
    w.requires_grad_();
    const auto block = [&](const Inputs& in) { return dropout(tanh(matmul(in[0], w)), 0.5); };
    const auto gradients = [&](bool recompute) {
      manual_seed(3);
      const Tensor h = recompute ? checkpoint(block, {x * 1.0}) : block({x * 1.0});
      const Tensor after = dropout(h, 0.5);  // the stream goes on where the block left it
      const auto state_before = default_generator().state();
      auto result = grad({sum(after * after)}, {x, w});
      CHECK(default_generator().state() == state_before);
      return result;
    };
    const auto plain = gradients(false), again = gradients(true);
    for (size_t i = 0; i < plain.size(); ++i) CHECK(numbers(again[i]) == numbers(plain[i]));
  }

  TEST_CASE("it saves memory") {
    Tensor x = randn({1 << 14});
    x.requires_grad_();
    const auto deep = [](const Inputs& in) {
      Tensor h = in[0];
      for (int i = 0; i < 20; ++i) h = tanh(h);
      return h;
    };
    const auto held = [&](bool recompute) {
      const int64_t before = memory_stats().current_bytes;
      const Tensor y = recompute ? checkpoint(deep, {x}) : deep({x});
      return memory_stats().current_bytes - before;
    };
    CHECK(held(false) == 20 * (1 << 16));
    CHECK(held(true) == 1 << 16);  // the result alone
  }

  TEST_CASE("a tied weight inside and outside completes once") {
    const Tensor w = leaf({3.0}), x = leaf({2.0});
    int calls = 0;
    register_grad_complete_hook(w, [&](Tensor& parameter) {
      ++calls;
      CHECK(numbers(parameter.grad())[0] == doctest::Approx(2.0 * 3.0 * 2.0));
    });
    const Tensor y = checkpoint([&](const Inputs& in) { return in[0] * w; }, {x * 1.0}) * w;
    sum(y).backward();
    CHECK(calls == 1);
    CHECK(numbers(x.grad())[0] == doctest::Approx(9.0));
  }

  TEST_CASE("nested, with intermediate captures and several outputs") {
    const Tensor w = leaf({3.0});
    const auto run = [&](bool recompute) {
      const Tensor h = w * 2.0;  // an intermediate tensor that the block captures
      const auto inner = [&](const Inputs& in) { return in[0] * h * w; };
      const auto outer = [&](const Inputs& in) {
        const Tensor a = recompute ? checkpoint(inner, {in[0]}) : inner(in);
        return Inputs{a * a, in[0] + a, in[0]};
      };
      const Inputs out = recompute ? checkpoint_many(outer, {h}) : outer({h});
      return grad({sum(out[0] + out[1] * 2.0)}, {w})[0];
    };
    CHECK(numbers(run(true)) == numbers(run(false)));
  }

  TEST_CASE("errors: changed inputs, changed outputs, exceptions restore the generator") {
    const Tensor x = leaf({1.0});
    Tensor h = x * 1.0;
    const Tensor y = checkpoint([](const Inputs& in) { return exp(in[0]); }, {h});
    {
      const NoGradGuard no_grad;
      fill_(h, 2.0);
    }
    CHECK(contains(message_of([&] { y.backward(Tensor::from<double>({1.0}, {1})); }),
                   "changed in place"));

    int runs = 0;
    const Tensor other = checkpoint(
        [&](const Inputs& in) {
          return runs++ ? stack({in[0], in[0]}) : in[0] * 2.0;
        },
        {x});
    CHECK(contains(message_of([&] { sum(other).backward(); }), "recomputed block"));

    runs = 0;
    const Tensor failing = checkpoint(
        [&](const Inputs& in) {
          if (runs++) fail("[test] no");
          return dropout(in[0], 0.5);
        },
        {x});
    const auto state = default_generator().state();
    CHECK(contains(message_of([&] { sum(failing).backward(); }), "[test] no"));
    CHECK(default_generator().state() == state);
    CHECK(grad_enabled());
  }

  TEST_CASE("without recording it is a plain call") {
    const Tensor x = leaf({1.0});
    const NoGradGuard no_grad;
    CHECK_FALSE(checkpoint([](const Inputs& in) { return in[0] * 2.0; }, {x}).requires_grad());
  }
}

TEST_SUITE("gradcheck") {
  TEST_CASE("it finds a wrong derivative") {
    Tensor x = Tensor::from<double>({0.3, 0.7}, {2});
    x.requires_grad_();
    // y = x^2 recorded with the derivative of x^3
    const auto wrong = [](const std::vector<Tensor>& in) {
      const NoGradGuard no_grad;
      const Tensor y = in[0].detach() * in[0].detach();
      const GradMode on(true);
      return record(Op::square, y, {in[0]}, [x = Saved(in[0])](const Tensor& g, Gradients& sink) {
        sink.set(0, g * 3.0 * square(x.get()));
      });
    };
    const GradcheckResult result = gradcheck(wrong, {x});
    CHECK_FALSE(result.ok);
    CHECK(result.worst_error > 0.1);
    CHECK(gradcheck([](const std::vector<Tensor>& in) { return square(in[0]); }, {x}).ok);
  }

  TEST_CASE("it wants f64") {
    Tensor x = ones({2});
    x.requires_grad_();
    CHECK_THROWS_AS(gradcheck([](const std::vector<Tensor>& in) { return square(in[0]); }, {x}),
                    Error);
  }
}
