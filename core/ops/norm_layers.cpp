#include <tendril/core/ops/norm_layers.h>

#include <vector>

#include <tendril/core/cpu/isa.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/elements.h>
#include <tendril/core/ops/norm_rows.h>
#include <tendril/core/ops/pointwise.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace cpu {
namespace {

// The C numbers of a weight or bias in the compute type; `otherwise` in place of an undefined one.
template <class C>
std::vector<C> channel_values(const Tensor& parameter, int64_t channels, C otherwise) {
  if (!parameter.defined()) return std::vector<C>(static_cast<size_t>(channels), otherwise);
  return parameter.to_vector<C>();
}

// dweight and dbias are sums over all rows. Their partial sums belong to chunks of rows that depend
// on the number of rows alone, and meet in the order of the chunks: the same bits on any thread
// count.
template <class C>
class ParameterSums {
 public:
  ParameterSums(int64_t rows, int64_t channels)
      : channels_(channels),
        chunk_(std::max<int64_t>(kFewestRows, (rows + kMostChunks - 1) / kMostChunks)),
        partials_(static_cast<size_t>(2 * channels * ((rows + chunk_ - 1) / chunk_))) {}

  int64_t rows_per_chunk() const { return chunk_; }
  C* weight(int64_t first_row) { return partials_.data() + first_row / chunk_ * 2 * channels_; }
  C* bias(int64_t first_row) { return weight(first_row) + channels_; }

  Tensor total_weight(DType dtype) const { return total(0, dtype); }
  Tensor total_bias(DType dtype) const { return total(channels_, dtype); }

 private:
  static constexpr int64_t kMostChunks = 64, kFewestRows = 16;

  Tensor total(int64_t first, DType dtype) const {
    const Tensor result = Tensor::empty({channels_}, dtype);
    visit_floating("norm", dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      T* out = result.data<T>();
      for (int64_t i = 0; i < channels_; ++i) {
        double sum = 0.0;
        for (size_t at = static_cast<size_t>(first + i); at < partials_.size(); at += 2 * channels_)
          sum += partials_[at];
        out[i] = static_cast<T>(static_cast<compute_t<T>>(sum));
      }
    });
    return result;
  }

  int64_t channels_, chunk_;
  std::vector<C> partials_;
};

template <class T>
void layer_norm_rows(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                     const LayerNormResult& result) {
  using C = compute_t<T>;
  const Elements<T> in(x), out(result.y);
  const int64_t n = in.row_length();
  const auto w = channel_values<C>(weight, n, C(1)), b = channel_values<C>(bias, n, C(0));
  C *mean = result.mean.data<C>(), *rstd = result.rstd.data<C>();
  parallel_for(in.rows(), rows_per_chunk(n), [&](int64_t begin, int64_t end) {
    const auto buffer = scratch<C>(n), result_buffer = scratch<C>(n);
    for (int64_t row = begin; row < end; ++row) {
      C* y = out.target(row * n, n, result_buffer.get());
      const C* values = in.read(row * n, n, buffer.get());
      const auto moments = TENDRIL_ISA_CALL(layer_norm_row(values, w.data(), b.data(), y, n, eps));
      mean[row] = moments.mean;
      rstd[row] = moments.rstd;
      out.write(row * n, n, y);
    }
  });
}

template <class T>
void rms_norm_rows(const Tensor& x, const Tensor& weight, double eps, const RmsNormResult& result) {
  using C = compute_t<T>;
  const Elements<T> in(x), out(result.y);
  const int64_t n = in.row_length();
  const auto w = channel_values<C>(weight, n, C(1));
  C* rstd = result.rstd.data<C>();
  parallel_for(in.rows(), rows_per_chunk(n), [&](int64_t begin, int64_t end) {
    const auto buffer = scratch<C>(n), result_buffer = scratch<C>(n);
    for (int64_t row = begin; row < end; ++row) {
      C* y = out.target(row * n, n, result_buffer.get());
      const C* values = in.read(row * n, n, buffer.get());
      rstd[row] = TENDRIL_ISA_CALL(rms_norm_row(values, w.data(), y, n, eps));
      out.write(row * n, n, y);
    }
  });
}

// kernel(row, g, x, weight, dx, dweight, dbias, n) for every row; then the sums over rows.
template <class T, class Kernel>
NormGradients norm_backward(const Tensor& g, const Tensor& x, const Tensor& weight,
                            bool with_weight, bool with_bias, Kernel kernel) {
  using C = compute_t<T>;
  NormGradients gradients{Tensor::empty(x.shape(), x.dtype()), {}, {}};
  const Elements<T> in(g), saved(x), out(gradients.x);
  const int64_t n = in.row_length();
  const auto w = channel_values<C>(weight, n, C(1));
  ParameterSums<C> sums(in.rows(), n);
  parallel_for(in.rows(), sums.rows_per_chunk(), [&](int64_t begin, int64_t end) {
    const auto buffer = scratch<C>(n), saved_buffer = scratch<C>(n), result_buffer = scratch<C>(n);
    for (int64_t row = begin; row < end; ++row) {
      C* dx = out.target(row * n, n, result_buffer.get());
      kernel(row, in.read(row * n, n, buffer.get()), saved.read(row * n, n, saved_buffer.get()),
             w.data(), dx, sums.weight(begin), sums.bias(begin), n);
      out.write(row * n, n, dx);
    }
  });
  const DType dtype = weight.defined() ? weight.dtype() : x.dtype();
  if (with_weight) gradients.weight = sums.total_weight(dtype);
  if (with_bias) gradients.bias = sums.total_bias(dtype);
  return gradients;
}

LayerNormResult layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                           int64_t rows) {
  const DType statistics = accumulate_dtype(x.dtype());
  const LayerNormResult result{Tensor::empty(x.shape(), x.dtype()),
                               Tensor::empty({rows}, statistics),
                               Tensor::empty({rows}, statistics)};
  visit_floating("layer_norm", x.dtype(), [&](auto tag) {
    layer_norm_rows<typename decltype(tag)::type>(x, weight, bias, eps, result);
  });
  return result;
}

NormGradients layer_norm_backward(const Tensor& g, const Tensor& x, const Tensor& weight,
                                  const Tensor& mean, const Tensor& rstd, bool with_weight,
                                  bool with_bias) {
  return visit_floating("layer_norm_backward", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const C *means = mean.data<C>(), *rstds = rstd.data<C>();
    return norm_backward<T>(
        g, x, weight, with_weight, with_bias,
        [=](int64_t row, const C* gs, const C* xs, const C* ws, C* dx, C* dw, C* db, int64_t n) {
          const tendril::cpu::RowMoments<C> moments{means[row], rstds[row]};
          TENDRIL_ISA_CALL(layer_norm_row_backward(gs, xs, ws, moments, dx, dw, db, n));
        });
  });
}

RmsNormResult rms_norm(const Tensor& x, const Tensor& weight, double eps, int64_t rows) {
  const RmsNormResult result{Tensor::empty(x.shape(), x.dtype()),
                             Tensor::empty({rows}, accumulate_dtype(x.dtype()))};
  visit_floating("rms_norm", x.dtype(), [&](auto tag) {
    rms_norm_rows<typename decltype(tag)::type>(x, weight, eps, result);
  });
  return result;
}

NormGradients rms_norm_backward(const Tensor& g, const Tensor& x, const Tensor& weight,
                                const Tensor& rstd, bool with_weight) {
  return visit_floating("rms_norm_backward", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const C* rstds = rstd.data<C>();
    return norm_backward<T>(
        g, x, weight, with_weight, false,
        [=](int64_t row, const C* gs, const C* xs, const C* ws, C* dx, C* dw, C*, int64_t n) {
          TENDRIL_ISA_CALL(rms_norm_row_backward(gs, xs, ws, rstds[row], dx, dw, n));
        });
  });
}

AddLayerNormResult add_layer_norm(const Tensor& x, const Tensor& residual, const Tensor& weight,
                                  const Tensor& bias, double eps, int64_t rows) {
  const Tensor sum = add(x, residual);
  const LayerNormResult norm = layer_norm(sum, weight, bias, eps, rows);
  return {sum, norm.y, norm.mean, norm.rstd};
}

NormGradients add_layer_norm_backward(const Tensor& g, const Tensor& g_sum, const Tensor& sum,
                                      const Tensor& weight, const Tensor& mean, const Tensor& rstd,
                                      bool with_weight, bool with_bias) {
  const NormGradients gradients =
      layer_norm_backward(g, sum, weight, mean, rstd, with_weight, with_bias);
  if (g_sum.defined()) accumulate(gradients.x, g_sum);
  return gradients;
}

}  // namespace
}  // namespace cpu

namespace cuda {  // norm_layers.cu and norm_layers_backward.cu
LayerNormResult layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                           int64_t rows);
NormGradients layer_norm_backward(const Tensor& g, const Tensor& x, const Tensor& weight,
                                  const Tensor& mean, const Tensor& rstd, bool with_weight,
                                  bool with_bias);
RmsNormResult rms_norm(const Tensor& x, const Tensor& weight, double eps, int64_t rows);
NormGradients rms_norm_backward(const Tensor& g, const Tensor& x, const Tensor& weight,
                                const Tensor& rstd, bool with_weight);
AddLayerNormResult add_layer_norm(const Tensor& x, const Tensor& residual, const Tensor& weight,
                                  const Tensor& bias, double eps, int64_t rows);
NormGradients add_layer_norm_backward(const Tensor& g, const Tensor& g_sum, const Tensor& sum,
                                      const Tensor& weight, const Tensor& mean, const Tensor& rstd,
                                      bool with_weight, bool with_bias);
}  // namespace cuda

namespace {

void check_parameter(const char* op, const char* which, const Tensor& x, const Tensor& parameter) {
  if (!parameter.defined()) return;
  TENDRIL_CHECK(is_floating(parameter.dtype()), "[", op, "] needs a floating-point ", which,
                "; got ", parameter.dtype(), "; cast it with to(x, f32)");
  TENDRIL_CHECK(parameter.shape() == Shape({x.shape().back()}), "[", op, "] ", which,
                " must have one number per channel; got ", parameter.shape(), " for x ", x.shape(),
                "; it must be (", x.shape().back(), ")");
}

// The number of rows, after the checks that both layers share.
int64_t checked_rows(const char* op, const Tensor& x, const Tensor& weight, const Tensor& bias,
                     double eps) {
  TENDRIL_CHECK(is_floating(x.dtype()), "[", op, "] needs a floating-point tensor; got ", x.dtype(),
                "; cast it with to(x, f32)");
  TENDRIL_CHECK(x.rank() >= 1, "[", op,
                "] normalises the last axis; got a tensor without axes; use shape (..., C)");
  TENDRIL_CHECK(eps >= 0.0, "[", op, "] eps must not be negative; got ", eps, "; 1e-5 is usual");
  require_same_device(op, x, weight, bias);
  check_parameter(op, "weight", x, weight);
  check_parameter(op, "bias", x, bias);
  const DType parameters = weight.defined() ? weight.dtype() : x.dtype();
  TENDRIL_CHECK(!bias.defined() || bias.dtype() == parameters, "[", op,
                "] weight and bias differ in dtype; got ", parameters, " and ", bias.dtype(),
                "; cast one with to(x, dtype)");
  return x.shape().back() == 0 ? 0 : x.numel() / x.shape().back();
}

void check_backward(const char* op, const Tensor& g, const Tensor& x, const Tensor& rstd) {
  require_same_device(op, x, g, rstd);
  TENDRIL_CHECK(g.shape() == x.shape() && g.dtype() == x.dtype(), "[", op,
                "] gradient and input differ; got ", g.shape(), " ", g.dtype(), " and ", x.shape(),
                " ", x.dtype(), "; they must be alike");
  TENDRIL_CHECK(x.numel() == 0 || rstd.numel() * x.shape().back() == x.numel(), "[", op,
                "] the saved statistics do not fit; got ", rstd.shape(), " for x ", x.shape(),
                "; pass what the forward function returned");
}

}  // namespace

LayerNormResult layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  const int64_t rows = checked_rows("layer_norm", x, weight, bias, eps);
  return TENDRIL_ON_DEVICE(x, layer_norm(x, weight, bias, eps, rows));
}

NormGradients layer_norm_backward(const Tensor& g, const Tensor& x, const Tensor& weight,
                                  const Tensor& mean, const Tensor& rstd, bool with_weight,
                                  bool with_bias) {
  check_backward("layer_norm_backward", g, x, rstd);
  return TENDRIL_ON_DEVICE(x,
                           layer_norm_backward(g, x, weight, mean, rstd, with_weight, with_bias));
}

RmsNormResult rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  const int64_t rows = checked_rows("rms_norm", x, weight, {}, eps);
  return TENDRIL_ON_DEVICE(x, rms_norm(x, weight, eps, rows));
}

NormGradients rms_norm_backward(const Tensor& g, const Tensor& x, const Tensor& weight,
                                const Tensor& rstd, bool with_weight) {
  check_backward("rms_norm_backward", g, x, rstd);
  return TENDRIL_ON_DEVICE(x, rms_norm_backward(g, x, weight, rstd, with_weight));
}

AddLayerNormResult add_layer_norm(const Tensor& x, const Tensor& residual, const Tensor& weight,
                                  const Tensor& bias, double eps) {
  const int64_t rows = checked_rows("add_layer_norm", x, weight, bias, eps);
  require_same_device("add_layer_norm", x, residual);
  TENDRIL_CHECK(residual.shape() == x.shape() && is_floating(residual.dtype()) &&
                    promote(x.dtype(), residual.dtype()) == x.dtype(),
                "[add_layer_norm] the summands do not fit; got ", x.shape(), " ", x.dtype(),
                " and ", residual.shape(), " ", residual.dtype(),
                "; the residual must have x's shape and its dtype or a narrower one");
  return TENDRIL_ON_DEVICE(x, add_layer_norm(x, residual, weight, bias, eps, rows));
}

NormGradients add_layer_norm_backward(const Tensor& g, const Tensor& g_sum, const Tensor& sum,
                                      const Tensor& weight, const Tensor& mean, const Tensor& rstd,
                                      bool with_weight, bool with_bias) {
  check_backward("add_layer_norm_backward", g, sum, rstd);
  if (g_sum.defined()) check_backward("add_layer_norm_backward", g_sum, sum, rstd);
  return TENDRIL_ON_DEVICE(
      sum, add_layer_norm_backward(g, g_sum, sum, weight, mean, rstd, with_weight, with_bias));
}

}  // namespace tendril::ops
