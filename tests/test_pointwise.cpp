// Pointwise ops by hand: dtypes, numbers as operands, integers at their limits, NaN and infinity.

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include <tendril/tendril.h>

using namespace tendril;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int64_t kLast = std::numeric_limits<int64_t>::max();
constexpr int64_t kFirst = std::numeric_limits<int64_t>::min();

using Integers = std::vector<int64_t>;
using Numbers = std::vector<double>;
using Bools = std::vector<bool>;

Tensor integers(std::initializer_list<int64_t> values) {
  return Tensor::from<int64_t>(values, {static_cast<int64_t>(values.size())});
}

Tensor reals(std::initializer_list<double> values, DType dtype = f64) {
  return to(Tensor::from<double>(values, {static_cast<int64_t>(values.size())}), dtype);
}

}  // namespace

TEST_SUITE("pointwise") {
  TEST_CASE("integer arithmetic wraps around") {
    const Tensor x = integers({kLast, kFirst, 3});
    CHECK((x + 1.0).to_vector<int64_t>() == Integers{kFirst, kFirst + 1, 4});
    CHECK((x - integers({-1, 1, 5})).to_vector<int64_t>() == Integers{kFirst, kLast, -2});
    CHECK((x * integers({2, 2, 4})).to_vector<int64_t>() == Integers{-2, 0, 12});
    CHECK(neg(x).to_vector<int64_t>() == Integers{-kLast, kFirst, -3});
    CHECK(abs(x).to_vector<int64_t>() == Integers{kLast, kFirst, 3});
    CHECK(square(x).to_vector<int64_t>() == Integers{1, 0, 9});
    const Tensor bytes = Tensor::from<uint8_t>({200, 0}, {2});
    CHECK((bytes + 100.0).dtype() == u8);
    CHECK((bytes + 100.0).to_vector<int64_t>() == Integers{44, 100});
    CHECK((1.0 - bytes).to_vector<int64_t>() == Integers{57, 1});
  }

  TEST_CASE("bools are numbers in arithmetic and stay bools in comparisons") {
    const Tensor x = Tensor::from<bool>({true, false, true}, {3}),
                 y = Tensor::from<bool>({true, true, false}, {3});
    CHECK((x + x).dtype() == i64);
    CHECK((x + x).to_vector<int64_t>() == Integers{2, 0, 2});
    CHECK((x - y).to_vector<int64_t>() == Integers{0, -1, 1});
    CHECK((x / y).dtype() == f32);
    CHECK((x * 0.5).dtype() == f32);
    CHECK(logical_xor(x, y).to_vector<bool>() == Bools{false, true, true});
    CHECK(logical_not(x).to_vector<bool>() == Bools{false, true, false});
    CHECK(exp(x).dtype() == f32);
  }

  TEST_CASE("clamping integers: infinity is no bound, a fraction makes f32") {
    const Tensor x = integers({kFirst, -7, 7, kLast});
    CHECK(clamp(x, -kInfinity, kInfinity).dtype() == i64);
    CHECK(clamp(x, -kInfinity, kInfinity).to_vector<int64_t>() == Integers{kFirst, -7, 7, kLast});
    CHECK(clamp(x, -5.0, 1e300).to_vector<int64_t>() == Integers{-5, -5, 7, kLast});
    CHECK(clamp_max(x, -kInfinity).to_vector<int64_t>() ==
          Integers{kFirst, kFirst, kFirst, kFirst});
    const Tensor half = clamp(integers({-1, 0, 5}), -0.5, 2.5);
    CHECK(half.dtype() == f32);
    CHECK(half.to_vector<double>() == Numbers{-0.5, 0, 2.5});
    CHECK_THROWS_AS(clamp(x, 0.0, kNan), Error);
    CHECK_THROWS_AS(clamp(x, 1.0, 0.0), Error);
  }

  TEST_CASE("integers are compared exactly, also with fractions") {
    const Tensor x = integers({16777216, 16777217, 16777218});
    CHECK(gt(x, 16777216.5).to_vector<bool>() == Bools{false, true, true});
    CHECK(eq(x, reals({16777216, 16777216, 16777218}, f32)).to_vector<bool>() ==
          Bools{true, false, true});
    CHECK(lt(x, kInfinity).to_vector<bool>() == Bools{true, true, true});
    CHECK(ne(x, kNan).to_vector<bool>() == Bools{true, true, true});
    CHECK(eq(Tensor::from<uint8_t>({44}, {1}), 300.0).to_vector<bool>() == Bools{false});
  }

  TEST_CASE("NaN passes through, infinity behaves") {
    for (DType dtype : {f64, f32, bf16, f16}) {
      const Tensor x = reals({kNan, kInfinity, -kInfinity, -1.0}, dtype);
      const Bools only_nan{true, false, false, false};
      const auto is_nan = [](const Tensor& y) { return ne(y, y).to_vector<bool>(); };
      for (const Tensor& y :
           {relu(x), abs(x), sign(x), clamp(x, -2.0, 2.0), exp(x), tanh(x), erf(x), sigmoid(x),
            softplus(x), floor(x), maximum(x, 0.0), minimum(0.0, x), silu(neg(relu(x)))})
        CHECK(is_nan(y)[0]);
      CHECK(is_nan(relu(x)) == only_nan);
      CHECK(is_nan(maximum(reals({0, 0, 0, 0}, dtype), x)) == only_nan);
      CHECK(exp(x).to_vector<double>()[1] == kInfinity);
      CHECK(exp(x).to_vector<double>()[2] == 0.0);
      CHECK(is_nan(log(x)) == Bools{true, false, true, true});
      CHECK(isfinite(x).to_vector<bool>() == Bools{false, false, false, true});
      CHECK(softplus(x).to_vector<double>()[1] == kInfinity);
      CHECK(is_nan(sqrt(x)) == Bools{true, false, true, true});
    }
  }

  TEST_CASE("operands of different dtypes get gradients in their own") {
    Tensor a = reals({1.5, 2.0}, bf16), b = reals({0.25, 4.0}, f32);
    const Tensor counts = integers({3, 5});
    a.requires_grad_();
    b.requires_grad_();
    const Tensor y = a * b + a * counts;
    CHECK(y.dtype() == f32);
    sum(y).backward();
    CHECK(a.grad().dtype() == bf16);
    CHECK(a.grad().to_vector<double>() == Numbers{3.25, 9.0});
    CHECK(b.grad().dtype() == f32);
    CHECK(b.grad().to_vector<double>() == Numbers{1.5, 2.0});
  }

  TEST_CASE("a saved operand that was broadcast reaches its gradient") {
    Tensor row = reals({2, 3}), column = reshape(reals({5, 7, 11}), {3, 1});
    row.requires_grad_();
    column.requires_grad_();
    const Tensor wide = expand(row, {3, 2});
    sum(mul(wide, column) + mul(flip(wide, {1}), 0.0)).backward();
    CHECK(row.grad().to_vector<double>() == Numbers{23, 23});
    CHECK(column.grad().to_vector<double>() == Numbers{5, 5, 5});
  }

  TEST_CASE("strides of any sign, through blocks of 16-bit floats") {
    const int64_t count = 5000;  // several blocks, and a tail that fills no vector
    const Tensor x = to(arange(count, f32) * 0.125, bf16);
    const Tensor backwards = slice(x, 0, -1, {}, -3);
    const std::vector<double> all = x.to_vector<double>(),
                              got = (backwards + backwards).to_vector<double>();
    REQUIRE(got.size() == 1667);
    bool equal = true;
    for (size_t i = 0; i < got.size(); ++i)
      equal = equal && got[i] == 2 * all[static_cast<size_t>(count) - 1 - 3 * i];
    CHECK(equal);
    const std::vector<double> doubled = (x + x).to_vector<double>();
    for (size_t i = 0; i < doubled.size(); ++i) equal = equal && doubled[i] == 2 * all[i];
    CHECK(equal);
  }
}
