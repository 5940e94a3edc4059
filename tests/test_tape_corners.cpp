// The tape where programs do unusual things: hooks that throw or run backward themselves, leaves
// that change between forward and backward, threads, in-place operations with recorded sources.

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <thread>

#include <tendril/tendril.h>

#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

using Inputs = std::vector<Tensor>;
using Numbers = std::vector<double>;

}  // namespace

TEST_SUITE("tape corners") {
  TEST_CASE("a hook that runs backward through the same graph gets an error, not a crash") {
    const Tensor x = leaf({2.0});
    const Tensor h = exp(x), y = square(h), loss = sum(y);
    bool entered = false;
    register_hook(y, [&](const Tensor&) {
      if (!entered) {
        entered = true;
        backward({sum(h * 1.0)}, {}, {});  // recording is off: does not require grad
      }
      return Tensor();
    });
    CHECK(contains(message_of([&] { loss.backward(); }), "does not require grad"));

    const Tensor a = leaf({2.0}), b = exp(a), c = square(b), total = sum(c);
    int calls = 0;
    register_hook(c, [&](const Tensor& g) {
      if (calls++ == 0) b.backward(Tensor::from<double>({1.0}, {1}));  // frees the node of b
      return g * 1.0;
    });
    CHECK(contains(message_of([&] { total.backward(); }), "already used"));
  }

  TEST_CASE("a hook may run backward through another graph") {
    const Tensor x = leaf({2.0}), other = leaf({3.0});
    register_hook(x, [&](const Tensor&) {
      const GradMode record_again(true);
      sum(square(other)).backward();
      return Tensor();
    });
    sum(square(x)).backward();
    CHECK(numbers(x.grad()) == Numbers{4.0});
    CHECK(numbers(other.grad()) == Numbers{6.0});
  }

  TEST_CASE("one gradient handed to two inputs is not summed in place") {
    const Tensor x = leaf({1, 2}), y = leaf({3, 4}), w = Tensor::from<double>({5, 7}, {2});
    const Tensor a = x * 1.0, b = y * 1.0, more = a * 3.0;
    (a + b).backward(w, true);  // only to see that the seed survives as well
    CHECK(numbers(w) == Numbers{5, 7});
    backward({sum((a + b) * w), sum(more * w)});
    CHECK(numbers(x.grad()) == Numbers{5 + 20, 7 + 28});
    CHECK(numbers(y.grad()) == Numbers{5 + 5, 7 + 7});
  }

  TEST_CASE("a hook that throws leaves the tape usable") {
    const Tensor x = leaf({2.0});
    HookHandle handle = register_hook(x, [](const Tensor&) -> Tensor { fail("[test] no"); });
    CHECK(contains(message_of([&] { sum(square(x)).backward(); }), "[test] no"));
    CHECK(grad_enabled());
    handle.remove();
    sum(square(x)).backward();
    CHECK(numbers(x.grad()) == Numbers{4.0});
  }

  TEST_CASE("a hook outlives the tensor it was registered on") {
    const Tensor x = leaf({1.0});
    int calls = 0;
    Tensor h = x * 3.0;
    register_hook(h, [&](const Tensor& g) { return ++calls, g * 10.0; });
    const Tensor y = sum(square(h));
    h = Tensor();
    y.backward();
    CHECK(calls == 1);
    CHECK(numbers(x.grad()) == Numbers{180.0});
  }

  TEST_CASE("a leaf frozen after the forward pass gets no gradient") {
    Tensor x = leaf({2.0}), w = leaf({3.0});
    const Tensor loss = sum(x * w);
    x.requires_grad_(false);
    loss.backward();
    CHECK_FALSE(x.grad().defined());
    CHECK(numbers(w.grad()) == Numbers{2.0});
  }

  TEST_CASE("a leaf that changes its dtype is not held to that of an older graph") {
    Tensor w = leaf({3.0});
    const Tensor kept = w * 2.0;  // never run backward: its leaf node stays
    w.set_data(to(w.detach(), f32));
    sum(w * 2.0).backward();
    CHECK(w.grad().dtype() == f32);
    CHECK(numbers(w.grad()) == Numbers{2.0});
    CHECK(kept.requires_grad());
  }

  TEST_CASE("in-place operations refuse a source whose gradient would be lost") {
    const Tensor x = leaf({1.0, 2.0}), total = zeros({2}, f64);
    CHECK(contains(message_of([&] { add_(total, x * 2.0); }), "[add_]"));
    CHECK(contains(message_of([&] { copy_(total, x); }), "[copy_]"));
    add_(total, x.detach());
    const NoGradGuard no_grad;
    add_(total, x);
    CHECK(numbers(total) == Numbers{2.0, 4.0});
  }

  TEST_CASE("a view's change is seen by what saved the whole") {
    const Tensor whole = Tensor::from<double>({1, 2, 3}, {3}), w = leaf({1, 1, 1});
    const Tensor y = w * whole;
    fill_(slice(whole, 0, 1, 2), 9.0);
    CHECK(contains(message_of([&] { sum(y).backward(); }), "changed in place"));
  }

  TEST_CASE("a long chain of checkpoints is released without deep recursion") {
    Tensor h = leaf({1.0});
    for (int i = 0; i < 60000; ++i) h = checkpoint([](const Inputs& in) { return in[0]; }, {h});
    h = Tensor();
    CHECK_FALSE(h.defined());
  }

  TEST_CASE("hooks inside nested checkpoints fire in the recomputation, once each") {
    const Tensor x = leaf({0.5});
    int outer_calls = 0, inner_calls = 0;
    const auto inner = [&](const Inputs& in) {
      const Tensor y = exp(in[0]);
      if (y.requires_grad())
        register_hook(y, [&](const Tensor&) { return ++inner_calls, Tensor(); });
      return y;
    };
    const auto outer = [&](const Inputs& in) {
      const Tensor y = square(checkpoint(inner, {in[0]}));
      if (y.requires_grad())
        register_hook(y, [&](const Tensor& g) { return ++outer_calls, g * 2.0; });
      return y;
    };
    sum(checkpoint(outer, {x})).backward();
    CHECK(outer_calls == 1);
    CHECK(inner_calls == 1);
    CHECK(numbers(x.grad())[0] == doctest::Approx(4.0 * std::exp(1.0)));  // twice d(e^(2x))/dx
  }

  TEST_CASE("threads share weights without recording, and tensors outlive their thread") {
    const Tensor weight = leaf({1, 2, 3, 4});
    std::vector<Tensor> results(4);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < results.size(); ++i)
      threads.emplace_back([&, i] {
        const NoGradGuard no_grad;
        for (int step = 0; step < 50; ++step) results[i] = sum(weight * static_cast<double>(i));
      });
    for (std::thread& thread : threads) thread.join();
    for (size_t i = 0; i < results.size(); ++i)
      CHECK(results[i].item<double>() == 10.0 * static_cast<double>(i));

    Tensor loss;
    std::thread([&] { loss = sum(square(weight)); }).join();  // recorded there, run here
    loss.backward();
    CHECK(numbers(weight.grad()) == Numbers{2, 4, 6, 8});
  }

  TEST_CASE("numbers without axes and axes of size 0 have gradients of their shape") {
    Tensor number = Tensor::from<double>({2.0}, {});
    number.requires_grad_();
    Tensor nothing = zeros({0, 3}, f64);
    nothing.requires_grad_();
    const Tensor y = sum(nothing * number) + number * number;
    y.backward();
    CHECK(number.grad().shape() == Shape{});
    CHECK(number.grad().item<double>() == 4.0);
    CHECK(nothing.grad().shape() == Shape{0, 3});
  }
}
