// feed_forward() beside the operations that it replaces.
#include <doctest/doctest.h>
#include <tendril/tendril.h>

#include <array>
#include <cmath>
#include <vector>

using namespace tendril;

namespace {

struct Case {
  int64_t rows, channels, hidden;
  bool gated, column_major;
  DType dtype;
};

struct Inputs {
  std::vector<Tensor> leaves;  // x, up, up_bias, down, down_bias, gate, gate_bias
  bool gated, column_major;

  Tensor weight(size_t i) const { return column_major ? transpose(leaves[i]) : leaves[i]; }
};

Inputs make(const Case& c) {
  manual_seed(3);
  const auto leaf = [&](const Shape& shape, double scale) {
    Tensor x = to(randn(shape) * scale, c.dtype).detach();
    return x.requires_grad_();
  };
  const auto weight = [&](int64_t out, int64_t in) {
    const double scale = 1.0 / std::sqrt(static_cast<double>(in));
    return c.column_major ? leaf({in, out}, scale) : leaf({out, in}, scale);
  };
  std::vector<Tensor> leaves = {leaf({c.rows, c.channels}, 1.0), weight(c.hidden, c.channels),
                                leaf({c.hidden}, 1.0), weight(c.channels, c.hidden),
                                leaf({c.channels}, 1.0)};
  if (c.gated) leaves.insert(leaves.end(), {weight(c.hidden, c.channels), leaf({c.hidden}, 1.0)});
  return {leaves, c.gated, c.column_major};
}

Tensor fused(const Inputs& in) {
  FeedForwardWeights w{in.weight(1), in.leaves[2], in.weight(3), in.leaves[4]};
  if (in.gated) w.gate = in.weight(5), w.gate_bias = in.leaves[6];
  return feed_forward(in.leaves[0], w, Op::gelu_tanh);
}

Tensor composed(const Inputs& in) {
  const Tensor u = linear(in.leaves[0], in.weight(1), in.leaves[2]);
  const Tensor a =
      in.gated ? gelu_tanh(linear(in.leaves[0], in.weight(5), in.leaves[6])) * u : gelu_tanh(u);
  return linear(a, in.weight(3), in.leaves[4]);
}

double relative_error(const Tensor& result, const Tensor& truth) {
  const Tensor a = to(result, f64), b = to(truth, f64);
  return norm(a - b).item<double>() / norm(b).item<double>();
}

// The result and the gradients of all leaves.
std::vector<Tensor> everything(const Inputs& in, Tensor (*run)(const Inputs&)) {
  const Tensor y = run(in);
  manual_seed(4);
  std::vector<Tensor> all = grad({y}, in.leaves, {to(randn(y.shape()), y.dtype())});
  all.push_back(y);
  return all;
}

}  // namespace

TEST_SUITE_BEGIN("feed_forward");

TEST_CASE("it is what its parts are, whatever the size, the layout and the dtype") {
  for (const bool gated : {false, true})
    for (const bool column_major : {false, true})
      for (const auto& [rows, channels, hidden] :
           {std::array<int64_t, 3>{1, 16, 40}, {5, 3, 7}, {130, 24, 1100}, {700, 64, 96}})
        for (const DType dtype : {f32, f64, bf16}) {
          CAPTURE(gated);
          CAPTURE(column_major);
          CAPTURE(rows);
          CAPTURE(dtype);
          const Inputs in = make({rows, channels, hidden, gated, column_major, dtype});
          const auto ours = everything(in, fused), theirs = everything(in, composed);
          // In bf16 the composition rounds once more than the operation, and the other way round.
          const double tolerance = dtype == f64 ? 1e-14 : dtype == f32 ? 2e-6 : 1.2e-2;
          for (size_t i = 0; i < ours.size(); ++i) {
            CAPTURE(i);
            CHECK(ours[i].shape() == theirs[i].shape());
            CHECK(ours[i].dtype() == dtype);
            CHECK(relative_error(ours[i], theirs[i]) <= tolerance);
          }
        }
}

TEST_CASE("without recording it gives the same bits") {
  const Inputs in = make({130, 24, 300, true, false, f32});
  const Tensor recorded = fused(in);
  const NoGradGuard no_grad;
  CHECK(fused(in).to_vector<float>() == recorded.to_vector<float>());
}

TEST_CASE("only the gradients that are wanted are formed") {
  const Inputs in = make({6, 4, 8, true, false, f32});
  for (Tensor leaf : in.leaves) leaf.requires_grad_(false);
  Tensor down = in.leaves[3];
  down.requires_grad_();
  sum(fused(in)).backward();
  CHECK(down.grad().defined());
  for (const size_t i : {0, 1, 2, 4, 5, 6}) CHECK(!in.leaves[i].grad().defined());
}

TEST_CASE("the activations are not kept") {
  const int64_t rows = 512, channels = 32, hidden = 1024;
  const Inputs in = make({rows, channels, hidden, false, false, f32});
  const int64_t before = memory_stats().current_bytes;
  const Tensor y = fused(in);
  const int64_t kept = memory_stats().current_bytes - before - y.nbytes();
  CHECK(kept >= rows * hidden * 4);         // the sums before the activation
  CHECK(kept < rows * hidden * 4 * 9 / 8);  // and nothing else of that size
}

TEST_CASE("infinite and missing numbers come through") {
  Inputs in = make({3, 4, 8, false, false, f32});
  const NoGradGuard no_grad;
  in.leaves[0].data<float>()[1] = NAN;
  const Tensor y = fused(in);
  CHECK(std::isnan(y.data<float>()[0]));
  CHECK(std::isfinite(y.data<float>()[4]));
}

TEST_CASE("no rows and no channels") {
  const NoGradGuard no_grad;
  const FeedForwardWeights w{.up = ones({5, 4}), .down = ones({3, 5})};
  CHECK(feed_forward(ones({0, 4}), w).shape() == Shape{0, 3});
  // gelu(b) summed five times, from a product over nothing
  const Tensor y = feed_forward(
      ones({2, 0}), {.up = ones({5, 0}), .up_bias = ones({5}), .down = ones({3, 5})}, Op::relu);
  CHECK(y.to_vector<float>() == std::vector<float>(6, 5.0f));
}

TEST_SUITE_END();
