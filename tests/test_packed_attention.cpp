// Attention within packed sequences: the same bits as one call for each sequence.
#include <doctest/doctest.h>
#include <tendril/tendril.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "test_tools.h"

using namespace tendril;
using testing::contains;
using testing::message_of;

namespace {

using Lengths = std::vector<int64_t>;

Tensor starts_of(const Lengths& lengths, DType dtype = i32) {
  std::vector<int64_t> starts{0};
  for (const int64_t length : lengths) starts.push_back(starts.back() + length);
  return to(Tensor::from(starts, {static_cast<int64_t>(starts.size())}), dtype);
}

int64_t total(const Lengths& lengths) {
  int64_t sum = 0;
  for (const int64_t length : lengths) sum += length;
  return sum;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = contiguous(a.detach()), y = contiguous(b.detach());
  return x.shape() == y.shape() && x.dtype() == y.dtype() &&
         std::memcmp(x.raw_data(), y.raw_data(), static_cast<size_t>(x.nbytes())) == 0;
}

struct Run {
  Tensor output, q, k, v;  // the last three: gradients
};

Run run(Tensor q, Tensor k, Tensor v, const Tensor& g, const AttentionOptions& options) {
  for (Tensor* x : {&q, &k, &v}) x->requires_grad_();
  const Tensor y = scaled_dot_product_attention(q, k, v, options);
  const std::vector<Tensor> gradients = grad({y}, {q, k, v}, {g});
  return {y, gradients[0], gradients[1], gradients[2]};
}

struct Packed {
  Lengths queries, keys;
  int64_t B = 1, H = 2, Hk = 2, D = 4;
  DType dtype = f32;
  AttentionOptions options = {};
};

// Compares the packed call with one call per sequence on dense copies of its parts.
void check_like_separate_runs(const Packed& c) {
  const int64_t Tq = total(c.queries), Tk = total(c.keys);
  const auto noise = [&](const Shape& shape, uint64_t seed) {
    return to(randn(shape, f64, RandomKey{seed, 0, Stream::noise}), c.dtype);
  };
  const Tensor q = noise({c.B, c.H, Tq, c.D}, 1), k = noise({c.B, c.Hk, Tk, c.D}, 2),
               v = noise({c.B, c.Hk, Tk, c.D}, 3), g = noise({c.B, c.H, Tq, c.D}, 4);
  AttentionOptions options = c.options;
  options.q_starts = starts_of(c.queries);
  options.k_starts = starts_of(c.keys, i64);
  manual_seed(9);
  const Run all = run(q.detach(), k.detach(), v.detach(), g, options);
  manual_seed(9);  // the separate runs draw the same masks
  int64_t t = 0, s = 0;
  for (size_t i = 0; i < c.queries.size(); ++i) {
    CAPTURE(i);
    const int64_t next_t = t + c.queries[i], next_s = s + c.keys[i];
    const auto rows = [&](const Tensor& x) { return clone(slice(x, 2, t, next_t)); };
    const auto columns = [&](const Tensor& x) { return clone(slice(x, 2, s, next_s)); };
    AttentionOptions own_options = c.options;
    if (own_options.mask.defined())
      own_options.mask = slice(slice(own_options.mask, -2, t, next_t), -1, s, next_s);
    const Run own = run(rows(q), columns(k), columns(v), rows(g), own_options);
    CHECK(same_bits(own.output, rows(all.output)));
    CHECK(same_bits(own.q, rows(all.q)));
    CHECK(same_bits(own.k, columns(all.k)));
    CHECK(same_bits(own.v, columns(all.v)));
    t = next_t, s = next_s;
  }
}

std::string error_of(const Shape& q, const Shape& k, const Tensor& q_starts,
                     const Tensor& k_starts = {}) {
  return message_of([&] {
    scaled_dot_product_attention(zeros(q), zeros(k), zeros(k),
                                 {.q_starts = q_starts, .k_starts = k_starts});
  });
}

}  // namespace

TEST_SUITE("packed_attention") {
  TEST_CASE("packed 3, 5 and 2 are the same bits as three calls") {
    for (const DType dtype : {f32, bf16, f16, f64}) {
      CAPTURE(dtype);
      check_like_separate_runs({.queries = {3, 5, 2}, .keys = {3, 5, 2}, .dtype = dtype});
      check_like_separate_runs({.queries = {3, 5, 2},
                                .keys = {3, 5, 2},
                                .B = 2,
                                .H = 4,
                                .dtype = dtype,
                                .options = {.causal = true}});
    }
  }

  TEST_CASE("so are sequences of several blocks, of one position and of none") {
    const Lengths lengths{70, 300, 1, 0, 130};
    for (const int64_t window : {0, 20})
      check_like_separate_runs({.queries = lengths,
                                .keys = lengths,
                                .H = 4,
                                .Hk = 2,
                                .D = 8,
                                .options = {.causal = true, .window = window}});
  }

  TEST_CASE("queries and keys may be cut differently, to nothing too") {
    for (const bool causal : {false, true})
      check_like_separate_runs(
          {.queries = {2, 4, 0, 3, 1}, .keys = {5, 4, 2, 0, 300}, .options = {.causal = causal}});
  }

  TEST_CASE("dropout draws for each sequence what a call of its own would draw") {
    check_like_separate_runs(
        {.queries = {3, 40, 9}, .keys = {3, 40, 9}, .options = {.causal = true, .dropout = 0.3}});
    // The comparison can fail: the masks of two sequences differ.
    const Tensor q = zeros({1, 1, 64, 1}), v = ones({1, 1, 64, 1});
    const Tensor y =
        scaled_dot_product_attention(q, q, v, {.dropout = 0.5, .q_starts = starts_of({32, 32})});
    CHECK(!same_bits(slice(y, 2, 0, 32), slice(y, 2, 32, 64)));
  }

  TEST_CASE("of a mask each sequence reads its own part") {
    check_like_separate_runs(
        {.queries = {3, 5, 2},
         .keys = {4, 1, 3},
         .options = {.mask = randn({2, 10, 8}, f32, RandomKey{6, 0, Stream::noise})}});
  }

  TEST_CASE("one sequence that is the whole axis changes nothing") {
    const Tensor x = randn({2, 2, 9, 4}, f32, RandomKey{7, 0, Stream::noise});
    const AttentionOptions whole{.causal = true};
    AttentionOptions packed = whole;
    packed.q_starts = starts_of({9});
    CHECK(same_bits(scaled_dot_product_attention(x, x, x, packed),
                    scaled_dot_product_attention(x, x, x, whole)));
  }

  TEST_CASE("wrong boundaries are errors that say what is wrong") {
    const Shape x{1, 1, 6, 2}, longer{1, 1, 7, 2};
    const Tensor good = starts_of({4, 2});
    const auto list = [](const std::vector<int64_t>& values) {
      return Tensor::from(values, {static_cast<int64_t>(values.size())});
    };
    CHECK(error_of(x, x, good).empty());
    CHECK(contains(error_of(x, x, list({0, 4, 5})), "from 0 to the 6 positions"));
    CHECK(contains(error_of(x, x, list({1, 4, 6})), "got 1 to 6"));
    CHECK(contains(error_of(x, x, list({0, 5, 4, 6})), "must not fall; got 5 and then 4"));
    CHECK(contains(error_of(x, x, list({0})), "(sequences + 1)"));
    CHECK(contains(error_of(x, x, to(good, f32)), "i32 or i64"));
    CHECK(contains(error_of(x, x, reshape(good, {1, 3})), "(sequences + 1)"));
    CHECK(contains(error_of(x, x, {}, good), "without q_starts"));
    CHECK(contains(error_of(x, longer, good), "give k_starts too"));
    CHECK(contains(error_of(x, longer, good, list({0, 7})), "as many sequences; got 2 and 1"));
    CHECK(contains(error_of({6, 2}, {6, 2}, good), "(B, H, Tq, D)"));
  }
}
