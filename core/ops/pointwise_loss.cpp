// Losses of pairs (x, t) of numbers; the functors are in pointwise_loss.h.
#include <algorithm>
#include <vector>

#include <tendril/core/cpu/block.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/loss.h>
#include <tendril/core/ops/pointwise_loss.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace cpu {
namespace {

using tendril::cpu::BlockReader;
using tendril::cpu::kBlock;

constexpr int64_t kChunk = 8 * kBlock;  // elements per task

// body(at, count, x block, t block) for every block of [begin, end).
template <class C, class Body>
void for_each_block(const BlockReader& x, const BlockReader& target, int64_t begin, int64_t end,
                    Body body) {
  C x_buffer[kBlock], t_buffer[kBlock];
  for (int64_t at = begin; at < end; at += kBlock) {
    const int64_t count = std::min(kBlock, end - at);
    body(at, count, x.read(at, count, x_buffer), target.read(at, count, t_buffer));
  }
}

template <class C, class Loss>
void loss_elements(const Tensor& x, const Tensor& target, const Tensor& losses) {
  const BlockReader xs(x, x.shape()), ts(target, x.shape());
  C* out = losses.data<C>();
  parallel_for(x.numel(), kChunk, [&](int64_t begin, int64_t end) {
    for_each_block<C>(xs, ts, begin, end, [&](int64_t at, int64_t count, const C* a, const C* b) {
      for (int64_t i = 0; i < count; ++i) out[at + i] = Loss::value(a[i], b[i]);
    });
  });
}

template <class C, class Loss>
double loss_total(const Tensor& x, const Tensor& target) {
  const BlockReader xs(x, x.shape()), ts(target, x.shape());
  std::vector<double> partials(static_cast<size_t>((x.numel() + kChunk - 1) / kChunk));
  parallel_for(x.numel(), kChunk, [&](int64_t begin, int64_t end) {
    double total = 0.0;
    C losses[kBlock];
    for_each_block<C>(xs, ts, begin, end, [&](int64_t, int64_t count, const C* a, const C* b) {
      for (int64_t i = 0; i < count; ++i) losses[i] = Loss::value(a[i], b[i]);
      for (int64_t i = 0; i < count; ++i) total += static_cast<double>(losses[i]);
    });
    partials[static_cast<size_t>(begin / kChunk)] = total;
  });
  double total = 0.0;
  for (const double partial : partials) total += partial;
  return total;
}

template <class Loss>
Tensor pointwise_loss(const Tensor& x, const Tensor& target, Reduction reduction) {
  const Shape shape = reduction == Reduction::none ? x.shape() : Shape{};
  const Tensor result = Tensor::empty(shape, accumulate_dtype(x.dtype()));
  visit_floating("loss", x.dtype(), [&](auto tag) {
    using C = compute_t<typename decltype(tag)::type>;
    if (reduction == Reduction::none) return loss_elements<C, Loss>(x, target, result);
    const double total = loss_total<C, Loss>(x, target);
    const double count = reduction == Reduction::mean ? static_cast<double>(x.numel()) : 1.0;
    *result.data<C>() = static_cast<C>(total / count);
  });
  return result;
}

// dx_i = scale g_i derivative(x_i, t_i); g has one number per element, or one for all.
template <class C, class Derivative>
Tensor gradient_elements(const Tensor& g, double scale, const Tensor& x, const Tensor& target,
                         Derivative derivative) {
  const Tensor result = Tensor::empty(x.shape(), x.dtype());
  const BlockReader gs(g, x.shape()), xs(x, x.shape()), ts(target, x.shape());
  const C factor = static_cast<C>(scale);
  parallel_for(x.numel(), kChunk, [&](int64_t begin, int64_t end) {
    C g_buffer[kBlock], buffer[kBlock];
    for_each_block<C>(xs, ts, begin, end, [&](int64_t at, int64_t count, const C* a, const C* b) {
      const C* weights = gs.read(at, count, g_buffer);
      C* dx = tendril::cpu::block_target(result, at, buffer);
      for (int64_t i = 0; i < count; ++i) dx[i] = factor * weights[i] * derivative(a[i], b[i]);
      tendril::cpu::write_block(result, at, count, dx);
    });
  });
  return result;
}

template <class Loss>
PairGradients pointwise_loss_backward(const Tensor& g, const Tensor& x, const Tensor& target,
                                      Reduction reduction, Wanted wanted) {
  const double scale = reduction == Reduction::mean ? 1.0 / static_cast<double>(x.numel()) : 1.0;
  return visit_floating("loss_backward", x.dtype(), [&](auto tag) {
    using C = compute_t<typename decltype(tag)::type>;
    const auto by_x = [](C a, C b) { return Loss::by_x(a, b); };
    const auto by_target = [](C a, C b) { return Loss::by_target(a, b); };
    PairGradients gradients;
    if (wanted.x) gradients.x = gradient_elements<C>(g, scale, x, target, by_x);
    if (wanted.target) gradients.target = gradient_elements<C>(g, scale, x, target, by_target);
    return gradients;
  });
}

}  // namespace
}  // namespace cpu

namespace cuda {  // pointwise_loss.cu, for every functor
template <class Loss>
Tensor pointwise_loss(const Tensor& x, const Tensor& target, Reduction reduction);
template <class Loss>
PairGradients pointwise_loss_backward(const Tensor& g, const Tensor& x, const Tensor& target,
                                      Reduction reduction, Wanted wanted);
}  // namespace cuda

namespace {

void check_pair(const char* op, const Tensor& x, const Tensor& target) {
  TENDRIL_CHECK(is_floating(x.dtype()), "[", op, "] needs a floating-point tensor; got ", x.dtype(),
                "; cast it with to(x, f32)");
  TENDRIL_CHECK(x.shape() == target.shape(), "[", op, "] shapes differ; got ", x.shape(),
                " and target ", target.shape(), "; a loss does not broadcast, expand one of them");
  TENDRIL_CHECK(x.dtype() == target.dtype(), "[", op, "] dtypes differ; got ", x.dtype(),
                " and target ", target.dtype(), "; cast one with to(x, dtype)");
  require_same_device(op, x, target);
}

template <class Loss>
Tensor forward(const char* op, const Tensor& x, const Tensor& target, Reduction reduction) {
  check_pair(op, x, target);
  return TENDRIL_ON_DEVICE(x, pointwise_loss<Loss>(x, target, reduction));
}

template <class Loss>
PairGradients backward(const char* op, const Tensor& g, const Tensor& x, const Tensor& target,
                       Reduction reduction, Wanted wanted) {
  check_pair(op, x, target);
  require_same_device(op, x, g);
  TENDRIL_CHECK(g.shape() == (reduction == Reduction::none ? x.shape() : Shape{}), "[", op,
                "] the gradient does not fit the loss; got ", g.shape(), " for x ", x.shape(),
                "; it must have the shape of the loss");
  return TENDRIL_ON_DEVICE(x, pointwise_loss_backward<Loss>(g, x, target, reduction, wanted));
}

}  // namespace

Tensor mse_loss(const Tensor& x, const Tensor& target, Reduction reduction) {
  return forward<SquaredError>("mse_loss", x, target, reduction);
}
PairGradients mse_loss_backward(const Tensor& g, const Tensor& x, const Tensor& target,
                                Reduction reduction, Wanted wanted) {
  return backward<SquaredError>("mse_loss_backward", g, x, target, reduction, wanted);
}

Tensor l1_loss(const Tensor& x, const Tensor& target, Reduction reduction) {
  return forward<AbsoluteError>("l1_loss", x, target, reduction);
}
PairGradients l1_loss_backward(const Tensor& g, const Tensor& x, const Tensor& target,
                               Reduction reduction, Wanted wanted) {
  return backward<AbsoluteError>("l1_loss_backward", g, x, target, reduction, wanted);
}

Tensor binary_cross_entropy_with_logits(const Tensor& x, const Tensor& target,
                                        Reduction reduction) {
  return forward<LogisticLoss>("binary_cross_entropy_with_logits", x, target, reduction);
}
PairGradients binary_cross_entropy_with_logits_backward(const Tensor& g, const Tensor& x,
                                                        const Tensor& target, Reduction reduction,
                                                        Wanted wanted) {
  return backward<LogisticLoss>("binary_cross_entropy_with_logits_backward", g, x, target,
                                reduction, wanted);
}

Tensor kl_div(const Tensor& x, const Tensor& target, Reduction reduction, bool log_target) {
  return log_target ? forward<LogDivergence>("kl_div", x, target, reduction)
                    : forward<Divergence>("kl_div", x, target, reduction);
}
PairGradients kl_div_backward(const Tensor& g, const Tensor& x, const Tensor& target,
                              Reduction reduction, bool log_target, Wanted wanted) {
  return log_target ? backward<LogDivergence>("kl_div_backward", g, x, target, reduction, wanted)
                    : backward<Divergence>("kl_div_backward", g, x, target, reduction, wanted);
}

}  // namespace tendril::ops
