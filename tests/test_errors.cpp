// Misuse of the whole vocabulary: every public function of autograd/functions.h and core/creation.h
// answers wrong shapes, dtypes, axes, indices and devices with a tendril::Error that names it.

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <tendril/tendril.h>

#include "op_cases.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

using Inputs = std::vector<Tensor>;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

struct Misuse {
  const char* prefix;  // the op named by the message
  std::function<void()> call;
};

void check_all(const std::vector<Misuse>& table) {
  for (size_t row = 0; row < table.size(); ++row) {
    const std::string message = error_of(table[row].call), expected = std::string("[") + table[row].prefix + "] ";
    CAPTURE(row);
    CHECK_MESSAGE(message.compare(0, expected.size(), expected) == 0, table[row].prefix, ": ", message);
    CHECK(message.size() > expected.size() + 10);  // says what is wrong
  }
}

// A tensor that claims to be elsewhere; a kernel must not touch it.
Tensor on_cuda(const Shape& shape, DType dtype) {
  static double memory[64] = {};
  return Tensor::view(Storage::wrap(memory, sizeof memory, Device::cuda(0), nullptr), 0, shape,
                      contiguous_strides(shape), dtype);
}

Tensor x23() { return ones({2, 3}); }
Tensor index(std::initializer_list<int64_t> values) {
  return Tensor::from<int64_t>(values, {static_cast<int64_t>(values.size())});
}

}  // namespace

TEST_SUITE("errors") {
  TEST_CASE("creation") {
    check_all({
        {"allocator", [] { zeros({2}, f32, Device::cuda(99)); }},
        {"allocator", [] { ones({2}, f32, Device::cuda(99)); }},
        {"allocator", [] { full({2}, 1.0, f32, Device::cuda(99)); }},
        {"allocator", [] { Tensor::empty({2}, f32, Device::cuda(99)); }},
        {"shape", [] { zeros({-1}); }},
        {"shape", [] { full({int64_t{1} << 40, int64_t{1} << 40}, 0.0); }},
        {"shape", [] { rand({-2}); }},
        {"shape", [] { randn({2, -2}); }},
        {"shape", [] { randint(0, 2, {-1}); }},
        {"shape", [] { Shape({1, 1, 1, 1, 1, 1, 1, 1, 1}); }},
        {"tensor", [] { empty_like(Tensor()); }},
        {"tensor", [] { zeros_like(Tensor()); }},
        {"tensor", [] { ones_like(Tensor()); }},
        {"tensor", [] { full_like(Tensor(), 1.0); }},
        {"arange", [] { arange(0.0, 1.0, 0.0); }},
        {"arange", [] { arange(0.0, kNan); }},
        {"arange", [] { arange(-1); }},
        {"linspace", [] { linspace(0, 1, -1); }},
        {"linspace", [] { linspace(0, INFINITY, 3); }},
        {"eye", [] { eye(-1); }},
        {"eye", [] { eye(2, -3); }},
        {"rand", [] { rand({2}, i64); }},
        {"randn", [] { randn({2}, bool_); }},
        {"randint", [] { randint(3, 3, {2}); }},
        {"randint", [] { randint(0, 300, {2}, u8); }},
    });
  }

  TEST_CASE("pointwise") {
#define UNARY(op, ...) {"tensor", [] { op(Tensor()); }},
#define UNARY1(op, ...) {"tensor", [] { op(Tensor(), 0.5); }},
#define UNARY_NONDIFF(op, ...) {"tensor", [] { op(Tensor()); }},
#define BINARY(op, ...)                          \
  {#op, [] { op(x23(), ones({2})); }},           \
      {#op, [] { op(ones({4, 1}), x23()); }},    \
      {"tensor", [] { op(Tensor(), x23()); }},   \
      {"tensor", [] { op(x23(), Tensor()); }},   \
      {"tensor", [] { op(2.0, Tensor()); }},     \
      {#op, [] { op(x23(), on_cuda({2, 3}, f32)); }},
#define COMPARE(op, ...)                       \
  {#op, [] { op(x23(), ones({2})); }},         \
      {"tensor", [] { op(Tensor(), 1.0); }},   \
      {#op, [] { op(on_cuda({3}, f32), x23()); }},
    check_all({
#include <tendril/core/ops/ops.def>
        {"clamp", [] { clamp(x23(), 1.0, 0.0); }},
        {"clamp", [] { clamp(x23(), kNan, 1.0); }},
        {"tensor", [] { logical_not(Tensor()); }},
        {"tensor", [] { isfinite(Tensor()); }},
        {"where", [] { where(x23(), x23(), x23()); }},
        {"where", [] { where(eq(x23(), 1.0), x23(), ones({2})); }},
        {"masked_fill", [] { masked_fill(x23(), eq(ones({2}), 1.0), 0.0); }},
        {"masked_fill", [] { masked_fill(ones({3}), eq(x23(), 1.0), 0.0); }},
        {"masked_fill", [] { masked_fill(x23(), x23(), 0.0); }},
        {"allocator", [] { to(x23(), Device::cuda(99)); }},
        {"tensor", [] { to(Tensor(), f32); }},
        {"dtype", [] { to(x23(), static_cast<DType>(99)); }},
    });
  }

  TEST_CASE("reductions") {
    check_all({
        {"sum", [] { sum(x23(), {2}); }},
        {"sum", [] { sum(x23(), {0, -2}); }},
        {"mean", [] { mean(x23(), {-3}); }},
        {"prod", [] { prod(x23(), {5}); }},
        {"max", [] { max(x23(), {2}); }},
        {"max", [] { max(zeros({0})); }},
        {"min", [] { min(zeros({2, 0}), {1}); }},
        {"var", [] { var(arange(3)); }},
        {"var", [] { var(x23(), {2}); }},
        {"std", [] { tendril::std(arange(3)); }},
        {"std", [] { tendril::std(x23(), {0, 0}); }},
        {"norm", [] { norm(arange(3)); }},
        {"norm", [] { norm(x23(), 0.0); }},
        {"norm", [] { norm(x23(), kNan); }},
        {"norm", [] { norm(x23(), 2.0, {2}); }},
        {"logsumexp", [] { logsumexp(arange(3)); }},
        {"logsumexp", [] { logsumexp(x23(), {-4}); }},
        {"any", [] { any(x23(), {2}); }},
        {"all", [] { all(x23(), {2}); }},
        {"argmax", [] { argmax(x23(), 2); }},
        {"argmax", [] { argmax(zeros({0})); }},
        {"argmin", [] { argmin(zeros({3, 0}), 1); }},
        {"cumsum", [] { cumsum(x23(), 2); }},
        {"cumsum", [] { cumsum(ones({}), 0); }},
        {"sort", [] { sort(x23(), 2); }},
        {"argsort", [] { argsort(x23(), -3); }},
        {"topk", [] { topk(x23(), 4); }},
        {"topk", [] { topk(x23(), -1); }},
        {"topk", [] { topk(x23(), 1, 2); }},
    });
  }

  TEST_CASE("layout") {
    check_all({
        {"reshape", [] { reshape(x23(), {4}); }},
        {"reshape", [] { reshape(x23(), {-1, -1}); }},
        {"reshape", [] { reshape(x23(), {-2, 3}); }},
        {"reshape", [] { reshape(zeros({0}), {0, -1}); }},
        {"view", [] { view(transpose(x23()), {6}); }},
        {"view", [] { view(x23(), {5}); }},
        {"flatten", [] { flatten(x23(), 1, 0); }},
        {"flatten", [] { flatten(x23(), 0, 2); }},
        {"transpose", [] { transpose(ones({3})); }},
        {"transpose", [] { transpose(x23(), 0, 2); }},
        {"permute", [] { permute(x23(), {0}); }},
        {"permute", [] { permute(x23(), {0, 0}); }},
        {"permute", [] { permute(x23(), {0, 2}); }},
        {"expand", [] { expand(x23(), {3}); }},
        {"expand", [] { expand(x23(), {4, 3}); }},
        {"expand", [] { expand(ones({1}), {-1, 1}); }},
        {"squeeze", [] { squeeze(x23(), 0); }},
        {"squeeze", [] { squeeze(x23(), 2); }},
        {"unsqueeze", [] { unsqueeze(x23(), 4); }},
        {"cat", [] { cat({}); }},
        {"cat", [] { cat({x23(), ones({2, 3, 1})}); }},
        {"cat", [] { cat({x23(), ones({3, 2})}, 1); }},
        {"cat", [] { cat({x23()}, 2); }},
        {"cat", [] { cat({ones({})}); }},
        {"stack", [] { stack({}); }},
        {"stack", [] { stack({x23(), ones({3, 2})}); }},
        {"stack", [] { stack({x23()}, 3); }},
        {"split", [] { split(x23(), 0); }},
        {"split", [] { split(x23(), 1, 2); }},
        {"split", [] { split(x23(), {1, 2}); }},
        {"split", [] { split(x23(), {3, -1}); }},
        {"split", [] { split(x23(), std::vector<int64_t>{1}); }},
        {"chunk", [] { chunk(x23(), 0); }},
        {"chunk", [] { chunk(x23(), 2, 2); }},
        {"slice", [] { slice(x23(), 2, 0); }},
        {"slice", [] { slice(x23(), 0, 0, 2, 0); }},
        {"select", [] { select(x23(), 0, 2); }},
        {"select", [] { select(x23(), 2, 0); }},
        {"select", [] { select(x23(), 1, -4); }},
        {"flip", [] { flip(x23(), {2}); }},
        {"flip", [] { flip(x23(), {0, -2}); }},
        {"roll", [] { roll(x23(), 1, 2); }},
        {"repeat", [] { repeat(x23(), {2}); }},
        {"repeat", [] { repeat(x23(), {1, -1}); }},
        {"pad", [] { pad(x23(), {1}); }},
        {"pad", [] { pad(x23(), {0, -1}); }},
        {"pad", [] { pad(x23(), {0, 0, 0, 0, 0, 0}); }},
        {"tril", [] { tril(ones({3})); }},
        {"triu", [] { triu(ones({})); }},
        {"diagonal", [] { diagonal(x23(), 0, 0, 0); }},
        {"diagonal", [] { diagonal(ones({3})); }},
        {"tensor", [] { contiguous(Tensor()); }},
        {"tensor", [] { clone(Tensor()); }},
    });
  }

  TEST_CASE("indices and draws") {
    check_all({
        {"index_select", [] { index_select(x23(), 0, index({2})); }},
        {"index_select", [] { index_select(x23(), 0, index({-1})); }},
        {"index_select", [] { index_select(x23(), 2, index({0})); }},
        {"index_select", [] { index_select(x23(), 0, ones({1})); }},
        {"index_select", [] { index_select(x23(), 0, zeros({1, 1}, i64)); }},
        {"gather", [] { gather(x23(), 1, zeros({3, 1}, i64)); }},
        {"gather", [] { gather(x23(), 1, full({2, 1}, 3, i64)); }},
        {"gather", [] { gather(x23(), 1, zeros({2, 1}, u8)); }},
        {"gather", [] { gather(x23(), 2, zeros({2, 1}, i64)); }},
        {"scatter_add", [] { scatter_add(x23(), 1, zeros({2, 1}, i64), ones({2, 2})); }},
        {"scatter_add", [] { scatter_add(x23(), 1, zeros({2, 1}, i64), ones({2, 1}, f64)); }},
        {"scatter_add", [] { scatter_add(x23(), 1, full({2, 1}, -1, i64), ones({2, 1})); }},
        {"one_hot", [] { one_hot(index({0, 3}), 3); }},
        {"one_hot", [] { one_hot(index({0}), -1); }},
        {"one_hot", [] { one_hot(ones({2}), 3); }},
        {"multinomial", [] { multinomial(arange(3)); }},
        {"multinomial", [] { multinomial(ones({3}), 0); }},
        {"multinomial", [] { multinomial(ones({3}), 4); }},
        {"multinomial", [] { multinomial(zeros({3})); }},
        {"multinomial", [] { multinomial(full({3}, -1.0)); }},
        {"multinomial", [] { multinomial(zeros({2, 0})); }},
        {"bernoulli", [] { bernoulli(full({2}, 1.5)); }},
        {"bernoulli", [] { bernoulli(full({2}, kNan)); }},
        {"bernoulli", [] { bernoulli(ones({2}, i64)); }},
        {"embedding", [] { embedding(index({5}), x23()); }},
        {"embedding", [] { embedding(index({0}), ones({3})); }},
        {"embedding", [] { embedding(ones({1}), x23()); }},
        {"embedding", [] { embedding(index({0}), x23(), 2); }},
        {"embedding", [] { embedding(index({0}), ones({2, 3}, i64)); }},
    });
  }

  TEST_CASE("algebra, layers and losses") {
    const Tensor q = ones({1, 2, 3, 4}), target = index({0, 1});
    AttentionOptions window, dropped, masked, biased;
    window.window = 2;
    dropped.dropout = 1.0;
    masked.mask = eq(ones({2, 2}), 1.0);
    biased.mask = ones({3, 3}, i64);
    CrossEntropyOptions smooth;
    smooth.label_smoothing = 1.5;
    constexpr const char* attention = "scaled_dot_product_attention";
    check_all({
        {"matmul", [] { matmul(x23(), x23()); }},
        {"matmul", [] { matmul(ones({}), x23()); }},
        {"matmul", [] { matmul(ones({3}), x23()); }},
        {"matmul", [] { matmul(ones({2, 2, 3}), ones({3, 3, 2})); }},
        {"matmul", [] { matmul(ones({2, 2}, i64), ones({2, 2}, i64)); }},
        {"linear", [] { linear(x23(), x23(), ones({3})); }},
        {"linear", [] { linear(x23(), ones({4, 2})); }},
        {"linear", [] { linear(ones({}), x23()); }},
        {"einsum", [] { einsum("ij,jk", x23(), x23()); }},
        {"einsum", [] { einsum("ij,jk->ik", x23(), x23()); }},
        {"einsum", [] { einsum("ii,ij->j", ones({2, 2}), x23()); }},
        {"einsum", [] { einsum("ij,jk->iz", x23(), ones({3, 2})); }},
        {"einsum", [] { einsum("i1,jk->ik", x23(), x23()); }},
        {"einsum", [] { einsum("ijk,jk->ik", x23(), x23()); }},
        {"softmax", [] { softmax(x23(), 2); }},
        {"softmax", [] { softmax(arange(3)); }},
        {"log_softmax", [] { log_softmax(ones({})); }},
        {"layer_norm", [] { layer_norm(x23(), ones({2}), {}); }},
        {"layer_norm", [] { layer_norm(x23(), ones({3}), ones({3}, f64)); }},
        {"layer_norm", [] { layer_norm(ones({}), {}, {}); }},
        {"layer_norm", [] { layer_norm(x23(), {}, {}, -1.0); }},
        {"rms_norm", [] { rms_norm(arange(3), ones({3})); }},
        {"rms_norm", [] { rms_norm(x23(), ones({3, 1})); }},
        {"dropout", [] { dropout(x23(), 1.5); }},
        {"dropout", [] { dropout(x23(), kNan, false); }},
        {"dropout", [] { dropout(arange(3), 0.5); }},
        {"rotary_embedding", [] { rotary_embedding(x23()); }},
        {"rotary_embedding", [] { rotary_embedding(ones({2})); }},
        {"rotary_embedding", [] { rotary_embedding(ones({2, 2}), 0.0); }},
        {attention, [&] { scaled_dot_product_attention(q, q, ones({1, 2, 3, 5})); }},
        {attention, [&] { scaled_dot_product_attention(q, ones({1, 3, 3, 4}), ones({1, 3, 3, 4})); }},
        {attention, [&] { scaled_dot_product_attention(x23(), q, q); }},
        {attention, [&] { scaled_dot_product_attention(q, to(q, f64), to(q, f64)); }},
        {attention, [&] { scaled_dot_product_attention(q, q, q, window); }},
        {attention, [&] { scaled_dot_product_attention(q, q, q, dropped); }},
        {attention, [&] { scaled_dot_product_attention(q, q, q, masked); }},
        {attention, [&] { scaled_dot_product_attention(q, q, q, biased); }},
        {"cross_entropy", [&] { cross_entropy(x23(), index({0, 3})); }},
        {"cross_entropy", [&] { cross_entropy(x23(), index({0})); }},
        {"cross_entropy", [&] { cross_entropy(x23(), ones({2})); }},
        {"cross_entropy", [&] { cross_entropy(x23(), target, smooth); }},
        {"cross_entropy", [&] { cross_entropy(ones({}), target); }},
        {"feed_forward", [&] { feed_forward(arange(3), {.up = x23(), .down = ones({3, 2})}); }},
        {"feed_forward", [&] { feed_forward(x23(), {.up = ones({4, 2}), .down = ones({3, 4})}); }},
        {"feed_forward", [&] { feed_forward(x23(), {.up = x23(), .down = ones({3, 3})}); }},
        {"feed_forward", [&] { feed_forward(x23(), {.up = x23(), .up_bias = ones({3}), .down = ones({3, 2})}); }},
        {"feed_forward", [&] { feed_forward(x23(), {.up = x23(), .down = ones({3, 2}), .gate = ones({3, 3})}); }},
        {"feed_forward", [&] { feed_forward(x23(), {.up = x23(), .down = ones({3, 2}), .gate_bias = ones({2})}); }},
        {"feed_forward", [&] { feed_forward(x23(), {.up = x23(), .down = ones({3, 2})}, Op::leaky_relu); }},
        {"linear_cross_entropy", [&] { linear_cross_entropy(x23(), x23(), index({0, 2})); }},
        {"linear_cross_entropy", [&] { linear_cross_entropy(x23(), ones({4, 2}), target); }},
        {"linear_cross_entropy", [&] { linear_cross_entropy(x23(), x23(), target, ones({3})); }},
        {"linear_cross_entropy", [&] { linear_cross_entropy(arange(3), x23(), index({})); }},
        {"nll_loss", [&] { nll_loss(x23(), index({0, -1})); }},
        {"nll_loss", [&] { nll_loss(ones({2, 3}, i64), target); }},
        {"mse_loss", [] { mse_loss(x23(), ones({3})); }},
        {"mse_loss", [] { mse_loss(x23(), ones({2, 3}, f64)); }},
        {"l1_loss", [] { l1_loss(arange(3), arange(3)); }},
        {"binary_cross_entropy_with_logits", [] { binary_cross_entropy_with_logits(x23(), ones({2})); }},
        {"kl_div", [] { kl_div(x23(), ones({2, 1})); }},
    });
  }

  TEST_CASE("in place") {
    check_all({
        {"copy", [] { copy_(ones({3}), x23()); }},
        {"copy", [] { copy_(expand(ones({1}), {3}), ones({3})); }},
        {"tensor", [] { fill_(Tensor(), 1.0); }},
        {"tensor", [] { zero_(Tensor()); }},
        {"add_", [] { add_(ones({3}), x23()); }},
        {"add_", [] { add_(arange(3), ones({3})); }},
        {"add_", [] { add_(arange(3), arange(3), 0.5); }},
        {"add_", [] { add_(ones({2}, bool_), ones({2}, bool_)); }},
        {"mul_", [] { mul_(arange(3), 0.5); }},
        {"mul_", [] { mul_(ones({2}, bool_), 2.0); }},
    });
  }
}
