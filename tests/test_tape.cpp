// The tape itself: order, accumulation, hooks, freeing, errors, memory.

#include <doctest/doctest.h>

#include <string>
#include <thread>

#include <tendril/tendril.h>

#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;

TEST_SUITE("tape") {
  TEST_CASE("a chain of operations") {
    const Tensor x = leaf({1.0, 2.0});
    const Tensor y = sum(x * x * 3.0);
    CHECK(y.requires_grad());
    CHECK_FALSE(y.is_leaf());
    CHECK(std::string(producer(y)) == "sum");
    CHECK(std::string(producer(x)) == "leaf");
    y.backward();
    CHECK(numbers(x.grad()) == std::vector<double>{6.0, 12.0});
  }

  TEST_CASE("gradients of several uses and several backward passes add up") {
    const Tensor x = leaf({2.0});
    sum(x + x * x).backward();
    CHECK(numbers(x.grad())[0] == 5.0);
    const Tensor first = x.grad();
    sum(3.0 * x).backward();
    CHECK(numbers(x.grad())[0] == 8.0);
    CHECK(first.is_same(x.grad()));  // accumulated in place
  }

  TEST_CASE("several roots at once") {
    const Tensor x = leaf({1.0, -1.0});
    const Tensor a = sum(x * 2.0), b = x * 5.0;
    backward({a, b}, {{}, Tensor::from<double>({1.0, 10.0}, {2})});
    CHECK(numbers(x.grad()) == std::vector<double>{7.0, 52.0});
  }

  TEST_CASE("the gradient given to a user is not changed behind its back") {
    const Tensor x = leaf({1.0}), y = leaf({1.0});
    const Tensor seed = Tensor::from<double>({4.0}, {1});
    (x + y).backward(seed);
    (x + y).backward(seed);
    CHECK(numbers(seed)[0] == 4.0);
    CHECK(numbers(x.grad())[0] == 8.0);
    CHECK(numbers(y.grad())[0] == 8.0);
  }

  TEST_CASE("no_grad and detach stop recording") {
    const Tensor x = leaf({3.0});
    {
      const NoGradGuard no_grad;
      CHECK_FALSE(grad_enabled());
      CHECK_FALSE((x * 2.0).requires_grad());
      const GradMode on(true);
      CHECK((x * 2.0).requires_grad());
    }
    CHECK(grad_enabled());
    CHECK_FALSE(x.detach().requires_grad());
    sum(x * x.detach()).backward();
    CHECK(numbers(x.grad())[0] == 3.0);
  }

  TEST_CASE("grad() leaves .grad alone and reaches intermediate tensors") {
    const Tensor x = leaf({2.0}), unrelated = leaf({1.0});
    const Tensor h = x * x;
    const Tensor y = sum(h * 3.0);
    const auto grads = grad({y}, {h, x}, {}, {.retain_graph = true});
    CHECK(numbers(grads[0])[0] == 3.0);
    CHECK(numbers(grads[1])[0] == 12.0);
    CHECK_FALSE(x.grad().defined());
    CHECK(contains(message_of([&] { grad({y}, {unrelated}, {}, {.retain_graph = true}); }),
                   "do not depend on input 0"));
    CHECK_FALSE(grad({y}, {unrelated}, {}, {.retain_graph = true}, true)[0].defined());
    CHECK(contains(message_of([&] { grad({y}, {x.detach()}); }), "does not require grad"));
  }

  TEST_CASE("a second backward needs retain_graph") {
    const Tensor x = leaf({2.0});
    const Tensor y = sum(x * x);
    y.backward({}, true);
    y.backward();
    CHECK(numbers(x.grad())[0] == 8.0);
    const std::string message = message_of([&] { y.backward(); });
    CHECK(contains(message, "already used"));
    CHECK(contains(message, "retain_graph"));
    CHECK(numbers(x.grad())[0] == 8.0);  // nothing was added before the error
  }

  TEST_CASE("gradients of gradients are refused with a reason") {
    const Tensor x = leaf({2.0});
    const Tensor y = sum(x * x);
    CHECK(
        contains(message_of([&] { grad({y}, {x}, {}, {.create_graph = true}); }), "create_graph"));
  }

  TEST_CASE("a saved tensor changed in place is an error") {
    const Tensor x = leaf({2.0});
    Tensor h = x * 1.0;
    const Tensor y = sum(h * h);
    {
      const NoGradGuard no_grad;
      add_(h, full({1}, 1.0, f64));
    }
    CHECK(contains(message_of([&] { y.backward(); }), "changed in place"));
    // A view shares the memory, so changing it counts too.
    Tensor w = x * 1.0;
    const Tensor z = sum(w * w);
    {
      const NoGradGuard no_grad;
      fill_(reshape(w, {1, 1}), 7.0);
    }
    CHECK(contains(message_of([&] { z.backward(); }), "changed in place"));
  }

  TEST_CASE("in-place operations on a tensor that requires grad need a guard") {
    const Tensor x = leaf({2.0});
    CHECK(contains(message_of([&] { fill_(x, 0.0); }), "[fill_]"));
    CHECK(numbers(x)[0] == 2.0);
    const NoGradGuard no_grad;
    fill_(x, 0.5);
    CHECK(numbers(x)[0] == 0.5);
  }

  TEST_CASE("requires_grad_ is for floating leaves") {
    CHECK(contains(message_of([] { Tensor::from<int64_t>({1}, {1}).requires_grad_(); }), "i64"));
    Tensor y = leaf({1.0}) * 2.0;
    CHECK(contains(message_of([&] { y.requires_grad_(false); }), "only leaves"));
  }

  TEST_CASE("roots are checked") {
    const Tensor x = leaf({1.0, 2.0});
    CHECK(contains(message_of([&] { (x * 2.0).backward(); }), "more than one element"));
    CHECK(contains(message_of([&] { (x * 2.0).backward(zeros({3}, f64)); }), "must match"));
    CHECK(contains(message_of([&] { x.detach().backward(); }), "does not require grad"));
    CHECK(contains(message_of([&] { backward({}); }), "at least one root"));
    Tensor undefined;
    CHECK(contains(message_of([&] { undefined.backward(); }), "does not require grad"));
  }

  TEST_CASE("hooks on tensors see the complete gradient and may replace it") {
    const Tensor x = leaf({2.0});
    Tensor h = x * 3.0;
    int calls = 0;
    HookHandle handle = register_hook(h, [&](const Tensor& g) {
      ++calls;
      CHECK(numbers(g)[0] == 5.0);  // 1 + 4: both uses
      const NoGradGuard no_grad;
      return g * 10.0;
    });
    sum(h + h * 4.0).backward({}, true);
    CHECK(calls == 1);
    CHECK(numbers(x.grad())[0] == 150.0);
    handle.remove();
    sum(h).backward();
    CHECK(calls == 1);
    CHECK(numbers(x.grad())[0] == 153.0);
  }

  TEST_CASE(
      "gradient-complete hooks fire once, after the last use of a tied weight, as early as "
      "possible") {
    const Tensor w = leaf({2.0}), late = leaf({3.0});
    std::vector<std::string> order;
    register_grad_complete_hook(w, [&](Tensor& parameter) {
      order.push_back("w");
      CHECK(parameter.is_same(w));
      CHECK(numbers(parameter.grad())[0] == doctest::Approx(3.0 * 2.0 * 2.0 * 2.0));
      parameter.set_grad({});
    });
    register_grad_complete_hook(late, [&](Tensor&) { order.push_back("late"); });
    const Tensor first = late * late;  // the oldest operation
    const Tensor y = first * w * w;    // both uses of w are newer
    sum(y * 0.0 + y * (2.0 / 3.0)).backward();
    CHECK(order == std::vector<std::string>{"w", "late"});
    CHECK_FALSE(w.grad().defined());
  }

  TEST_CASE("a hook can be removed and counts every backward") {
    const Tensor w = leaf({1.0});
    int calls = 0;
    HookHandle handle = register_grad_complete_hook(w, [&](Tensor&) { ++calls; });
    sum(w * 2.0).backward();
    sum(w * 2.0).backward();
    handle.remove();
    sum(w * 2.0).backward();
    CHECK(calls == 2);
  }

  TEST_CASE("saved tensors are freed while backward proceeds, and graphs never run are freed too") {
    Tensor x = zeros({1 << 16});
    x.requires_grad_();
    const auto deep = [&] {
      Tensor h = x;
      for (int i = 0; i < 20; ++i) h = tanh(h);
      return sum(h);
    };
    const int64_t before = memory_stats().current_bytes;
    {
      const Tensor y = deep();
      CHECK(memory_stats().current_bytes - before >= 20 * (1 << 18));
    }
    CHECK(memory_stats().current_bytes == before);  // never run backward
    const Tensor y = deep();
    reset_peak_memory_stats();
    const int64_t held = memory_stats().current_bytes;
    y.backward();
    // Each step frees one activation and needs two gradients; nothing like a second copy of the
    // graph.
    CHECK(memory_stats().peak_bytes - held <= 4 * (1 << 18));
    CHECK(memory_stats().current_bytes - before <= (1 << 18) + 4096);  // the gradient of x and y
  }

  TEST_CASE("memory is flat over 200 steps, with and without backward") {
    Tensor w = randn({32, 32});
    w.requires_grad_();
    const Tensor x = randn({8, 32});
    Tensor total = zeros({});
    int64_t after_first = 0, system_after_first = 0;
    for (int step = 0; step < 200; ++step) {
      const Tensor loss = mean(square(tanh(matmul(x, w))));
      if (step % 2 == 0) {
        loss.backward();
        w.set_grad({});
      }
      const NoGradGuard no_grad;
      total = total + loss;
      if (step == 3) {
        after_first = memory_stats().current_bytes;
        system_after_first = memory_stats().system_allocations;
      }
    }
    CHECK(memory_stats().current_bytes <= after_first);
    CHECK(memory_stats().system_allocations == system_after_first);  // the cache serves every step
  }

  TEST_CASE("keeping an index or a mask does not keep the graph behind it") {
    Tensor x = zeros({1 << 16});
    x.requires_grad_();
    const int64_t before = memory_stats().current_bytes;
    const Tensor mask = gt(sum(tanh(tanh(x))), 0.0);
    CHECK(mask.requires_grad());
    CHECK(memory_stats().current_bytes - before < 4096);
  }

  TEST_CASE("a very long chain is built, run and released without deep recursion") {
    const Tensor x = leaf({1.0});
    Tensor h = x;
    for (int i = 0; i < 200000; ++i) h = h + 1.0;
    h.backward(Tensor::from<double>({1.0}, {1}));
    CHECK(numbers(x.grad())[0] == 1.0);
    h = x;
    for (int i = 0; i < 200000; ++i) h = h + 1.0;
    h = {};  // released without backward
    CHECK_FALSE(h.defined());
  }

  TEST_CASE("threads record and run their own graphs") {
    std::vector<std::thread> threads;
    std::vector<double> results(4);
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([t, &results] {
        double value = 0.0;
        for (int i = 0; i < 50; ++i) {
          const Tensor x = leaf({static_cast<double>(t)});
          sum(x * x).backward();
          value = numbers(x.grad())[0];
        }
        results[static_cast<size_t>(t)] = value;
      });
    for (std::thread& thread : threads) thread.join();
    CHECK(results == std::vector<double>{0.0, 2.0, 4.0, 6.0});
  }
}
