// NEFTune's noise on an Embedding: its size for each sequence, where it falls, what it does not
// touch.
#include <doctest/doctest.h>
#include <tendril/autograd/checkpoint.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/threads.h>
#include <tendril/nn/embedding.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "golden_values.h"
#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

constexpr int64_t kChannels = 32;

// Of f64, so that what was added can be had back by subtraction almost exactly.
struct NoisyTable : nn::Embedding {
  explicit NoisyTable(double alpha = 5.0, DType dtype = f64)
      : Embedding(10, kChannels, {.std = 0.02, .dtype = dtype}) {
    set_noise_alpha(alpha);
  }
};

// What a forward pass adds to the rows of the table: (B, T, C).
Tensor noise_of(const nn::Embedding& table, const Tensor& tokens, uint64_t seed = 7) {
  const NoGradGuard no_grad;
  manual_seed(seed);
  return table(tokens) - embedding(tokens, table.weight());
}

struct Spread {
  double largest = 0.0, square = 0.0;  // magnitude; mean of squares
};

Spread spread_of(const Tensor& x) {
  Spread spread;
  const std::vector<double> values = x.to_vector<double>();
  for (const double value : values) {
    spread.largest = std::max(spread.largest, std::abs(value));
    spread.square += value * value / static_cast<double>(values.size());
  }
  return spread;
}

// Within the bound and close to it; the mean of squares is that of a uniform distribution. `share`
// of the bound is what the largest of so few numbers reaches nearly always.
void check_uniform(const Tensor& noise, double bound, double share, double tolerance) {
  const Spread spread = spread_of(noise);
  CHECK(spread.largest <= bound * (1.0 + 1e-12));
  CHECK(spread.largest >= bound * share);
  CHECK(std::abs(spread.square / (bound * bound / 3.0) - 1.0) <= tolerance);
}

}  // namespace

TEST_SUITE("embedding_noise") {
  TEST_CASE("without lengths the bound is alpha / sqrt(T C)") {
    const NoisyTable table;
    const Tensor noise = noise_of(table, randint(0, 10, {1, 64}));
    check_uniform(noise, 0.11048543456039805, 0.99, 0.06);  // 5 / sqrt(2048)
    // The norm of a whole sequence is alpha / sqrt(3), whatever T and C.
    CHECK(norm(noise).item<double>() == doctest::Approx(2.8867513).epsilon(0.03));
  }

  TEST_CASE("with lengths each sequence has its own bound, and padding no noise") {
    NoisyTable table;
    const int64_t T = 64, lengths[] = {64, 16, 1};
    const double bounds[] = {0.11048543456039805, 0.22097086912079611, 0.8838834764831844};
    const Tensor tokens = randint(0, 10, {3, T}), given = zeros({3, T}, i64);
    for (int64_t row = 0; row < 3; ++row)
      fill_(slice(select(given, 0, row), 0, 0, lengths[row]), static_cast<double>(lengths[row]));
    table.set_noise_lengths(given);
    const Tensor noise = noise_of(table, tokens);
    for (int64_t row = 0; row < 3; ++row) {
      CAPTURE(row);
      const Tensor of_row = select(noise, 0, row);
      const double spare = lengths[row] == 1 ? 0.6 : 0.12;  // 3 sigma of so few numbers
      check_uniform(slice(of_row, 0, 0, lengths[row]), bounds[row], 0.9, spare);
      CHECK(spread_of(slice(of_row, 0, lengths[row])).largest == 0.0);
    }
    table.set_noise_lengths({});
    check_uniform(noise_of(table, tokens), bounds[0], 0.99, 0.06);
  }

  TEST_CASE("documents in one row") {
    NoisyTable table;
    const Tensor given =
        cat({full({1, 48}, 48, i64), full({1, 12}, 12, i64), zeros({1, 4}, i64)}, 1);
    table.set_noise_lengths(given);
    const Tensor noise = noise_of(table, randint(0, 10, {1, 64}));
    check_uniform(slice(noise, 1, 0, 48), 5.0 / std::sqrt(48.0 * 32.0), 0.99, 0.07);
    check_uniform(slice(noise, 1, 48, 60), 5.0 / std::sqrt(12.0 * 32.0), 0.97, 0.14);
    CHECK(spread_of(slice(noise, 1, 60)).largest == 0.0);
  }

  TEST_CASE("lengths of T give the bits of none") {
    NoisyTable table{5.0, f32};
    const Tensor tokens = randint(0, 10, {2, 6});
    const auto plain = noise_of(table, tokens).to_vector<float>();
    table.set_noise_lengths(full({2, 6}, 6, i64));
    CHECK(noise_of(table, tokens).to_vector<float>() == plain);
    CHECK(noise_of(table, tokens, 8).to_vector<float>() != plain);
  }

  TEST_CASE("off in eval mode, and at alpha 0") {
    NoisyTable table;
    const Tensor tokens = randint(0, 10, {2, 6});
    table.set_noise_lengths(full({1, 1}, 1, i64));  // nobody looks
    table.eval();
    CHECK(spread_of(noise_of(table, tokens)).largest == 0.0);
    table.train();
    table.set_noise_alpha(0.0);
    CHECK(spread_of(noise_of(table, tokens)).largest == 0.0);
  }

  TEST_CASE("16-bit tables: drawn in f32, added in their dtype") {
    NoisyTable table{5.0, bf16};
    fill_(table.weight().detach(), 0.0);
    table.set_noise_lengths(full({1, 16}, 16, i64));
    const Tensor tokens = zeros({1, 16}, i64);
    CHECK(table(tokens).dtype() == bf16);
    const Spread spread = spread_of(noise_of(table, tokens));
    CHECK(spread.largest <= 0.22097086912079611 * (1.0 + 0x1p-8));  // rounded to nearest
    CHECK(spread.largest > 0.21);
  }

  TEST_CASE("a head that shares the table does not see the noise") {
    const NoisyTable table;
    const Tensor tokens = randint(0, 10, {2, 5}), before = clone(table.weight().detach());
    const Tensor noise = noise_of(table, tokens);
    const Tensor weights = randn({2, 5, 10}, f64);
    manual_seed(7);
    sum(linear(table(tokens), table.weight()) * weights).backward();
    CHECK(table.weight().to_vector<double>() == before.to_vector<double>());
    // The same by hand: noise is a constant beside the looked-up rows.
    Tensor leaf = clone(before).requires_grad_();
    sum(linear(embedding(tokens, leaf) + noise, leaf) * weights).backward();
    CHECK(golden_deviation(table.weight().grad(), leaf.grad()) <= 1e-13);
    // And by hand altogether: d/dW of sum_t w_t . (W (W[x_t] + n_t)).
    const Tensor rows = reshape(embedding(tokens, before) + noise, {10, kChannels});
    const Tensor flat = reshape(weights, {10, 10});
    const Tensor into_rows = matmul(flat, before);  // (positions, C)
    const Tensor picks = one_hot(reshape(tokens, {10}), 10, f64);
    const Tensor expected = matmul(transpose(flat), rows) + matmul(transpose(picks), into_rows);
    CHECK(golden_deviation(table.weight().grad(), expected) <= 1e-12);
  }

  TEST_CASE("recomputation and other thread counts give the same bits") {
    NoisyTable table{5.0, f32};
    const Tensor tokens = randint(0, 10, {4, 300});
    const Tensor lengths = expand(Tensor::from<int64_t>({300, 7, 120, 1}, {4, 1}), {4, 300});
    const auto gradient = [&](bool recompute) {
      table.zero_grad();
      manual_seed(11);
      table.set_noise_lengths(contiguous(lengths));
      const auto block = [&](const std::vector<Tensor>&) { return square(table(tokens)); };
      const Tensor y = recompute ? checkpoint(block, {}) : block({});
      manual_seed(99);  // what is drawn in between does not matter
      sum(y).backward();
      table.set_noise_lengths({});
      return table.weight().grad().to_vector<float>();
    };
    const int threads = num_threads();
    const auto plain = gradient(false);
    CHECK(gradient(true) == plain);
    set_num_threads(1);
    const auto alone = gradient(true);
    set_num_threads(threads);
    CHECK(alone == plain);
  }

  TEST_CASE("errors") {
    NoisyTable table;
    CHECK(contains(message_of([&] { table.set_noise_alpha(-1.0); }), "not negative; got -1"));
    CHECK(contains(message_of([&] { table.set_noise_lengths(ones({2}, f32)); }), "i64 or i32"));
    table.set_noise_lengths(full({2, 6}, 6, i64));
    const std::string message = message_of([&] { table(zeros({2, 5}, i64)); });
    CHECK(contains(message, "got (2, 6) and (2, 5)"));
    CHECK(contains(message, "set_noise_lengths()"));
  }
}
