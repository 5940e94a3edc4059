// The 16-bit floats against a reference in doubles that knows only the definition of the formats.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <tendril/core/half.h>

using namespace tendril;

namespace {

struct Format {
  int exponent_bits, mantissa_bits;
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  uint16_t infinity() const {
    return static_cast<uint16_t>(((1 << exponent_bits) - 1) << mantissa_bits);
  }

  // The value of a pattern without sign and below infinity.
  double value(uint16_t pattern) const {
    const int exponent = pattern >> mantissa_bits, mantissa = pattern & ((1 << mantissa_bits) - 1);
    if (exponent == 0) return std::ldexp(mantissa, 1 - bias() - mantissa_bits);
    return std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias() - mantissa_bits);
  }

  // Round to nearest, ties to the even pattern, by search among all values.
  uint16_t nearest(double magnitude) const {
    const double largest = value(static_cast<uint16_t>(infinity() - 1));
    const double step = largest - value(static_cast<uint16_t>(infinity() - 2));
    if (magnitude >= largest + step / 2) return infinity();
    int low = 0, high = infinity() - 1;
    while (low < high) {  // the last pattern whose value is not above
      const int middle = (low + high + 1) / 2;
      if (value(static_cast<uint16_t>(middle)) <= magnitude)
        low = middle;
      else
        high = middle - 1;
    }
    if (low == infinity() - 1) return static_cast<uint16_t>(low);
    const double below = magnitude - value(static_cast<uint16_t>(low));
    const double above = value(static_cast<uint16_t>(low + 1)) - magnitude;
    return static_cast<uint16_t>(below < above || (below == above && low % 2 == 0) ? low : low + 1);
  }
};

constexpr Format kBfloat16{8, 7}, kFloat16{5, 10};

template <class Half>
void check_every_pattern(const Format& format) {
  int wrong_value = 0, wrong_pattern = 0, wrong_nan = 0;
  for (uint32_t i = 0; i < 65536; ++i) {
    Half half;
    half.bits = static_cast<uint16_t>(i);
    const float x = half;
    const uint16_t back = Half(x).bits, magnitude = i & 0x7FFF;
    if (magnitude >
        format.infinity()) {  // NaN stays NaN with its sign and payload; the quiet bit is set
      const auto quiet = static_cast<uint16_t>(i | (1u << (format.mantissa_bits - 1)));
      wrong_nan += !std::isnan(x) || back != quiet;
      continue;
    }
    const double expected = magnitude == format.infinity() ? INFINITY : format.value(magnitude);
    wrong_value += std::abs(static_cast<double>(x)) != expected || std::signbit(x) != (i >= 0x8000);
    wrong_pattern += back != i;
  }
  CHECK(wrong_value == 0);
  CHECK(wrong_pattern == 0);
  CHECK(wrong_nan == 0);
}

template <class Half>
bool rounds_right(const Format& format, float x) {
  const auto expected = static_cast<uint16_t>(format.nearest(std::abs(static_cast<double>(x))) |
                                              (std::signbit(x) ? 0x8000 : 0));
  return Half(x).bits == expected;
}

// Around every midpoint of neighbours, and everywhere else at random.
template <class Half>
void check_rounding(const Format& format) {
  int wrong = 0;
  const auto check = [&](float x) {
    wrong += !rounds_right<Half>(format, x) + !rounds_right<Half>(format, -x);
  };
  for (uint16_t i = 0; i + 1 < format.infinity(); ++i) {
    const double low = format.value(i), high = format.value(static_cast<uint16_t>(i + 1));
    const auto middle = static_cast<float>((low + high) / 2);
    check(static_cast<float>(low));
    check(middle);
    check(std::nextafter(middle, 0.0f));
    check(std::nextafter(middle, INFINITY));
  }
  std::mt19937 random(3);
  for (int i = 0; i < 200'000; ++i) {
    const float x = detail::bits_float(random() & 0x7FFFFFFF);
    if (std::isfinite(x)) check(x);
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_SUITE_BEGIN("half");

TEST_CASE("all 65536 patterns of bf16 have the right value and come back") {
  check_every_pattern<bfloat16>(kBfloat16);
}
TEST_CASE("all 65536 patterns of f16 have the right value and come back") {
  check_every_pattern<float16>(kFloat16);
}
TEST_CASE("f32 to bf16 rounds to nearest even") { check_rounding<bfloat16>(kBfloat16); }
TEST_CASE("f32 to f16 rounds to nearest even") { check_rounding<float16>(kFloat16); }

TEST_CASE("known bf16 patterns") {
  CHECK(bfloat16(1 + 0x1p-8f).bits == 0x3F80);      // ties to even, down
  CHECK(bfloat16(1 + 3 * 0x1p-8f).bits == 0x3F82);  // and up
  CHECK(bfloat16(55.4256258f).bits == 0x425E);
  CHECK(bfloat16(3.14159265f).bits == 0x4049);
  CHECK(bfloat16(1.0f / 3).bits == 0x3EAB);
  CHECK(bfloat16(0.1f).bits == 0x3DCD);
  CHECK(bfloat16(std::numeric_limits<float>::max()).bits == 0x7F80);  // overflow
  CHECK(bfloat16(-std::numeric_limits<float>::max()).bits == 0xFF80);
  CHECK(bfloat16(-0.0f).bits == 0x8000);
}

TEST_CASE("known f16 patterns") {
  CHECK(float16(1.0f).bits == 0x3C00);
  CHECK(float16(65504.0f).bits == 0x7BFF);
  CHECK(float16(65519.996f).bits == 0x7BFF);
  CHECK(float16(65520.0f).bits == 0x7C00);  // half a step above the largest: infinity
  CHECK(float16(-1e30f).bits == 0xFC00);
  CHECK(float16(0x1p-24f).bits == 0x0001);  // the smallest subnormal
  CHECK(float16(0x1p-25f).bits == 0x0000);  // ties to even
  CHECK(float16(std::nextafter(0x1p-25f, 1.0f)).bits == 0x0001);
  CHECK(float16(0x1p-14f).bits == 0x0400);             // the smallest normal
  CHECK(float16(0x1p-14f - 0x1p-26f).bits == 0x0400);  // a subnormal that rounds up to it
  CHECK(float16(-0x1p-130f).bits == 0x8000);
}

TEST_CASE("a NaN whose payload lies in the dropped bits stays NaN") {
  const float nan = detail::bits_float(0x7F800001u);
  CHECK(bfloat16(nan).bits == 0x7FC0);
  CHECK(float16(nan).bits == 0x7E00);
  CHECK(bfloat16(detail::bits_float(0xFFFFFFFFu)).bits == 0xFFFF);
}

TEST_SUITE_END();
