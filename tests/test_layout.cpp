#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include <tendril/autograd/functions.h>
#include <tendril/autograd/gradcheck.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/ops/layout.h>
#include <tendril/core/threads.h>

#include "op_cases.h"

using namespace tendril;

namespace {

using Integers = std::vector<int64_t>;
using Numbers = std::vector<double>;

Tensor counting(const Shape& shape, DType dtype = i64) {
  return reshape(arange(shape.numel(), dtype), shape);
}
Integers values(const Tensor& x) { return x.to_vector<int64_t>(); }
bool shares(const Tensor& a, const Tensor& b) { return a.storage() == b.storage(); }

constexpr int64_t kLowest = std::numeric_limits<int64_t>::min();
constexpr int64_t kHighest = std::numeric_limits<int64_t>::max();

}  // namespace

TEST_SUITE("layout") {
  TEST_CASE("reshape keeps the order and makes a view where the strides allow") {
    const Tensor x = counting({2, 3, 4});
    CHECK(reshape(x, {4, -1}).shape() == Shape{4, 6});
    CHECK(shares(reshape(x, {4, 6}), x));
    const Tensor swapped = transpose(x, 0, 1);  // (3, 2, 4)
    CHECK_FALSE(shares(reshape(swapped, {6, 4}), x));
    CHECK(values(reshape(swapped, {6, 4})) == values(swapped));
    CHECK(shares(reshape(swapped, {3, 2, 2, 2}), x));
    CHECK(values(reshape(swapped, {3, 1, 2, 2, 1, 2})) == values(swapped));
    const Tensor every_second = slice(x, 2, 0, {}, 2);  // strides (12, 4, 2): one run
    CHECK(shares(reshape(every_second, {3, 4}), x));
    CHECK(values(reshape(every_second, {3, 4})) ==
          Integers{0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22});
    const Tensor reversed = slice(counting({6}), 0, -1, {}, -1);
    CHECK(values(view(reversed, {2, 3})) == Integers{5, 4, 3, 2, 1, 0});
    CHECK(values(reshape(expand(counting({2, 1}), {2, 3}), {6})) == Integers{0, 0, 0, 1, 1, 1});
    CHECK(reshape(zeros({0, 3}), {2, 0}).shape() == Shape{2, 0});
    CHECK(reshape(zeros({4, 0}), {-1, 2}).shape() == Shape{0, 2});
    CHECK_THROWS_AS(view(swapped, {6, 4}), Error);
    CHECK_THROWS_AS(reshape(x, {5, 5}), Error);
    CHECK_THROWS_AS(reshape(x, {-1, -1}), Error);
    CHECK_THROWS_AS(reshape(x, {-2, 12}), Error);
    CHECK_THROWS_AS(reshape(x, {7, -1}), Error);
    CHECK_THROWS_AS(reshape(zeros({0}), {0, -1}), Error);
  }

  TEST_CASE("flatten, squeeze, unsqueeze") {
    const Tensor x = counting({2, 1, 3});
    CHECK(flatten(x).shape() == Shape{6});
    CHECK(flatten(x, 0, 1).shape() == Shape{2, 3});
    CHECK(flatten(x, -2).shape() == Shape{2, 3});
    CHECK(flatten(full({}, 1)).shape() == Shape{1});
    CHECK(squeeze(x).shape() == Shape{2, 3});
    CHECK(squeeze(x, 1).shape() == Shape{2, 3});
    CHECK(unsqueeze(x, 0).shape() == Shape{1, 2, 1, 3});
    CHECK(unsqueeze(x, -1).shape() == Shape{2, 1, 3, 1});
    CHECK(shares(unsqueeze(transpose(x, 0, 2), 1), x));
    CHECK(values(unsqueeze(transpose(x, 0, 2), 1)) == Integers{0, 3, 1, 4, 2, 5});
    CHECK_THROWS_AS(squeeze(x, 0), Error);
    CHECK_THROWS_AS(unsqueeze(x, 4), Error);
    CHECK_THROWS_AS(flatten(x, 2, 0), Error);
    CHECK_THROWS_AS(unsqueeze(zeros({1, 1, 1, 1, 1, 1, 1, 1}), 0), Error);
  }

  TEST_CASE("permute, transpose, expand") {
    const Tensor x = counting({2, 3});
    CHECK(values(transpose(x)) == Integers{0, 3, 1, 4, 2, 5});
    CHECK(values(permute(x, {-1, 0})) == Integers{0, 3, 1, 4, 2, 5});
    CHECK(permute(counting({2, 3, 4}), {2, 0, 1}).shape() == Shape{4, 2, 3});
    CHECK(values(expand(counting({2, 1}), {2, 2, 2})) == Integers{0, 0, 1, 1, 0, 0, 1, 1});
    CHECK(expand(counting({1, 3}), {0, -1}).shape() == Shape{0, 3});
    CHECK(shares(expand(x, {4, 2, 3}), x));
    CHECK_THROWS_AS(permute(x, {0}), Error);
    CHECK_THROWS_AS(permute(x, {0, 0}), Error);
    CHECK_THROWS_AS(permute(x, {0, 2}), Error);
    CHECK_THROWS_AS(transpose(counting({3})), Error);
    CHECK_THROWS_AS(expand(x, {3}), Error);
    CHECK_THROWS_AS(expand(x, {2, 6}), Error);
    CHECK_THROWS_AS(expand(x, {-1, 2, 3}), Error);
  }

  TEST_CASE("slice follows Python") {
    const Tensor x = counting({6});
    CHECK(values(slice(x, 0, 1, 4)) == Integers{1, 2, 3});
    CHECK(values(slice(x, 0, -2)) == Integers{4, 5});
    CHECK(values(slice(x, 0, 0, -4)) == Integers{0, 1});
    CHECK(values(slice(x, 0, 1, {}, 2)) == Integers{1, 3, 5});
    CHECK(values(slice(x, 0, -1, {}, -1)) == Integers{5, 4, 3, 2, 1, 0});
    CHECK(values(slice(x, 0, 4, 0, -2)) == Integers{4, 2});
    CHECK(values(slice(x, 0, 100, -100, -3)) == Integers{5, 2});
    CHECK(values(slice(x, 0, -100, 2)) == Integers{0, 1});
    CHECK(values(slice(x, 0, kLowest, kHighest)) == Integers{0, 1, 2, 3, 4, 5});
    CHECK(values(slice(x, 0, 2, {}, kHighest)) == Integers{2});
    CHECK(values(slice(x, 0, 2, {}, kLowest)) == Integers{2});
    CHECK(values(slice(x, 0, kHighest, {}, kLowest)) == Integers{5});
    CHECK(slice(x, 0, 4, 2).numel() == 0);
    CHECK(slice(x, 0, 9, 12).numel() == 0);
    CHECK(slice(zeros({0, 2}), 0, 0, 3).shape() == Shape{0, 2});
    CHECK(slice(zeros({0, 2}), 0, -1, {}, -1).shape() == Shape{0, 2});
    CHECK(shares(slice(x, 0, 2), x));
    CHECK(values(slice(counting({2, 3}), -1, 1)) == Integers{1, 2, 4, 5});
    CHECK_THROWS_AS(slice(x, 0, 0, 3, 0), Error);
    CHECK_THROWS_AS(slice(x, 1, 0), Error);
  }

  TEST_CASE("select") {
    const Tensor x = counting({2, 3});
    CHECK(values(select(x, 0, 1)) == Integers{3, 4, 5});
    CHECK(values(select(x, -1, -3)) == Integers{0, 3});
    CHECK(select(counting({3}), 0, 2).shape() == Shape{});
    CHECK_THROWS_AS(select(x, 0, 2), Error);
    CHECK_THROWS_AS(select(x, 0, -3), Error);
    CHECK_THROWS_AS(select(full({}, 1), 0, 0), Error);
    CHECK_THROWS_AS(select(zeros({0}), 0, 0), Error);
  }

  TEST_CASE("split and chunk") {
    const Tensor x = counting({2, 5});
    const auto pieces = split(x, 2, 1);
    REQUIRE(pieces.size() == 3);
    CHECK(values(pieces[0]) == Integers{0, 1, 5, 6});
    CHECK(values(pieces[2]) == Integers{4, 9});
    CHECK(shares(pieces[1], x));
    CHECK(split(x, {0, 5, 0}, -1)[2].shape() == Shape{2, 0});
    CHECK(split(zeros({0, 2}), 3).size() == 1);
    CHECK(chunk(x, 2, 1)[1].shape() == Shape{2, 2});
    CHECK(chunk(x, 4, 1).size() == 3);  // sizes 2, 2, 1
    CHECK(chunk(x, 9, 0).size() == 2);
    CHECK_THROWS_AS(split(x, 0), Error);
    CHECK_THROWS_AS(split(x, {2, 2}, 1), Error);
    CHECK_THROWS_AS(split(x, {4, 4, -3}, 1), Error);
    CHECK_THROWS_AS(split(x, {kHighest, kHighest}, 1), Error);
    CHECK_THROWS_AS(chunk(x, 0), Error);
  }

  TEST_CASE("one node serves all pieces of a split") {
    Tensor x = counting({2, 6}, f64);
    x.requires_grad_();
    const auto pieces = split(x, {1, 2, 3}, 1);
    CHECK(std::string(producer(pieces[1])) == "split");
    backward({pieces[0], pieces[2]}, {full({2, 1}, 5.0, f64), counting({2, 3}, f64)});
    CHECK(x.grad().to_vector<double>() == Numbers{5, 0, 0, 0, 1, 2, 5, 0, 0, 3, 4, 5});
  }

  TEST_CASE("the gradient of a split is a view when its pieces are neighbours in memory") {
    const Tensor joint = counting({2, 3, 6}, f64);
    const std::vector<int64_t> sizes{1, 3, 2};
    const auto joined = [&](const std::vector<Tensor>& pieces, const Shape& shape, int64_t axis) {
      return ops::split_backward(pieces, sizes, shape, axis);
    };
    const std::vector<Tensor> pieces = ops::split(joint, sizes, 2);
    const Tensor whole = joined(pieces, {2, 3, 6}, -1);
    CHECK(shares(whole, joint));
    CHECK(whole.is_contiguous());
    CHECK(whole.to_vector<double>() == joint.to_vector<double>());
    const Tensor turned = transpose(joint, 1, 2);  // (2, 6, 3), strided
    CHECK(shares(joined(ops::split(turned, sizes, 1), {2, 6, 3}, 1), joint));

    // Any other arrangement is copied, and right.
    const auto copied = [&](const std::vector<Tensor>& from) {
      const Tensor result = joined(from, {2, 3, 6}, 2);
      CHECK_FALSE(shares(result, joint));
      CHECK(result.to_vector<double>() == cat(from, 2).to_vector<double>());
    };
    copied({ops::narrow(joint, 2, 1, 1), ops::narrow(joint, 2, 0, 3),
            ops::narrow(joint, 2, 4, 2)});                                         // order
    copied({pieces[0], pieces[1], ops::narrow(joint, 2, 3, 2)});                   // overlap
    copied({pieces[0], clone(pieces[1]), pieces[2]});                              // storage
    copied({pieces[0], transpose(ops::narrow(joint, 2, 1, 3), 1, 2), pieces[2]});  // strides
    CHECK(joined({{}, pieces[1], pieces[2]}, {2, 3, 6}, 2).to_vector<double>()[0] == 0.0);
  }

  TEST_CASE("a joined gradient does not change the gradients it is a view of") {
    // Heads as in attention over a joint projection: split, (B, T, H, D), (B, H, T, D).
    Tensor x = counting({2, 3, 12}, f64);
    x.requires_grad_();
    const auto pieces = split(x, 4, 2);
    const auto heads = [](const Tensor& piece) {
      return transpose(reshape(piece, {2, 3, 2, 2}), 1, 2);
    };
    const Tensor joint = counting({2, 3, 3, 2, 2}, f64);  // what attention's backward writes
    std::vector<Tensor> roots, seeds;
    for (int64_t i = 0; i < 3; ++i) {
      roots.push_back(heads(pieces[static_cast<size_t>(i)]));
      seeds.push_back(transpose(select(joint, 2, i), 1, 2));
    }
    roots.push_back(x * 2.0);  // another use of x: its gradient is added to the joined one
    seeds.push_back(ones(x.shape(), f64));
    const Numbers before = joint.to_vector<double>();
    backward(roots, seeds);
    CHECK(joint.to_vector<double>() == before);
    Numbers expected = before;
    for (double& value : expected) value += 2.0;
    CHECK(x.grad().to_vector<double>() == expected);
    CHECK_FALSE(shares(x.grad(), joint));
  }

  TEST_CASE("diagonal") {
    const Tensor x = counting({3, 4});
    CHECK(values(diagonal(x)) == Integers{0, 5, 10});
    CHECK(values(diagonal(x, 2)) == Integers{2, 7});
    CHECK(values(diagonal(x, -1)) == Integers{4, 9});
    CHECK(diagonal(x, kHighest).numel() == 0);
    CHECK(diagonal(x, kLowest).numel() == 0);
    CHECK(diagonal(counting({2, 3, 4}), 0, 0, 2).shape() == Shape{3, 2});
    CHECK(values(diagonal(counting({2, 3, 4}), 1, -1, 0)) == Integers{12, 16, 20});
    CHECK(shares(diagonal(x), x));
    CHECK_THROWS_AS(diagonal(x, 0, 1, -1), Error);
    CHECK_THROWS_AS(diagonal(counting({3})), Error);
  }

  TEST_CASE("cat and stack") {
    const Tensor a = counting({2, 2}), b = full({2, 1}, 9, i64);
    CHECK(values(cat({a, b}, 1)) == Integers{0, 1, 9, 2, 3, 9});
    CHECK(values(cat({transpose(a), b, zeros({2, 0}, i64)}, -1)) == Integers{0, 2, 9, 1, 3, 9});
    CHECK(cat({a, to(b, f16)}, 1).dtype() == f16);
    CHECK(cat({zeros({1}, f16), zeros({1}, bf16)}).dtype() == f32);
    CHECK(cat({zeros({0, 2}), zeros({0, 2})}).shape() == Shape{0, 2});
    CHECK(values(stack({a, a}, 1)) == Integers{0, 1, 0, 1, 2, 3, 2, 3});
    CHECK(stack({a, a}, -1).shape() == Shape{2, 2, 2});
    CHECK_THROWS_AS(cat({}), Error);
    CHECK_THROWS_AS(stack({}), Error);
    CHECK_THROWS_AS(cat({a, b}, 0), Error);
    CHECK_THROWS_AS(cat({a, counting({2})}, 0), Error);
    CHECK_THROWS_AS(cat({full({}, 1), full({}, 1)}, 0), Error);
    CHECK_THROWS_AS(stack({a, b}), Error);
    CHECK_THROWS_AS(stack({counting({1}), counting({1, 1})}), Error);
  }

  TEST_CASE("flip, roll, repeat") {
    const Tensor x = counting({2, 3});
    CHECK(values(flip(x, {1})) == Integers{2, 1, 0, 5, 4, 3});
    CHECK(values(flip(x, {})) == Integers{5, 4, 3, 2, 1, 0});
    CHECK_FALSE(shares(flip(x, {0}), x));
    CHECK(values(roll(x, 1, 1)) == Integers{2, 0, 1, 5, 3, 4});
    CHECK(values(roll(x, -1, 1)) == Integers{1, 2, 0, 4, 5, 3});
    CHECK(values(roll(x, kLowest, 0)) == values(x));
    CHECK(values(roll(transpose(x), 4, 0)) == Integers{2, 5, 0, 3, 1, 4});
    CHECK(values(repeat(counting({2}), {3})) == Integers{0, 1, 0, 1, 0, 1});
    CHECK(values(repeat(transpose(counting({2, 2})), {1, 2})) == Integers{0, 2, 0, 2, 1, 3, 1, 3});
    CHECK(values(repeat(counting({2}), {2, 1})) == Integers{0, 1, 0, 1});
    CHECK_FALSE(shares(repeat(x, {1, 1}), x));
    CHECK(repeat(x, {0, 2}).shape() == Shape{0, 6});
    CHECK_THROWS_AS(flip(x, {0, 0}), Error);
    CHECK_THROWS_AS(roll(x, 1, 2), Error);
    CHECK_THROWS_AS(repeat(x, {2}), Error);
    CHECK_THROWS_AS(repeat(x, {2, -1}), Error);
    CHECK_THROWS_AS(repeat(x, {kHighest, kHighest}), Error);
  }

  TEST_CASE("pad, tril, triu") {
    const Tensor x = counting({2, 2});
    CHECK(values(pad(x, {0, 1, 1, 0}, 7)) == Integers{7, 0, 1, 7, 2, 3, 7, 7, 7});
    CHECK(values(pad(transpose(x), {1, 0})) == Integers{0, 0, 0, 2, 1, 3});
    CHECK(values(pad(x, {})) == values(x));
    CHECK(values(pad(zeros({0, 1}, i64), {1, 1, 0, 0}, 3)) == Integers{3, 3});
    CHECK_THROWS_AS(pad(x, {1}), Error);
    CHECK_THROWS_AS(pad(x, {0, -1}), Error);
    CHECK_THROWS_AS(pad(x, {0, 0, 0, 0, 0, 0}), Error);
    CHECK_THROWS_AS(pad(x, {kHighest, kHighest}), Error);
    const Tensor square = full({3, 3}, 1, i64);
    CHECK(values(tril(square)) == Integers{1, 0, 0, 1, 1, 0, 1, 1, 1});
    CHECK(values(tril(square, 1)) == Integers{1, 1, 0, 1, 1, 1, 1, 1, 1});
    CHECK(values(triu(square, 1)) == Integers{0, 1, 1, 0, 0, 1, 0, 0, 0});
    CHECK(values(triu(square, -1)) == Integers{1, 1, 1, 1, 1, 1, 0, 1, 1});
    CHECK(values(tril(square, kHighest)) == values(square));
    CHECK(values(triu(square, kHighest)) == Integers(9, 0));
    CHECK(values(tril(square, kLowest)) == Integers(9, 0));
    CHECK(values(triu(transpose(counting({2, 2, 2}), 1, 2))) == Integers{0, 2, 0, 3, 4, 6, 0, 7});
    CHECK(tril(zeros({2, 0})).shape() == Shape{2, 0});
    CHECK(triu(zeros({0, 3})).shape() == Shape{0, 3});
    CHECK_THROWS_AS(tril(counting({3})), Error);
  }

  TEST_CASE("conversion: gradients return in the input's dtype") {
    for (DType target : {f32, bf16, f16}) {
      Tensor x = Tensor::from<double>({1.0, 2.5}, {2});
      x.requires_grad_();
      const Tensor y = to(x, target);
      CHECK(std::string(producer(y)) == "to");
      y.backward(full({2}, 0.5, target));
      CHECK(x.grad().dtype() == f64);
      CHECK(x.grad().to_vector<double>() == Numbers{0.5, 0.5});
      CHECK(to(x, f64).is_same(x));
      CHECK(to(x, Device::cpu()).is_same(x));
      CHECK_THROWS_AS(to(to(x, i64), f64).backward(full({2}, 1.0, f64)), Error);
    }
    CHECK_THROWS_AS(to(zeros({2}), Device::cuda(99)), Error);
    Tensor half = full({2}, 1.5, bf16).requires_grad_();
    const Tensor mixed = cat({half, full({1}, 2.0)});
    CHECK(mixed.dtype() == f32);
    mixed.backward(full({3}, 0.25));
    CHECK(half.grad().dtype() == bf16);
  }

  TEST_CASE("contiguous and clone") {
    const Tensor x = counting({2, 3});
    CHECK(contiguous(x).is_same(x));
    CHECK(contiguous(transpose(x)).is_contiguous());
    CHECK_FALSE(shares(clone(x), x));
    CHECK(values(clone(transpose(x))) == Integers{0, 3, 1, 4, 2, 5});
  }

  TEST_CASE("in place") {
    const Tensor x = counting({2, 3}, f32);
    const uint32_t version = x.storage()->version();
    copy_(select(x, 0, 0), Tensor::from<int64_t>({7}, {1}));
    CHECK(values(x) == Integers{7, 7, 7, 3, 4, 5});
    add_(slice(x, 1, 1), Tensor::from<double>({10, 20}, {2}), 0.5);
    CHECK(values(x) == Integers{7, 12, 17, 3, 9, 15});
    add_(x, x, -1.0);
    CHECK(values(x) == Integers(6, 0));
    fill_(transpose(x), 3.0);
    mul_(slice(x, 1, 0, {}, 2), -2.0);
    CHECK(values(x) == Integers{-6, 3, -6, -6, 3, -6});
    const Tensor line = counting({5}, f32);
    copy_(line, slice(line, 0, -1, {}, -1));  // the source is overwritten while it is read
    CHECK(values(line) == Integers{4, 3, 2, 1, 0});
    zero_(x);
    CHECK(values(x) == Integers(6, 0));
    CHECK(x.storage()->version() == version + 6);
    const Tensor shifted = counting({4}, f64);
    add_(slice(shifted, 0, 1), slice(shifted, 0, 0, 3));
    CHECK(values(shifted) == Integers{0, 1, 3, 5});
    const Tensor integers = counting({3});
    add_(integers, full({3}, 2, u8), 3.0);
    mul_(integers, -1.0);
    CHECK(values(integers) == Integers{-6, -7, -8});
    Tensor half = full({2}, 256, bf16);  // 257 is not a bf16; 256 + 1.5 rounds to 258
    add_(half, full({2}, 1.5, f32));
    CHECK(half.to_vector<double>() == Numbers{258, 258});
    CHECK_THROWS_AS(add_(integers, full({3}, 0.5)), Error);
    CHECK_THROWS_AS(add_(integers, integers, 0.5), Error);
    CHECK_THROWS_AS(mul_(integers, 1.5), Error);
    CHECK_THROWS_AS(mul_(zeros({2}, bool_), 1.0), Error);
    CHECK_THROWS_AS(add_(x, zeros({4})), Error);
    CHECK_THROWS_AS(add_(expand(zeros({1}), {3}), ones({3})), Error);
    CHECK_THROWS_AS(copy_(x, zeros({4})), Error);
  }

  TEST_CASE("in place needs a NoGradGuard and is noticed by the tape") {
    Tensor x = counting({3}, f64);
    x.requires_grad_();
    CHECK_THROWS_AS(fill_(x, 1.0), Error);
    CHECK_THROWS_AS(copy_(x, zeros({3})), Error);
    CHECK_THROWS_AS(add_(x, x), Error);
    CHECK_THROWS_AS(mul_(x, 2.0), Error);
    const Tensor rows = counting({2});
    const Tensor y = index_select(x, 0, rows);
    fill_(rows, 0.0);
    CHECK_THROWS_AS(y.backward(ones({2}, f64)), Error);
    const NoGradGuard guard;
    fill_(x, 1.0);
    CHECK(values(x) == Integers{1, 1, 1});
  }

  TEST_CASE("gradients of every layout case agree with finite differences") {
    for (const testing::OpCase& row : testing::layout_cases()) {
      if (info(row.op).why_not_differentiable) continue;
      CAPTURE(row.label);
      std::vector<Tensor> inputs;
      uint64_t seed = 1;
      for (const testing::OpInput& input : row.inputs) {
        Tensor x = input.value.defined() ? input.value : randn(input.shape, f64, RandomKey{seed++});
        inputs.push_back(input.differentiable ? x.requires_grad_() : x);
      }
      const GradcheckResult result = gradcheck(row.run, inputs);
      CHECK_MESSAGE(result.ok, result.message);
    }
  }
}
