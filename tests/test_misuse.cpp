// Robustness: the op cases and functions with numbers, called with inputs and parameters that were
// changed at random (fixed seed). Each call, and its backward pass, may only succeed or throw
// Error.

#include <doctest/doctest.h>

#include <limits>
#include <random>
#include <string>
#include <vector>

#include <tendril/tendril.h>

#include "op_cases.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

using Inputs = std::vector<Tensor>;

class Chance {
 public:
  explicit Chance(uint64_t seed) : engine_(seed) {}
  int64_t below(int64_t count) {
    return static_cast<int64_t>(engine_() % static_cast<uint64_t>(count));
  }
  bool one_in(int64_t count) { return below(count) == 0; }
  Shape shape() {
    Shape result;
    for (int64_t rank = below(5); rank > 0; --rank) result.push_back(below(5));
    return result;
  }
  DType dtype() { return static_cast<DType>(below(kDTypeCount)); }
  /// A small number, or one at the end of the range.
  int64_t number() {
    constexpr int64_t kLast = std::numeric_limits<int64_t>::max();
    constexpr int64_t kEnds[] = {kLast, -kLast, -kLast - 1, int64_t{1} << 62, -(int64_t{1} << 62)};
    return one_in(5) ? kEnds[below(5)] : below(11) - 5;
  }
  Shape numbers() {
    Shape result;
    for (int64_t rank = below(4); rank > 0; --rank) result.push_back(number());
    return result;
  }

 private:
  std::mt19937_64 engine_;  // the same numbers with every standard library
};

// Numbers of mixed sign and size in any layout: dense, transposed, every second, repeated,
// reversed.
Tensor random_tensor(Chance& chance, const Shape& shape, DType dtype) {
  Tensor x = Tensor::empty(shape, f64);
  for (double& value : x.span<double>()) value = static_cast<double>(chance.below(9) - 2) * 0.75;
  x = to(x, dtype);
  if (x.rank() >= 2 && chance.one_in(3)) x = transpose(clone(transpose(x)));
  if (x.rank() >= 1 && chance.one_in(4)) x = flip(x, {0}), x = slice(x, 0, -1, {}, -1);
  if (x.rank() >= 1 && x.size(0) > 0 && chance.one_in(6)) x = expand(slice(x, 0, 0, 1), shape);
  if (is_floating(x.dtype()) && chance.one_in(2)) {
    x = x.detach();
    x.requires_grad_();
  }
  return x;
}

Shape changed(Chance& chance, Shape shape) {
  if (chance.one_in(4)) return chance.shape();
  if (shape.rank() > 0 && chance.one_in(3)) shape.erase(chance.below(shape.rank()));
  if (shape.rank() < 6 && chance.one_in(4))
    shape.insert(chance.below(shape.rank() + 1), chance.below(4));
  if (shape.rank() > 0) shape[chance.below(shape.rank())] = chance.below(6);
  return shape;
}

Tensor perturbed(Chance& chance, const OpInput& input) {
  if (chance.one_in(25)) return {};
  const DType usual = input.value.defined() ? input.value.dtype() : chance.one_in(4) ? bf16 : f32;
  const Shape& shape = input.value.defined() ? input.value.shape() : input.shape;
  if (input.value.defined() && chance.one_in(2)) return input.value;
  return random_tensor(chance, chance.one_in(2) ? changed(chance, shape) : shape,
                       chance.one_in(4) ? chance.dtype() : usual);
}

struct Tally {
  int succeeded = 0, refused = 0;
};

// Runs forward and backward; anything but success and Error leaves through the test.
template <class Body>
void attempt(Tally& tally, const std::string& label, Body body) {
  try {
    const Tensor y = body();
    if (y.requires_grad() && y.numel() < 100000) y.backward(full(y.shape(), 1.0, y.dtype()));
    ++tally.succeeded;
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK_MESSAGE(message.size() > 2, label);
    CHECK_MESSAGE(message[0] == '[', label, ": ", message);
    ++tally.refused;
  } catch (const std::exception& error) {
    FAIL_CHECK(label, ": not a tendril::Error: ", error.what());
  }
}

}  // namespace

TEST_SUITE("misuse") {
  TEST_CASE("every structured op with changed inputs") {
    Chance chance(2024);
    Tally tally;
    for (auto make :
         {reduce_cases, layout_cases, algebra_cases, layer_cases, attention_cases, loss_cases})
      for (const OpCase& one : make()) {
        if (one.op == Op::split) continue;  // these cases index the pieces they expect
        for (int turn = 0; turn < 16; ++turn) {
          Inputs inputs;
          for (const OpInput& input : one.inputs) inputs.push_back(perturbed(chance, input));
          attempt(tally, one.label, [&] { return one.run(inputs); });
        }
      }
    CHECK(tally.succeeded > 500);
    CHECK(tally.refused > 500);
  }

  TEST_CASE("every pointwise op with any two tensors") {
    Chance chance(7);
    Tally tally;
    const auto anything = [&] { return random_tensor(chance, chance.shape(), chance.dtype()); };
    for (int turn = 0; turn < 12; ++turn) {
      const Tensor a = anything(), b = chance.one_in(2)
                                           ? anything()
                                           : random_tensor(chance, a.shape(), chance.dtype());
      const double number = static_cast<double>(chance.number()) * (chance.one_in(2) ? 1.0 : 0.3);
#define UNARY(op, ...) attempt(tally, #op, [&] { return op(a); });
#define UNARY1(op, ...) attempt(tally, #op, [&] { return op(a, number); });
#define UNARY_NONDIFF(op, ...) attempt(tally, #op, [&] { return op(a.detach()); });
#define BINARY(op, ...)                               \
  attempt(tally, #op, [&] { return op(a, b); });      \
  attempt(tally, #op, [&] { return op(a, number); }); \
  attempt(tally, #op, [&] { return op(number, b); });
#define COMPARE(op, ...)                                           \
  attempt(tally, #op, [&] { return op(a.detach(), b.detach()); }); \
  attempt(tally, #op, [&] { return op(a.detach(), number); });
#include <tendril/core/ops/ops.def>
      attempt(tally, "where", [&] { return where(anything(), a, b); });
      attempt(tally, "masked_fill", [&] { return masked_fill(a, anything(), number); });
      attempt(tally, "clamp", [&] { return clamp(a, number, 3.0); });
      attempt(tally, "to", [&] { return to(a, chance.dtype()); });
      attempt(tally, "copy_", [&] { return copy_(a, b), a; });
      attempt(tally, "add_", [&] { return add_(a, b, number), a; });
      attempt(tally, "mul_", [&] { return mul_(a, number), a; });
    }
    CHECK(tally.succeeded > 300);
    CHECK(tally.refused > 50);
  }

  TEST_CASE("axes, sizes and counts of any value") {
    Chance chance(99);
    Tally tally;
    for (int turn = 0; turn < 150; ++turn) {
      const Tensor x =
          random_tensor(chance, chance.shape(), chance.one_in(4) ? chance.dtype() : f32);
      const int64_t i = chance.number(), j = chance.number(), k = chance.number();
      const Shape axes = chance.numbers();
      const bool flag = chance.one_in(2);
      const auto piece = [](const std::vector<Tensor>& pieces) {
        return pieces.empty() ? Tensor::empty({0}) : pieces[0];
      };
      attempt(tally, "sum", [&] { return sum(x, axes, flag); });
      attempt(tally, "mean", [&] { return mean(x, axes, flag); });
      attempt(tally, "prod", [&] { return prod(x, axes, flag); });
      attempt(tally, "max", [&] { return max(x, axes, flag); });
      attempt(tally, "var", [&] { return var(x, axes, flag, i); });
      attempt(tally, "norm", [&] { return norm(x, static_cast<double>(i), axes, flag); });
      attempt(tally, "logsumexp", [&] { return logsumexp(x, axes, flag); });
      attempt(tally, "argmax", [&] { return argmax(x.detach(), i, flag); });
      attempt(tally, "cumsum", [&] { return cumsum(x, i); });
      attempt(tally, "sort", [&] { return sort(x, i, flag).values; });
      attempt(tally, "topk", [&] { return topk(x, i, j, flag).values; });
      attempt(tally, "reshape", [&] { return reshape(x, axes); });
      attempt(tally, "view", [&] { return view(x, axes); });
      attempt(tally, "flatten", [&] { return flatten(x, i, j); });
      attempt(tally, "transpose", [&] { return transpose(x, i, j); });
      attempt(tally, "permute", [&] { return permute(x, axes); });
      attempt(tally, "expand", [&] { return expand(x, axes); });
      attempt(tally, "squeeze", [&] { return squeeze(x, i); });
      attempt(tally, "unsqueeze", [&] { return unsqueeze(x, i); });
      attempt(tally, "cat", [&] { return cat({x, x}, i); });
      attempt(tally, "stack", [&] { return stack({x, x}, i); });
      attempt(tally, "split", [&] { return piece(split(x, i, j)); });
      attempt(tally, "split sizes",
              [&] { return piece(split(x, std::vector<int64_t>(axes.begin(), axes.end()), i)); });
      attempt(tally, "chunk", [&] { return piece(chunk(x, i, j)); });
      attempt(tally, "slice",
              [&] { return flag ? slice(x, chance.below(3), i, j, k) : slice(x, i, j, {}, k); });
      attempt(tally, "select", [&] { return select(x, i, j); });
      attempt(tally, "flip", [&] { return flip(x, axes); });
      attempt(tally, "roll", [&] { return roll(x, i, chance.below(3)); });
      attempt(tally, "repeat", [&] { return repeat(x, axes); });
      attempt(tally, "pad", [&] { return pad(x, std::vector<int64_t>(axes.begin(), axes.end())); });
      attempt(tally, "tril", [&] { return tril(x, i); });
      attempt(tally, "triu", [&] { return triu(x, i); });
      attempt(tally, "diagonal", [&] { return diagonal(x, i, chance.below(3), chance.below(3)); });
      attempt(tally, "one_hot", [&] { return one_hot(to(x.detach(), i64), i); });
      attempt(tally, "multinomial", [&] { return multinomial(x.detach(), i, flag); });
      attempt(tally, "softmax", [&] { return softmax(x, i); });
      attempt(tally, "rotary", [&] { return rotary_embedding(x, 10000.0, i, flag); });
      attempt(tally, "randint", [&] { return randint(i, j, {3}, chance.dtype()); });
      attempt(tally, "eye", [&] { return eye(chance.below(4), chance.below(4) - 1); });
      attempt(tally, "attention", [&] {
        AttentionOptions options;
        options.causal = flag;
        options.window = i;
        const Tensor q = ones({1, 1, 4, 2}), kv = ones({1, 1, chance.below(4), 2});
        return scaled_dot_product_attention(q, kv, kv, options);
      });
      attempt(tally, "einsum", [&] {
        static constexpr char kLetters[] = "iijkl,->1 ";
        std::string equation;
        for (int64_t n = chance.below(10); n > 0; --n) equation += kLetters[chance.below(10)];
        return einsum(flag ? "ij,jk->ik" : equation, x, x);
      });
    }
    CHECK(tally.succeeded > 1000);
    CHECK(tally.refused > 1000);
  }

  TEST_CASE("kernels refuse tensors that are elsewhere") {
    if (cuda::is_available()) {
      MESSAGE("skipped: a GPU would take the addresses for its own");
      return;
    }
    double memory[64] = {};
    const auto elsewhere = [&](const Shape& shape, DType dtype) {
      return Tensor::view(Storage::wrap(memory, sizeof memory, Device::cuda(0), nullptr), 0, shape,
                          contiguous_strides(shape), dtype);
    };
    int views = 0;
    for (auto make :
         {reduce_cases, layout_cases, algebra_cases, layer_cases, attention_cases, loss_cases})
      for (const OpCase& one : make()) {
        Inputs inputs;
        bool fits = true;
        for (const OpInput& input : one.inputs) {
          const Shape& shape = input.value.defined() ? input.value.shape() : input.shape;
          fits = fits && shape.numel() > 0 && shape.numel() <= 64;
          if (fits)
            inputs.push_back(elsewhere(shape, input.value.defined() ? input.value.dtype() : f64));
        }
        if (!fits) continue;
        CAPTURE(one.label);
        Tensor result;
        std::string message;
        try {
          result = one.run(inputs);
        } catch (const Error& error) {
          message = error.what();
        }
        if (result.defined()) {  // only views can be made
          CHECK(result.storage()->data() == memory);
          ++views;
        } else {
          CHECK_MESSAGE((message.find("CUDA") != std::string::npos ||
                         message.find("cuda:0") != std::string::npos),
                        message);
        }
      }
    CHECK(views > 10);
  }
}
