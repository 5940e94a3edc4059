#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include <tendril/core/cpu/vecmath.h>

namespace {

// Distance from the exact value in units of the last place of the nearest float.
double ulps(float got, double exact) {
  if (std::isnan(exact)) return std::isnan(got) ? 0.0 : INFINITY;
  const float nearest = static_cast<float>(exact);
  if (std::isinf(nearest) || std::isinf(got)) return got == nearest ? 0.0 : INFINITY;
  const float magnitude = std::fmax(std::fabs(nearest), 1.17549435e-38f);
  const double ulp = std::nextafter(magnitude, INFINITY) - magnitude;
  return std::fabs(got - exact) / ulp;
}

template <class Function, class Exact>
double largest_error(Function function, Exact exact) {
  double worst = 0.0;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32);
       bits += 4099) {  // a million floats of all sizes
    const auto x = __builtin_bit_cast(float, static_cast<uint32_t>(bits));
    if (std::isnan(x)) continue;
    worst = std::fmax(worst, ulps(function(x), exact(static_cast<double>(x))));
  }
  return worst;
}

}  // namespace

TEST_SUITE("vecmath") {
  TEST_CASE("stated accuracy over all magnitudes") {
    using namespace tendril;
    CHECK(largest_error([](float x) { return vec::exp(x); },
                        [](double x) { return std::exp(x); }) <= 2.0);
    CHECK(largest_error([](float x) { return vec::log(x); },
                        [](double x) { return std::log(x); }) <= 2.0);
    CHECK(largest_error([](float x) { return vec::tanh(x); },
                        [](double x) { return std::tanh(x); }) <= 3.0);
    CHECK(largest_error([](float x) { return vec::erf(x); },
                        [](double x) { return std::erf(x); }) <= 3.0);
  }

  TEST_CASE("dense sampling where the methods change over") {
    using namespace tendril;
    double exp_error = 0, log_error = 0, tanh_error = 0, erf_error = 0, sigmoid_error = 0;
    for (int i = -400000; i <= 400000; ++i) {
      const float x = static_cast<float>(i) * 1e-5f;
      exp_error = std::fmax(exp_error, ulps(vec::exp(x), std::exp(static_cast<double>(x))));
      tanh_error = std::fmax(tanh_error, ulps(vec::tanh(x), std::tanh(static_cast<double>(x))));
      erf_error = std::fmax(erf_error, ulps(vec::erf(x), std::erf(static_cast<double>(x))));
      sigmoid_error = std::fmax(sigmoid_error,
                                ulps(vec::sigmoid(x), 1 / (1 + std::exp(-static_cast<double>(x)))));
      if (x > 0)
        log_error = std::fmax(log_error, ulps(vec::log(x), std::log(static_cast<double>(x))));
    }
    CHECK(exp_error <= 2.0);
    CHECK(log_error <= 2.0);
    CHECK(tanh_error <= 3.0);
    CHECK(erf_error <= 3.0);
    CHECK(sigmoid_error <= 3.0);
  }

  TEST_CASE("special values") {
    using namespace tendril;
    const float inf = std::numeric_limits<float>::infinity(),
                nan = std::numeric_limits<float>::quiet_NaN();
    CHECK(vec::exp(inf) == inf);
    CHECK(vec::exp(-inf) == 0.0f);
    CHECK(std::isnan(vec::exp(nan)));
    CHECK(vec::log(0.0f) == -inf);
    CHECK(vec::log(inf) == inf);
    CHECK(std::isnan(vec::log(-1.0f)));
    CHECK(std::isnan(vec::log(nan)));
    CHECK(vec::tanh(inf) == 1.0f);
    CHECK(vec::tanh(-inf) == -1.0f);
    CHECK(std::isnan(vec::tanh(nan)));
    CHECK(vec::erf(-inf) == -1.0f);
    CHECK(std::isnan(vec::erf(nan)));
    CHECK(vec::sigmoid(-inf) == 0.0f);
    CHECK(vec::sigmoid(inf) == 1.0f);
  }
}
