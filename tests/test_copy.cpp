#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <tendril/core/creation.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/random.h>
#include <tendril/core/threads.h>

using namespace tendril;

namespace {

// A view with any layout of x's storage.
Tensor strided(const Tensor& x, int64_t offset, const Shape& shape, const Strides& strides) {
  return Tensor::view(x.storage(), offset, shape, strides, x.dtype());
}

std::vector<uint16_t> half_bits(const Tensor& x) {
  std::vector<uint16_t> bits(static_cast<size_t>(x.numel()));
  std::memcpy(bits.data(), x.raw_data(), bits.size() * 2);
  return bits;
}

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

TEST_SUITE("copy") {
  TEST_CASE("a transposed source lands in row-major order") {
    const Tensor x = arange(6.0, 12.0, 1.0, f32);
    const Tensor transposed = strided(x, 0, {3, 2}, {1, 3});
    CHECK(ops::clone(transposed).to_vector<int64_t>() == std::vector<int64_t>{6, 9, 7, 10, 8, 11});
    const Tensor target = zeros({2, 3}, i32);
    ops::copy(strided(target, 0, {3, 2}, {1, 3}), transposed);
    CHECK(target.to_vector<int64_t>() == std::vector<int64_t>{6, 7, 8, 9, 10, 11});
  }

  TEST_CASE("every layout agrees with element-wise reading, on any number of threads") {
    const Tensor memory = arange(4 * 65 * 70 * 3, i32);
    struct Layout {
      int64_t offset;
      Shape shape;
      Strides strides;
    };
    const Layout layouts[] = {
        {0, {54600}, {1}},                        // dense
        {0, {70, 65, 3, 4}, {3, 210, 1, 13650}},  // permuted
        {0, {65, 70}, {1, 65}},                   // transposed
        {0, {4, 70, 65}, {4550, 1, 70}},          // batched transpose
        {54599, {260, 210}, {-210, -1}},          // reversed
        {0, {130, 35, 3}, {420, 6, 2}},           // every second row, column, element
        {7, {5, 33, 1, 34}, {0, 34, 9, 1}},       // broadcast
        {3, {2, 2, 2, 2, 2, 2, 2, 2}, {1, 2, 4, 8, 16, 32, 64, 128}},
        {9, {}, {}},
    };
    for (const Layout& layout : layouts) {
      CAPTURE(layout.shape);
      const Tensor x = strided(memory, layout.offset, layout.shape, layout.strides);
      const std::vector<int64_t> expected = x.to_vector<int64_t>();
      for (int threads : {1, 3}) {
        const int before = num_threads();
        set_num_threads(threads);
        CHECK(ops::clone(x).to_vector<int64_t>() == expected);
        CHECK(ops::cast(x, f64).to_vector<int64_t>() == expected);
        set_num_threads(before);
      }
      if (layout.strides.rank() == 0 || layout.strides[0] != 0) {  // the layout as a destination
        const Tensor target = zeros({54600}, i64);
        const Tensor window = strided(target, layout.offset, layout.shape, layout.strides);
        ops::copy(window, x);
        CHECK(window.to_vector<int64_t>() == expected);
        int64_t written = 0;
        for (int64_t value : target.to_vector<int64_t>()) written += value != 0;
        int64_t nonzero = 0;
        for (int64_t value : expected) nonzero += value != 0;
        CHECK(written == nonzero);  // nothing outside the window changed
      }
    }
  }

  TEST_CASE("sources broadcast") {
    const Tensor target = zeros({2, 3});
    ops::copy(target, Tensor::from<int64_t>({1, 2, 3}, {3}));
    CHECK(target.to_vector<float>() == std::vector<float>{1, 2, 3, 1, 2, 3});
    ops::copy(target, Tensor::from<float>({5, 6}, {2, 1}));
    CHECK(target.to_vector<float>() == std::vector<float>{5, 5, 5, 6, 6, 6});
    ops::copy(target, full({}, 7));
    CHECK(target.to_vector<float>() == std::vector<float>(6, 7.0f));
  }

  TEST_CASE("empty tensors") {
    CHECK(ops::clone(zeros({3, 0, 2})).shape() == Shape{3, 0, 2});
    ops::copy(zeros({0, 4}), zeros({1, 4}));
    ops::fill(zeros({0}), 1.0);
    CHECK(ops::cast(zeros({0}), bf16).dtype() == bf16);
  }

  TEST_CASE("source and destination may overlap") {
    const Tensor x = arange(6, f32);
    ops::copy(strided(x, 1, {5}, {1}), strided(x, 0, {5}, {1}));
    CHECK(x.to_vector<float>() == std::vector<float>{0, 0, 1, 2, 3, 4});
    const Tensor square = arange(9, i64);
    ops::copy(strided(square, 0, {3, 3}, {3, 1}), strided(square, 0, {3, 3}, {1, 3}));
    CHECK(square.to_vector<int64_t>() == std::vector<int64_t>{0, 3, 6, 1, 4, 7, 2, 5, 8});
    ops::copy(square, square);
    CHECK(square.to_vector<int64_t>()[1] == 3);
  }

  TEST_CASE("fill reaches every element of a view and no other") {
    const Tensor x = zeros({4, 4}, i64);
    ops::fill(strided(x, 15, {2, 2}, {-8, -2}), 5.0);
    CHECK(x.to_vector<int64_t>() ==
          std::vector<int64_t>{0, 0, 0, 0, 0, 5, 0, 5, 0, 0, 0, 0, 0, 5, 0, 5});
    const Tensor repeated = zeros({3});
    ops::fill(strided(repeated, 0, {5, 3}, {0, 1}), -1.5);
    CHECK(repeated.to_vector<float>() == std::vector<float>(3, -1.5f));
    CHECK(full({2}, kNaN, bool_).to_vector<bool>() == std::vector<bool>{true, true});
  }

  TEST_CASE("contiguous and cast share memory when there is nothing to do") {
    const Tensor x = arange(6, f32);
    CHECK(ops::contiguous(x).raw_data() == x.raw_data());
    CHECK(ops::cast(x, f32).raw_data() == x.raw_data());
    const Tensor reversed = strided(x, 5, {6}, {-1});
    CHECK(ops::contiguous(reversed).is_contiguous());
    CHECK(ops::contiguous(reversed).to_vector<int>() == std::vector<int>{5, 4, 3, 2, 1, 0});
    CHECK(ops::clone(x).raw_data() != x.raw_data());
  }

  TEST_CASE("float to integer truncates and saturates, NaN gives 0") {
    const Tensor x = Tensor::from<double>(
        {1.9, -1.9, -0.5, 255.9, 256.0, 1e300, -1e300, kInfinity, -kInfinity, kNaN}, {10});
    CHECK(ops::cast(x, u8).to_vector<int>() ==
          std::vector<int>{1, 0, 0, 255, 255, 255, 0, 255, 0, 0});
    constexpr int32_t high = 2147483647, low = -2147483647 - 1;
    for (DType from : {f64, f32})
      CHECK(ops::cast(ops::cast(x, from), i32).to_vector<int32_t>() ==
            std::vector<int32_t>{1, -1, 0, 255, 256, high, low, high, low, 0});
    CHECK(ops::cast(x, i64).to_vector<int64_t>()[5] == std::numeric_limits<int64_t>::max());
    CHECK(ops::cast(x, i64).to_vector<int64_t>()[6] == std::numeric_limits<int64_t>::min());
    CHECK(ops::cast(Tensor::from<float>({2147483648.0f, 2147483520.0f}, {2}), i32)
              .to_vector<int32_t>() == std::vector<int32_t>{high, 2147483520});
  }

  TEST_CASE("integers keep their low bits, and bool means not zero") {
    CHECK(ops::cast(Tensor::from<int64_t>({256, -1, 300}, {3}), u8).to_vector<int>() ==
          std::vector<int>{0, 255, 44});
    CHECK(ops::cast(Tensor::from<double>({0.0, -0.0, 0.25, kNaN, 256.0}, {5}), bool_)
              .to_vector<bool>() == std::vector<bool>{false, false, true, true, true});
    CHECK(ops::cast(Tensor::from<int64_t>({256, 0}, {2}), bool_).to_vector<bool>() ==
          std::vector<bool>{true, false});
    CHECK(ops::cast(Tensor::from<bool>({true, false}, {2}), bf16).to_vector<float>() ==
          std::vector<float>{1, 0});
  }

  TEST_CASE("halves round to nearest even, once") {
    // bf16 has 7 mantissa bits: 1 + 2^-8 is halfway between 1 and 1 + 2^-7.
    const double half_step = 0x1p-8;
    const Tensor x =
        Tensor::from<double>({1 + half_step, 1 + 3 * half_step, 1 + half_step + 0x1p-40,
                              1 + 3 * half_step - 0x1p-40, kInfinity, 1e300, -1e-300},
                             {7});
    CHECK(half_bits(ops::cast(x, bf16)) ==
          std::vector<uint16_t>{0x3F80, 0x3F82, 0x3F81, 0x3F81, 0x7F80, 0x7F80, 0x8000});
    // f16 has 10 mantissa bits.
    const Tensor y = Tensor::from<double>({1 + 0x1p-11, 1 + 0x1p-11 + 0x1p-45, 65519.9999999, 65520,
                                           0x1p-25, 0x1p-25 + 0x1p-60, -0x1.8p-24},
                                          {7});
    CHECK(half_bits(ops::cast(y, f16)) ==
          std::vector<uint16_t>{0x3C00, 0x3C01, 0x7BFF, 0x7C00, 0x0000, 0x0001, 0x8002});
    CHECK(half_bits(ops::cast(ops::cast(x, f32), bf16))[0] == 0x3F80);
    // 2^62 + 2^54 is halfway for bf16; one more must round up, one less down.
    const int64_t middle = (int64_t{1} << 62) + (int64_t{1} << 54);
    CHECK(half_bits(ops::cast(
              Tensor::from<int64_t>({middle, middle + 1, middle - 1, -middle - 1, 3}, {5}),
              bf16)) == std::vector<uint16_t>{0x5E80, 0x5E81, 0x5E80, 0xDE81, 0x4040});
    for (DType half : {bf16, f16})
      for (DType from : {f64, f32}) {
        const Tensor nan = ops::cast(full({40}, kNaN, from), half);
        for (float value : nan.to_vector<float>()) CHECK(std::isnan(value));
      }
  }

  TEST_CASE("every 16-bit value survives the way to f32, f64 and back") {
    std::vector<uint16_t> all(65536);
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
    for (DType half : {bf16, f16}) {
      const Tensor x = Tensor::external(all.data(), {65536}, half);
      const std::vector<float> values = x.to_vector<float>();
      for (DType wide : {f32, f64}) {
        const Tensor back = ops::cast(ops::cast(x, wide), half);
        const std::vector<uint16_t> bits = half_bits(back);
        const std::vector<float> returned = back.to_vector<float>();
        int64_t wrong = 0;
        for (size_t i = 0; i < all.size(); ++i)
          wrong += std::isnan(values[i]) ? !std::isnan(returned[i]) : bits[i] != all[i];
        CHECK(wrong == 0);
      }
    }
  }

  TEST_CASE("runs of halves have the same bits as single conversions, NaN payloads too") {
    std::vector<uint32_t> words(10007);
    for (size_t i = 0; i < words.size(); ++i) words[i] = RandomKey{3}.bits(i);
    for (size_t i = 0; i < 64; ++i) words[i] = 0x7F800000u + static_cast<uint32_t>(i << 8);
    const Tensor x = Tensor::external(words.data(), {10007}, f32);
    const std::vector<uint16_t> brain = half_bits(ops::cast(x, bf16));
    const std::vector<uint16_t> binary = half_bits(ops::cast(x, f16));
    int64_t wrong = 0;
    for (size_t i = 0; i < words.size(); ++i) {
      wrong += brain[i] != bfloat16(x.data<float>()[i]).bits;
      wrong += binary[i] != float16(x.data<float>()[i]).bits;
    }
    CHECK(wrong == 0);
  }

  TEST_CASE("errors") {
    CHECK_THROWS_AS(ops::copy(zeros({2, 3}), zeros({2, 2})), Error);
    CHECK_THROWS_AS(ops::copy(zeros({3}), zeros({2, 3})), Error);
    CHECK_THROWS_AS(ops::copy(zeros({1, 3}), zeros({2, 3})), Error);
    CHECK_THROWS_AS(ops::copy(strided(zeros({3}), 0, {2, 3}, {0, 1}), zeros({2, 3})), Error);
    CHECK_THROWS_AS(ops::copy(Tensor(), zeros({3})), Error);
    CHECK_THROWS_AS(ops::clone(Tensor()), Error);
    CHECK_THROWS_AS(ops::fill(Tensor(), 0.0), Error);
  }
}
