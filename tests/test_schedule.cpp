#include <doctest/doctest.h>
#include <tendril/core/error.h>
#include <tendril/optim/schedule.h>

#include <cmath>

using namespace tendril;

namespace {

struct Row {
  int64_t step;
  double linear, cosine, restarts, polynomial, inverse_sqrt;
};

// Warm-up 10, total 100; computed from the definitions in transformers/optimization.py.
constexpr Row kTable[] = {
    {0, 0, 0, 0, 0, 0},
    {5, .5, .5, .5, .5, .5},
    {10, 1, 1, 1, 1, 1},
    {32, .7555556, .8596699, .5174497, .7560444, .5590170},
    {55, .5, .5, 1, .501, .4264014},
    {77, .2555556, .1526708, .5174497, .2570444, .3603750},
    {99, .0111111, .0003046, .0012180, .0130889, .3178209},
    {100, 0, 0, 0, .002, .3162278},
};
constexpr optim::ScheduleOptions kOptions = {.warmup = 10, .total = 100};

}  // namespace

TEST_SUITE("schedule") {
  TEST_CASE("the table of factors") {
    for (const Row& row : kTable) {
      CAPTURE(row.step);
      CHECK(std::abs(optim::linear_decay(row.step, kOptions) - row.linear) <= 1e-7);
      CHECK(std::abs(optim::cosine(row.step, kOptions) - row.cosine) <= 1e-7);
      CHECK(std::abs(optim::cosine_with_restarts(row.step, kOptions, 2) - row.restarts) <= 1e-7);
      // from 5e-5 to 1e-7
      CHECK(std::abs(optim::polynomial(row.step, {.warmup = 10, .total = 100, .min_ratio = 0.002}) -
                     row.polynomial) <= 1e-7);
      CHECK(std::abs(optim::inverse_sqrt(row.step, kOptions) - row.inverse_sqrt) <= 1e-7);
      CHECK(optim::constant(row.step, kOptions) == (row.step == 0   ? 0.0
                                                    : row.step == 5 ? 0.5
                                                                    : 1.0));
    }
  }

  TEST_CASE("a minimum rate, and llm.c's schedules") {
    const optim::ScheduleOptions tenth = {.warmup = 10, .total = 100, .min_ratio = 0.1};
    CHECK(std::abs(optim::cosine(55, tenth) - 0.55) <= 1e-7);
    CHECK(std::abs(optim::cosine(99, tenth) - 0.1002741) <= 1e-7);
    CHECK(std::abs(optim::linear_decay(100, tenth) - 0.1) <= 1e-12);
    const auto stable = [](int64_t step) { return optim::warmup_stable_decay(step, kOptions); };
    CHECK(std::abs(stable(0) - 0.1) <= 1e-7);
    CHECK(stable(9) == 1.0);
    CHECK(stable(80) == 1.0);
    CHECK(std::abs(stable(85) - 0.5) <= 1e-7);
    CHECK(std::abs(stable(90) - 0.2928932) <= 1e-7);
    CHECK(std::abs(stable(99) - 0.0253206) <= 1e-7);
    CHECK(stable(100) == 0.0);
  }

  TEST_CASE("beyond the end the last value stays") {
    for (const int64_t step : {100, 120, 1000000}) {
      CHECK(optim::linear_decay(step, kOptions) == 0.0);
      CHECK(optim::cosine(step, kOptions) ==
            doctest::Approx(0.0));  // and does not climb to .1170 again
      CHECK(optim::cosine_with_restarts(step, kOptions, 3) == 0.0);
      CHECK(optim::warmup_stable_decay(step, kOptions) == 0.0);
      CHECK(optim::polynomial(step, {.warmup = 10, .total = 100, .min_ratio = 0.25}) == 0.25);
    }
  }

  TEST_CASE("after warm-up the factor only falls") {
    for (int64_t step = 10; step < 110; ++step) {
      CHECK(optim::linear_decay(step + 1, kOptions) <= optim::linear_decay(step, kOptions));
      CHECK(optim::cosine(step + 1, kOptions) <= optim::cosine(step, kOptions));
      CHECK(optim::inverse_sqrt(step + 1, kOptions) <= optim::inverse_sqrt(step, kOptions));
      CHECK(optim::warmup_stable_decay(step + 1, kOptions) <=
            optim::warmup_stable_decay(step, kOptions));
    }
  }

  TEST_CASE("no division by zero at the corners") {
    for (const auto& options : {optim::ScheduleOptions{}, optim::ScheduleOptions{.total = 5},
                                optim::ScheduleOptions{.warmup = 5, .total = 5},
                                optim::ScheduleOptions{.warmup = 9, .total = 5}})
      for (int64_t step = 0; step < 12; ++step)
        for (const double factor :
             {optim::constant(step, options), optim::linear_decay(step, options),
              optim::cosine(step, options), optim::cosine_with_restarts(step, options),
              optim::polynomial(step, options), optim::inverse_sqrt(step, options),
              optim::warmup_stable_decay(step, options)}) {
          CHECK(factor >= 0.0);
          CHECK(factor <= 1.0);
        }
    CHECK(optim::linear_decay(0, {.total = 5}) == 1.0);
  }

  TEST_CASE("impossible arguments are an Error") {
    CHECK_THROWS_AS(optim::cosine(-1, kOptions), Error);
    CHECK_THROWS_AS(optim::linear_decay(1, {.warmup = -1, .total = 5}), Error);
    CHECK_THROWS_AS(optim::cosine(1, {.total = 5, .min_ratio = 2.0}), Error);
    CHECK_THROWS_AS(optim::cosine_with_restarts(1, kOptions, 0), Error);
    CHECK_THROWS_AS(optim::warmup_stable_decay(1, kOptions, 0.0), Error);
  }
}
