#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/indexing.h>
#include <tendril/core/ops/sampling.h>
#include <tendril/core/threads.h>

using namespace tendril;

namespace {

using Integers = std::vector<int64_t>;
using Numbers = std::vector<double>;

Tensor counting(const Shape& shape, DType dtype = i64) {
  return reshape(arange(shape.numel(), dtype), shape);
}
Tensor indices(std::initializer_list<int64_t> list, const Shape& shape) {
  return Tensor::from(list, shape);
}
Integers values(const Tensor& x) { return x.to_vector<int64_t>(); }

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

TEST_SUITE("indexing") {
  TEST_CASE("index_select") {
    const Tensor x = counting({3, 2});
    CHECK(values(index_select(x, 0, indices({2, 0, 2}, {3}))) == Integers{4, 5, 0, 1, 4, 5});
    CHECK(values(index_select(x, -1, to(indices({1}, {1}), i32))) == Integers{1, 3, 5});
    CHECK(values(index_select(transpose(x), 1, slice(indices({0, 1, 2}, {3}), 0, -1, {}, -2))) ==
          Integers{4, 0, 5, 1});
    CHECK(index_select(x, 0, zeros({0}, i64)).shape() == Shape{0, 2});
    CHECK(index_select(zeros({3, 0}), 0, indices({1}, {1})).shape() == Shape{1, 0});
    CHECK(values(index_select(to(x, bool_), 0, indices({0}, {1}))) == Integers{0, 1});
    CHECK_THROWS_AS(index_select(x, 0, indices({3}, {1})), Error);
    CHECK_THROWS_AS(index_select(x, 0, indices({-1}, {1})), Error);
    CHECK_THROWS_AS(index_select(zeros({0, 2}), 0, indices({0}, {1})), Error);
    CHECK_THROWS_AS(index_select(x, 0, indices({0}, {1, 1})), Error);
    CHECK_THROWS_AS(index_select(x, 0, zeros({1})), Error);
    CHECK_THROWS_AS(index_select(x, 2, indices({0}, {1})), Error);
  }

  TEST_CASE("index_select_backward sums repeated rows, in f32 for halves") {
    const Tensor g = Tensor::from<float>({256, 1, 1, 2, 1, 3, 1, 4}, {4, 2});
    const Tensor rows = indices({1, 0, 1, 1}, {4});
    CHECK(ops::index_select_backward(g, {3, 2}, 0, rows).to_vector<double>() ==
          Numbers{1, 2, 258, 8, 0, 0});
    // One by one in bf16 the sum would stay at 256.
    CHECK(ops::index_select_backward(to(g, bf16), {3, 2}, 0, rows).to_vector<double>() ==
          Numbers{1, 2, 258, 8, 0, 0});
    const Tensor wide = randn({2, 300, 700}, f32, RandomKey{3});
    const Tensor many = randint(0, 5, {300}, i64, RandomKey{4});
    Numbers expected(2 * 5 * 700);
    const Numbers addends = wide.to_vector<double>();
    const Integers targets = values(many);
    for (size_t i = 0; i < 2; ++i)
      for (size_t j = 0; j < 300; ++j)
        for (size_t k = 0; k < 700; ++k)
          expected[(i * 5 + static_cast<size_t>(targets[j])) * 700 + k] +=
              addends[(i * 300 + j) * 700 + k];
    const int before = num_threads();
    Numbers first;
    for (int threads : {1, 3}) {
      set_num_threads(threads);
      const Numbers sums =
          ops::index_select_backward(wide, {2, 5, 700}, 1, many).to_vector<double>();
      double worst = 0;
      for (size_t i = 0; i < sums.size(); ++i)
        worst = std::max(worst, std::abs(sums[i] - expected[i]));
      CHECK(worst < 1e-4);
      if (first.empty()) first = sums;
      CHECK(sums == first);
    }
    set_num_threads(before);
  }

  TEST_CASE("gather") {
    const Tensor x = counting({2, 3});
    CHECK(values(gather(x, 1, indices({2, 0, 1, 1}, {2, 2}))) == Integers{2, 0, 4, 4});
    CHECK(values(gather(x, 0, indices({1, 0, 1}, {1, 3}))) == Integers{3, 1, 5});
    CHECK(values(gather(transpose(x), -2, indices({2, 0}, {1, 2}))) == Integers{2, 3});
    CHECK(gather(x, 1, zeros({2, 0}, i64)).shape() == Shape{2, 0});
    CHECK_THROWS_AS(gather(x, 1, indices({3, 0}, {2, 1})), Error);
    CHECK_THROWS_AS(gather(x, 1, indices({0}, {1, 1})), Error);
    CHECK_THROWS_AS(gather(x, 1, indices({0, 0}, {2})), Error);
    CHECK_THROWS_AS(gather(full({}, 1), 0, indices({0}, {})), Error);
    CHECK_THROWS_AS(gather(x, 1, zeros({2, 1})), Error);
  }

  TEST_CASE("scatter_add") {
    const Tensor x = ones({2, 3}, i64);
    const Tensor at = indices({2, 2, 0, 1}, {2, 2});
    CHECK(values(scatter_add(x, 1, at, counting({2, 2}))) == Integers{1, 1, 2, 3, 4, 1});
    CHECK(values(x) == Integers(6, 1));
    CHECK(values(scatter_add(transpose(zeros({2, 2}, i64)), 0, indices({1, 1}, {1, 2}),
                             counting({1, 2}))) == Integers{0, 0, 0, 1});
    const Tensor halves = scatter_add(full({1}, 256, bf16), 0, zeros({4}, i64), ones({4}, bf16));
    CHECK(halves.to_vector<double>() == Numbers{260});
    CHECK(halves.dtype() == bf16);
    CHECK(values(scatter_add(x, 1, zeros({2, 0}, i64), zeros({2, 0}, i64))) == Integers(6, 1));
    CHECK_THROWS_AS(scatter_add(x, 1, at, counting({2, 1})), Error);
    CHECK_THROWS_AS(scatter_add(x, 1, at, ones({2, 2})), Error);
    CHECK_THROWS_AS(scatter_add(x, 0, at, counting({2, 2})), Error);
    CHECK_THROWS_AS(scatter_add(x, 1, indices({3, 0, 0, 0}, {2, 2}), counting({2, 2})), Error);
    CHECK_THROWS_AS(scatter_add(to(x, bool_), 1, at, ones({2, 2}, bool_)), Error);
  }

  TEST_CASE("one_hot") {
    CHECK(values(one_hot(indices({2, 0}, {2}), 3)) == Integers{0, 0, 1, 1, 0, 0});
    CHECK(one_hot(indices({1}, {1, 1}), 2, bool_).shape() == Shape{1, 1, 2});
    CHECK(one_hot(zeros({0}, i32), 3).shape() == Shape{0, 3});
    CHECK_THROWS_AS(one_hot(indices({3}, {1}), 3), Error);
    CHECK_THROWS_AS(one_hot(indices({0}, {1}), 0), Error);
    CHECK_THROWS_AS(one_hot(indices({0}, {1}), -1), Error);
    CHECK_THROWS_AS(one_hot(zeros({1}), 3), Error);
  }

  TEST_CASE("multinomial with replacement follows the weights") {
    const Tensor weights = Tensor::from<float>({0, 1, 0, 3, 4, 0}, {6});
    const Integers drawn = values(ops::multinomial(weights, 40000, true, RandomKey{1}));
    std::vector<int> counts(6);
    for (int64_t index : drawn) ++counts.at(static_cast<size_t>(index));
    CHECK(counts[0] + counts[2] + counts[5] == 0);
    CHECK(counts[1] == doctest::Approx(5000).epsilon(0.05));
    CHECK(counts[3] == doctest::Approx(15000).epsilon(0.05));
    CHECK(counts[4] == doctest::Approx(20000).epsilon(0.05));
    const Tensor rows = expand(weights, {3, 1, 6});
    CHECK(ops::multinomial(rows, 2, true, RandomKey{1}).shape() == Shape{3, 1, 2});
  }

  TEST_CASE("multinomial over several blocks of weights") {
    const Tensor even = ones({1000});
    const Integers drawn = values(ops::multinomial(even, 20000, true, RandomKey{4}));
    double mean = 0.0;
    for (const int64_t index : drawn) mean += static_cast<double>(index) / 20000.0;
    CHECK(std::abs(mean - 499.5) < 8.0);  // four standard errors
    for (const int64_t only : {0, 255, 256, 257, 999}) {
      const Tensor one = zeros({1000});
      ops::fill(Tensor::view(one.storage(), only, {}, {}, f32), 0.5);
      CHECK(values(ops::multinomial(one, 3, true, RandomKey{5})) == Integers(3, only));
    }
  }

  TEST_CASE("multinomial without replacement") {
    // The first of two draws has probability w; the second, given the first, w / (1 - w_first).
    const Tensor weights = expand(Tensor::from<double>({1, 2, 0, 5}, {4}), {40000, 4});
    const Integers drawn = values(ops::multinomial(weights, 2, false, RandomKey{2}));
    int first_is_3 = 0, pair_3_1 = 0, repeated = 0, zero_weight = 0;
    for (size_t i = 0; i < drawn.size(); i += 2) {
      first_is_3 += drawn[i] == 3;
      pair_3_1 += drawn[i] == 3 && drawn[i + 1] == 1;
      repeated += drawn[i] == drawn[i + 1];
      zero_weight += drawn[i] == 2 || drawn[i + 1] == 2;
    }
    CHECK(repeated == 0);
    CHECK(zero_weight == 0);
    CHECK(first_is_3 / 40000.0 == doctest::Approx(5.0 / 8).epsilon(0.02));
    CHECK(pair_3_1 / 40000.0 == doctest::Approx(5.0 / 8 * 2 / 3).epsilon(0.03));
    const Integers all = values(ops::multinomial(ones({50}), 50, false, RandomKey{3}));
    CHECK(std::set<int64_t>(all.begin(), all.end()).size() == 50);
  }

  TEST_CASE("draws depend on the key, not on the threads, and use the sampling stream") {
    const Tensor weights = rand({200, 300}, f32, RandomKey{5});
    const Tensor probability = rand({50000}, f32, RandomKey{6});
    const int before = num_threads();
    std::vector<Integers> results;
    for (int threads : {1, 3}) {
      set_num_threads(threads);
      results.push_back(values(ops::multinomial(weights, 3, false, RandomKey{7})));
      results.push_back(values(ops::bernoulli(probability, RandomKey{7})));
    }
    set_num_threads(before);
    CHECK(results[0] == results[2]);
    CHECK(results[1] == results[3]);
    Generator generator(9);
    const GeneratorGuard guard(generator);
    CHECK(values(multinomial(weights, 1)) ==
          values(ops::multinomial(weights, 1, false, RandomKey{9, 0, Stream::sampling})));
  }

  TEST_CASE("multinomial errors") {
    CHECK_THROWS_AS(multinomial(zeros({3})), Error);
    CHECK_THROWS_AS(multinomial(Tensor::from<float>({1, -1}, {2})), Error);
    CHECK_THROWS_AS(multinomial(full({2}, kNaN)), Error);
    CHECK_THROWS_AS(multinomial(full({2}, kInfinity)), Error);
    CHECK_THROWS_AS(multinomial(full({2}, 1e308, f64)), Error);
    CHECK_THROWS_AS(multinomial(ones({2, 0})), Error);
    CHECK_THROWS_AS(multinomial(full({}, 1)), Error);
    CHECK_THROWS_AS(multinomial(ones({3}), 4), Error);
    CHECK_THROWS_AS(multinomial(Tensor::from<float>({1, 0, 1}, {3}), 3), Error);
    CHECK_THROWS_AS(multinomial(ones({3}), 0), Error);
    CHECK_THROWS_AS(multinomial(ones({3}, i64)), Error);
    CHECK(multinomial(ones({0, 3})).shape() == Shape{0, 1});
  }

  TEST_CASE("bernoulli") {
    const Numbers certain = bernoulli(Tensor::from<double>({0, 1, 0, 1}, {4})).to_vector<double>();
    CHECK(certain == Numbers{0, 1, 0, 1});
    double ones_drawn = 0;
    for (double value : ops::bernoulli(full({40000}, 0.3, bf16), RandomKey{8}).to_vector<double>())
      ones_drawn += value;
    CHECK(ones_drawn / 40000 == doctest::Approx(0.3).epsilon(0.03));
    CHECK(bernoulli(zeros({0})).numel() == 0);
    CHECK_THROWS_AS(bernoulli(full({1}, 1.5)), Error);
    CHECK_THROWS_AS(bernoulli(full({1}, -0.5)), Error);
    CHECK_THROWS_AS(bernoulli(full({1}, kNaN)), Error);
    CHECK_THROWS_AS(bernoulli(ones({1}, i64)), Error);
  }

  TEST_CASE("a gradient into a draw or an index throws with the operation's name") {
    Tensor p = full({4}, 0.5, f64);
    p.requires_grad_();
    for (const Tensor& y : {bernoulli(p), one_hot(to(p, i64), 2)}) {
      std::string message;
      try {
        y.backward(ones_like(y));
      } catch (const Error& error) {
        message = error.what();
      }
      CHECK((message.find("[bernoulli]") == 0 || message.find("[one_hot]") == 0));
    }
  }
}
