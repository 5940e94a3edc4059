#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include <tendril/core/creation.h>
#include <tendril/core/threads.h>

using namespace tendril;

namespace {
using Numbers = std::vector<double>;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
const DType kAll[] = {f64, f32, bf16, f16, i64, i32, u8, bool_};
}  // namespace

TEST_SUITE("creation") {
  TEST_CASE("constants in every dtype") {
    for (DType dtype : kAll) {
      CHECK(zeros({2, 2}, dtype).to_vector<double>() == Numbers{0, 0, 0, 0});
      CHECK(ones({3}, dtype).to_vector<double>() == Numbers{1, 1, 1});
      CHECK(ones_like(zeros({2}, dtype)).dtype() == dtype);
      CHECK(zeros({0, 3}, dtype).numel() == 0);
    }
    CHECK(full({}, 2.5).item<double>() == 2.5);
    CHECK(full({2}, 3.9, i64).to_vector<double>() == Numbers{3, 3});
    CHECK(full_like(zeros({2}, f16), -2).to_vector<double>() == Numbers{-2, -2});
    CHECK(empty_like(zeros({2, 5}, bf16)).shape() == Shape{2, 5});
    const std::vector<float> many = full({100000}, 0.5).to_vector<float>();
    CHECK(many == std::vector<float>(100000, 0.5f));
  }

  TEST_CASE("arange") {
    CHECK(arange(4).to_vector<int64_t>() == std::vector<int64_t>{0, 1, 2, 3});
    CHECK(arange(4).dtype() == i64);
    CHECK(arange(0).numel() == 0);
    CHECK(arange(1.0, 2.0, 0.25, f64).to_vector<double>() == Numbers{1, 1.25, 1.5, 1.75});
    CHECK(arange(5.0, -1.0, -2.0).to_vector<double>() == Numbers{5, 3, 1});
    CHECK(arange(3.0, 3.0).numel() == 0);
    CHECK(arange(3.0, 1.0).numel() == 0);
    CHECK(arange(0.0, 1.0, 0.1, f64).numel() == 10);
    CHECK(arange(40000).to_vector<int64_t>()[39999] == 39999);
    CHECK_THROWS_AS(arange(0.0, 1.0, 0.0), Error);
    CHECK_THROWS_AS(arange(0.0, kInfinity), Error);
    CHECK_THROWS_AS(arange(0.0, kNaN), Error);
    CHECK_THROWS_AS(arange(0.0, 1e300, 1e-300), Error);
    CHECK_THROWS_AS(arange(-1), Error);
  }

  TEST_CASE("linspace ends exactly at stop") {
    CHECK(linspace(0, 1, 5, f64).to_vector<double>() == Numbers{0, 0.25, 0.5, 0.75, 1});
    CHECK(linspace(2, -2, 3).to_vector<double>() == Numbers{2, 0, -2});
    CHECK(linspace(7, 9, 1).to_vector<double>() == Numbers{7});
    CHECK(linspace(7, 9, 0).numel() == 0);
    CHECK(linspace(0, 0.3, 8, f64).to_vector<double>()[7] == 0.3);
    CHECK_THROWS_AS(linspace(0, 1, -1), Error);
    CHECK_THROWS_AS(linspace(0, kInfinity, 3), Error);
  }

  TEST_CASE("eye") {
    CHECK(eye(2).to_vector<double>() == Numbers{1, 0, 0, 1});
    CHECK(eye(2, 3, i32).to_vector<double>() == Numbers{1, 0, 0, 0, 1, 0});
    CHECK(eye(3, 2, bool_).to_vector<double>() == Numbers{1, 0, 0, 1, 0, 0});
    CHECK(eye(0).numel() == 0);
    CHECK(eye(2, 0).shape() == Shape{2, 0});
    CHECK_THROWS_AS(eye(-2), Error);
    CHECK_THROWS_AS(eye(2, -3), Error);
  }

  TEST_CASE("element i of a random tensor depends on the key and i only") {
    const RandomKey key{5, 9, Stream::init};
    const std::vector<double> uniform = rand({50003}, f64, key).to_vector<double>();
    const std::vector<double> normal = randn({50003}, f64, key).to_vector<double>();
    const std::vector<int64_t> whole = randint(-3, 5, {50003}, i64, key).to_vector<int64_t>();
    for (uint64_t i : {0, 1, 2, 3, 6, 16383, 16384, 16389, 50002}) {
      CAPTURE(i);
      CHECK(uniform[i] == key.bits(i) / 4294967296.0);
      CHECK(whole[i] == -3 + static_cast<int64_t>(key.bits(i) >> 29));
      const auto pair = normal_from_bits(key.bits(i & ~1ull), key.bits(i | 1ull));
      CHECK(normal[i] == pair[i % 2]);
    }
    const int before = num_threads();
    set_num_threads(1);
    CHECK(randn({50003}, f64, key).to_vector<double>() == normal);
    set_num_threads(before);
  }

  TEST_CASE("random moments") {
    const std::vector<double> uniform = rand({200000}, f32, RandomKey{1}).to_vector<double>();
    const std::vector<double> normal = randn({200000}, f32, RandomKey{2}).to_vector<double>();
    const auto moment = [](const std::vector<double>& values, int power) {
      double total = 0;
      for (double value : values) total += std::pow(value, power);
      return total / static_cast<double>(values.size());
    };
    CHECK(moment(uniform, 1) == doctest::Approx(0.5).epsilon(0.01));
    CHECK(moment(uniform, 2) == doctest::Approx(1.0 / 3).epsilon(0.01));
    CHECK(std::abs(moment(normal, 1)) < 0.01);
    CHECK(moment(normal, 2) == doctest::Approx(1.0).epsilon(0.02));
    CHECK(moment(normal, 4) == doctest::Approx(3.0).epsilon(0.05));
  }

  TEST_CASE("rand stays below 1 in every floating dtype") {
    for (DType dtype : {f64, f32, bf16, f16}) {
      double high = 0, low = 1;
      for (double value : rand({100000}, dtype, RandomKey{3}).to_vector<double>()) {
        high = std::max(high, value);
        low = std::min(low, value);
      }
      CHECK(high < 1.0);
      CHECK(high > 0.99);
      CHECK(low >= 0.0);
    }
  }

  TEST_CASE("the default generator gives a new draw each time and repeats after seeding") {
    Generator generator(42);
    const GeneratorGuard guard(generator);
    const auto first = randn({8}).to_vector<double>();
    CHECK(randn({8}).to_vector<double>() != first);
    CHECK(generator.state().position == 2);
    manual_seed(42);
    CHECK(randn({8}).to_vector<double>() == first);
    CHECK(randn({8}, f32, RandomKey{42, 0, Stream::model}).to_vector<double>() == first);
  }

  TEST_CASE("randint covers its range and no more") {
    std::vector<int> counts(6);
    for (int64_t value : randint(0, 6, {6000}, u8, RandomKey{4}).to_vector<int64_t>())
      ++counts.at(static_cast<size_t>(value));
    for (int count : counts) CHECK(count > 800);
    const int64_t low = std::numeric_limits<int64_t>::min(),
                  high = std::numeric_limits<int64_t>::max();
    bool negative = false, positive = false;
    for (int64_t value : randint(low, high, {64}, i64, RandomKey{5}).to_vector<int64_t>())
      (value < 0 ? negative : positive) = true;
    CHECK((negative && positive));
    CHECK(randint(7, 8, {3}, f32).to_vector<double>() == Numbers{7, 7, 7});
  }

  TEST_CASE("errors") {
    CHECK_THROWS_AS(rand({2}, i64), Error);
    CHECK_THROWS_AS(randn({2}, bool_), Error);
    CHECK_THROWS_AS(randint(3, 3, {2}), Error);
    CHECK_THROWS_AS(randint(0, 257, {2}, u8), Error);
    CHECK_THROWS_AS(randint(-1, 2, {2}, u8), Error);
    CHECK_THROWS_AS(zeros({-1}), Error);
    CHECK_THROWS_AS(full({1 << 30, 1 << 30, 1 << 30}, 0), Error);
  }
}
