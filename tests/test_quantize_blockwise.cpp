// Block-wise dynamic 8-bit quantisation: the code tables and the nearest code.
#include <doctest/doctest.h>
#include <tendril/core/creation.h>
#include <tendril/core/ops/code_book.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;
using ops::CodeMap;

namespace {

Tensor vector_of(const std::vector<float>& values) {
  return Tensor::from(values, {static_cast<int64_t>(values.size())});
}

// The code of a value whose block has the largest magnitude 1.
int64_t code_of(double value, CodeMap map) {
  const Tensor x = vector_of({static_cast<float>(value), 1.0f});
  return ops::quantize_blockwise(x, map).codes.to_vector<int64_t>()[0];
}

double round_trip(double value, CodeMap map) {
  return ops::code_values(map)[static_cast<size_t>(code_of(value, map))];
}

double distance_to_nearest(double value, CodeMap map) {
  double best = std::numeric_limits<double>::infinity();
  for (const float code : ops::code_values(map))
    best = std::min(best, std::abs(static_cast<double>(code) - value));
  return best;
}

// The levels from 0 up to 1 in units of 1 / 4e7, of which all are whole: decade k has 2^k of them,
// or 2^(k+1) without a sign, at 10^(k-7) (1 + 9 (i + 1/2) / count).
std::vector<int64_t> exact_levels(CodeMap map) {
  std::vector<int64_t> levels = {0};
  int64_t decade = 4;  // 10^(k-7) * 4e7
  for (int k = 0; k <= 6; ++k, decade *= 10) {
    const int64_t count = int64_t{1} << (map == CodeMap::with_sign ? k : k + 1);
    for (int64_t i = 0; i < count; ++i)
      levels.push_back(decade + decade * 9 * (2 * i + 1) / (2 * count));
  }
  levels.push_back(40'000'000);
  return levels;
}

// By a plain search: the level with the least distance, of two alike the lower one, but 0 for 0
// alone. A float times 8e7 is exact in double.
int64_t searched_code(float x, CodeMap map, const std::vector<int64_t>& levels) {
  if (x == 0.0f) return ops::zero_code(map);
  const double y = std::abs(static_cast<double>(x)) * 8e7;
  size_t level = 1;
  while (level + 1 < levels.size() && y > static_cast<double>(levels[level] + levels[level + 1]))
    ++level;
  const auto steps = static_cast<int64_t>(level);
  const int64_t zero = ops::zero_code(map);
  return x < 0.0f ? std::max<int64_t>(zero - steps, 0) : zero + steps;
}

// What the formulas for one number, which a GPU takes, give for a block.
std::vector<int64_t> codes_by_formulas(const std::vector<float>& values, CodeMap map) {
  const cpu::CodeFormulas& formulas = ops::code_book(map);
  float largest = 0.0f;
  for (const float x : values) largest = std::max(largest, std::abs(x));
  const float scale = cpu::inverse_scale(largest);
  std::vector<int64_t> codes;
  for (const float x : values)
    codes.push_back(map == CodeMap::with_sign ? cpu::code_of_value<true>(formulas, x, scale)
                                              : cpu::code_of_value<false>(formulas, x, scale));
  return codes;
}

}  // namespace

TEST_SUITE("quantize_blockwise") {
  TEST_CASE("the code tables") {
    const auto& s = ops::code_values(CodeMap::with_sign);
    const auto& u = ops::code_values(CodeMap::without_sign);
    const auto near = [](double expected) { return doctest::Approx(expected).epsilon(1e-6); };
    CHECK(s[0] == near(-0.99296875));
    CHECK(s[1] == near(-0.97890625));
    CHECK(s[126] == near(-5.5e-7));
    CHECK(s[127] == 0.0f);
    CHECK(s[128] == near(5.5e-7));
    CHECK(s[129] == near(3.25e-6));
    CHECK(s[254] == near(0.99296875));
    CHECK(s[255] == 1.0f);
    CHECK(u[0] == 0.0f);
    CHECK(u[1] == near(3.25e-7));
    CHECK(u[2] == near(7.75e-7));
    CHECK(u[3] == near(2.125e-6));
    CHECK(u[254] == near(0.996484375));
    CHECK(u[255] == 1.0f);
    CHECK(std::is_sorted(s.begin(), s.end()));
    CHECK(std::is_sorted(u.begin(), u.end()));
  }

  TEST_CASE("single values") {
    CHECK(code_of(0.5, CodeMap::with_sign) == 219);
    CHECK(code_of(-0.5, CodeMap::with_sign) == 35);
    CHECK(code_of(1e-3, CodeMap::with_sign) == 142);
    CHECK(code_of(0.02, CodeMap::with_sign) == 162);
    CHECK(code_of(-1.0, CodeMap::with_sign) == 0);
    CHECK(code_of(0.5, CodeMap::without_sign) == 183);
    CHECK(code_of(1e-3, CodeMap::without_sign) == 30);
    CHECK(code_of(0.02, CodeMap::without_sign) == 70);
    CHECK(round_trip(0.5, CodeMap::with_sign) == doctest::Approx(0.50078125));
    CHECK(round_trip(1e-3, CodeMap::with_sign) == doctest::Approx(9.4375e-4));
    CHECK(round_trip(0.02, CodeMap::with_sign) == doctest::Approx(0.01984375));
    CHECK(round_trip(0.5, CodeMap::without_sign) == doctest::Approx(0.497265625));
    CHECK(round_trip(1e-3, CodeMap::without_sign) == doctest::Approx(9.71875e-4));
    CHECK(round_trip(0.02, CodeMap::without_sign) == doctest::Approx(0.020546875));
  }

  TEST_CASE("the code is the nearest one, over all decades and both signs") {
    for (const CodeMap map : {CodeMap::with_sign, CodeMap::without_sign}) {
      const double least = ops::code_values(map)[ops::zero_code(map) + 1];
      std::vector<float> values = {1.0f};
      for (int64_t i = 0; i < 4000; ++i) {  // from 1 down to 1e-8
        const auto x = static_cast<float>(std::pow(10.0, -8.0 * static_cast<double>(i) / 4000.0));
        values.push_back(map == CodeMap::with_sign && i % 2 == 1 ? -x : x);
      }
      for (size_t begin = 1; begin < values.size(); begin += 255) {  // 1 in each block
        std::vector<float> block = {1.0f};
        block.insert(block.end(), values.begin() + static_cast<int64_t>(begin),
                     values.begin() + static_cast<int64_t>(std::min(begin + 255, values.size())));
        const ops::Quantized quantized = ops::quantize_blockwise(vector_of(block), map);
        const auto back = ops::dequantize_blockwise(quantized, map).to_vector<double>();
        for (size_t i = 0; i < block.size(); ++i) {
          CAPTURE(block[i]);
          const double error = std::abs(back[i] - block[i]);
          const double allowed = distance_to_nearest(block[i], map) * (1.0 + 1e-5) + 1e-12;
          // Below the smallest code there is 0, which is only for 0.
          CHECK((error <= allowed || std::abs(block[i]) < least));
          CHECK((back[i] > 0.0) == (block[i] > 0.0f));
          CHECK((back[i] < 0.0) == (block[i] < 0.0f));
        }
      }
    }
  }

  TEST_CASE("a plain search finds the same code, beside every border, level and power of two") {
    for (const CodeMap map : {CodeMap::with_sign, CodeMap::without_sign}) {
      const std::vector<int64_t> levels = exact_levels(map);
      REQUIRE(levels.size() == (map == CodeMap::with_sign ? 129 : 256));
      std::vector<float> centers = {1.0f, 1e-37f, std::numeric_limits<float>::denorm_min()};
      for (size_t j = 0; j + 1 < levels.size(); ++j) {
        centers.push_back(static_cast<float>(static_cast<double>(levels[j]) / 4e7));
        centers.push_back(static_cast<float>(static_cast<double>(levels[j] + levels[j + 1]) / 8e7));
      }
      for (int e = 1; e < 40; ++e) centers.push_back(std::ldexp(1.0f, -e));
      std::vector<float> values;
      for (const float center : centers)
        for (int ulps = -3; ulps <= 3; ++ulps) {
          float x = center;
          for (int i = 0; i < std::abs(ulps); ++i) x = std::nextafter(x, ulps < 0 ? 0.0f : 1.0f);
          values.push_back(x);
          if (map == CodeMap::with_sign) values.push_back(-x);
        }
      for (uint32_t i = 0; i < 100'000; ++i)  // and all over the place
        values.push_back(static_cast<float>(i * 2654435761u >> 8) * 0x1p-24f);
      int64_t wrong = 0;
      for (size_t begin = 0; begin < values.size(); begin += 255) {  // 1 in each block: its scale
        std::vector<float> block = {1.0f};
        block.insert(block.end(), values.begin() + static_cast<int64_t>(begin),
                     values.begin() + static_cast<int64_t>(std::min(begin + 255, values.size())));
        const auto codes =
            ops::quantize_blockwise(vector_of(block), map).codes.to_vector<int64_t>();
        for (size_t i = 0; i < block.size(); ++i)
          wrong += codes[i] != searched_code(block[i], map, levels);
      }
      CHECK(wrong == 0);
    }
  }

  TEST_CASE("what a code stands for is within one rounding of its level") {
    for (const CodeMap map : {CodeMap::with_sign, CodeMap::without_sign}) {
      const std::vector<int64_t> levels = exact_levels(map);
      const auto& values = ops::code_values(map);
      const int64_t zero = ops::zero_code(map);
      std::vector<uint8_t> codes(256);
      for (size_t code = 0; code < 256; ++code) {
        codes[code] = static_cast<uint8_t>(code);
        const int64_t steps = static_cast<int64_t>(code) - zero;
        const double level = static_cast<double>(levels[static_cast<size_t>(std::abs(steps))]) /
                             (steps < 0 ? -4e7 : 4e7);
        CHECK(std::abs(values[code] - level) <= std::abs(level) * 0x1p-23);
      }
      // The tables and what dequantising computes are the same.
      const ops::Quantized all = {Tensor::from(codes, {256}), vector_of({1.0f})};
      CHECK(ops::dequantize_blockwise(all, map).to_vector<float>() ==
            std::vector<float>(values.begin(), values.end()));
    }
  }

  TEST_CASE("the worst relative error of each decade") {
    const double worst_signed[] = {.71, .46, .27, .17, .11, .056};
    const double worst_unsigned[] = {.46, .27, .17, .11, .056, .027};
    for (int decade = 0; decade < 6; ++decade)
      for (const CodeMap map : {CodeMap::with_sign, CodeMap::without_sign}) {
        CAPTURE(decade);
        double worst = 0.0;
        for (int i = 0; i < 400; ++i) {
          const double x = std::pow(10.0, decade - 6 + i / 399.0);
          worst = std::max(worst, std::abs(round_trip(x, map) - x) / x);
        }
        const double expected = (map == CodeMap::with_sign ? worst_signed : worst_unsigned)[decade];
        CHECK(worst == doctest::Approx(expected).epsilon(0.05));
      }
  }

  TEST_CASE("each block has a scale of its own, the last one too") {
    const Tensor x = randn({3, 200}, f32, RandomKey{.seed = 5});
    const ops::Quantized quantized = ops::quantize_blockwise(x, CodeMap::with_sign);
    CHECK(quantized.codes.shape() == x.shape());
    const std::vector<float> values = x.to_vector<float>();
    const std::vector<float> absmax = quantized.absmax.to_vector<float>();
    REQUIRE(absmax.size() == 3);
    const std::vector<float> back =
        ops::dequantize_blockwise(quantized, CodeMap::with_sign).to_vector<float>();
    for (size_t block = 0; block < 3; ++block) {
      float largest = 0.0f;
      for (size_t i = 256 * block; i < std::min<size_t>(600, 256 * (block + 1)); ++i) {
        largest = std::max(largest, std::abs(values[i]));
        CHECK(std::abs(back[i] - values[i]) <= 0.0071f * absmax[block]);
      }
      CHECK(absmax[block] == largest);
    }
  }

  TEST_CASE("blocks of zeros, of the smallest and of the largest numbers") {
    const auto there_and_back = [](float value, CodeMap map) {
      const Tensor x = vector_of({value, 0.0f, value});
      return ops::dequantize_blockwise(ops::quantize_blockwise(x, map), map).to_vector<float>();
    };
    const float smallest = std::numeric_limits<float>::denorm_min();
    const float largest = std::numeric_limits<float>::max();
    for (const CodeMap map : {CodeMap::with_sign, CodeMap::without_sign}) {
      CHECK(there_and_back(0.0f, map) == std::vector<float>{0.0f, 0.0f, 0.0f});
      CHECK(there_and_back(largest, map) == std::vector<float>{largest, 0.0f, largest});
      CHECK(there_and_back(smallest, map)[1] == 0.0f);
      CHECK(there_and_back(1e-37f, map) == std::vector<float>{1e-37f, 0.0f, 1e-37f});
    }
  }

  TEST_CASE("what cannot be quantised is refused") {
    const auto refuse = [](const Tensor& x, CodeMap map) {
      return message_of([&] { ops::quantize_blockwise(x, map); });
    };
    const float inf = std::numeric_limits<float>::infinity();
    CHECK(contains(refuse(vector_of({1.0f, inf}), CodeMap::with_sign), "finite"));
    CHECK(contains(refuse(vector_of({1.0f, std::nanf("")}), CodeMap::with_sign), "finite"));
    CHECK(contains(refuse(vector_of({1.0f, -1.0f}), CodeMap::without_sign), "negative"));
    CHECK(contains(refuse(ones({4}, f64), CodeMap::with_sign), "f32"));
  }

  TEST_CASE("the formulas for one number give the codes and numbers of the loops over blocks") {
    for (const CodeMap map : {CodeMap::with_sign, CodeMap::without_sign}) {
      const bool has_sign = map == CodeMap::with_sign;
      const cpu::CodeBook& book = ops::code_book(map);
      for (int code = 0; code < 256; ++code) {
        const float value =
            has_sign ? cpu::value_of_code<true>(book, code) : cpu::value_of_code<false>(book, code);
        CHECK(std::bit_cast<uint32_t>(value) ==
              std::bit_cast<uint32_t>(ops::code_values(map)[static_cast<size_t>(code)]));
      }
      const auto check_block = [&](std::vector<float> values) {
        const ops::Quantized loops = ops::quantize_blockwise(vector_of(values), map);
        CHECK(loops.codes.to_vector<int64_t>() == codes_by_formulas(values, map));
      };
      // Both sides of every border, then the levels themselves, beside a 1.
      std::vector<float> corners;
      for (int level = 0; level < 255 - book.zero; ++level)
        for (const float x : {book.borders[level], std::nextafter(book.borders[level], 2.0f),
                              book.values[book.zero + level]})
          for (const float sign : {1.0f, has_sign ? -1.0f : 1.0f}) corners.push_back(sign * x);
      for (size_t begin = 0; begin < corners.size(); begin += 255) {
        std::vector<float> block(
            corners.begin() + static_cast<int64_t>(begin),
            corners.begin() + static_cast<int64_t>(std::min(begin + 255, corners.size())));
        block.push_back(1.0f);
        check_block(block);
      }
      // Any magnitudes, subnormal ones too, in blocks of any largest one, whole and in part.
      for (uint64_t block = 0; block < 400; ++block) {
        const RandomKey key{.seed = 11, .position = block};
        std::vector<float> values;
        for (uint64_t i = 0; i < (block % 4 == 0 ? 101 : 256); ++i) {
          const uint32_t bits = key.bits(i);
          const int exponent = static_cast<int>(block % 250) - 149 - static_cast<int>(bits % 32);
          const float x = std::ldexp(1.0f + uniform_from_bits(key.bits(i + 1000)), exponent);
          values.push_back(bits % 64 == 0 ? 0.0f : has_sign && bits >> 31 ? -x : x);
        }
        check_block(values);
      }
      check_block(std::vector<float>(256, 0.0f));
    }
  }
}
