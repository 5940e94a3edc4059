// linear_cross_entropy without a wait for the host: rows are neither counted nor gathered there. An
// ignored row goes through all products with a gradient of 0.
#include <algorithm>
#include <bit>

#include <tendril/core/creation.h>
#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/layout.h>
#include <tendril/core/ops/linear_loss.h>
#include <tendril/core/cuda/class_loss.cuh>
#include <tendril/core/cuda/product.cuh>
#include <tendril/core/cuda/vector.cuh>

namespace tendril::ops::cuda {
namespace {

using tendril::cuda::ClassLoss;
using tendril::cuda::product;

constexpr const char* kName = "linear_cross_entropy";

// Logits that exist at a time. The sums of dW pass through memory once per chunk, and a chunk's
// products should fill the GPU: more is better, up to what a model's memory can spare.
constexpr int64_t kChunkBytes = int64_t{512} << 20;
constexpr int64_t kRowTile = 256;    // chunks are whole tiles of the products
constexpr int64_t kColumnTile = 64;  // rows of logits begin at multiples of this many elements

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Equal chunks. Depends on the shapes alone.
int64_t chosen_chunk_rows(int64_t rows, int64_t row_bytes) {
  const int64_t most = std::max(kRowTile, kChunkBytes / row_bytes / kRowTile * kRowTile);
  const int64_t chunks = std::max<int64_t>(1, (rows + most - 1) / most);
  return std::max(kRowTile, round_up((rows + chunks - 1) / chunks, kRowTile));
}

// f16 has no room for gradients divided by the number of rows: D is held times this power of two
// (exact in every dtype), which the products take out again.
double gradient_scale(int64_t rows, Reduction reduction) {
  constexpr int64_t kMost = 4096;  // a single row that counts must not overflow f16 either
  if (reduction != Reduction::mean) return 1.0;
  return static_cast<double>(
      std::bit_ceil(static_cast<uint64_t>(std::clamp<int64_t>(rows, 1, kMost))));
}

// A weight that no product can read in place is copied once instead of for every chunk.
Tensor matrix(const Tensor& x, DType dtype) {
  const Tensor result = cast(x, dtype);
  return result.strides()[0] == 1 || result.strides()[1] == 1 ? result : contiguous(result);
}

// One walk over the rows of x, chunk by chunk. Operands are multiplied and logits held in `dtype`.
class Walk {
 public:
  Walk(const Tensor& x, const Tensor& weight, const Tensor& target, const Tensor& bias,
       const CrossEntropyOptions& options, DType dtype)
      : x_(matrix(reshape(x, {target.numel(), x.size(-1)}), dtype)),
        weight_(matrix(weight, dtype)),
        bias_(bias.defined() ? contiguous(cast(bias, dtype)) : Tensor()),
        target_(contiguous(target)),
        options_(options),
        pitch_(round_up(std::max<int64_t>(classes(), 1), kColumnTile)),
        scale_(gradient_scale(rows(), options.reduction)) {
    if (options.reduction == Reduction::mean)
      count_ = tendril::cuda::count_targets(target_, options.ignore_index);
  }

  /// The rows' losses (rows) in f64, and the sums `wanted`. `g`: for Reduction::none the gradient
  /// of each loss, else undefined.
  Tensor run(LinearWanted wanted, const Tensor& g, LinearGradients& sums, int64_t chunk_rows) {
    allocate(wanted, sums);
    const Tensor losses = Tensor::empty({rows()}, f64, device());
    if (rows() == 0) return losses;
    if (chunk_rows == 0) chunk_rows = chosen_chunk_rows(rows(), pitch_ * size_of(dtype()));
    const Tensor memory = Tensor::empty({std::min(chunk_rows, rows()), pitch_}, dtype(), device());
    for (int64_t begin = 0; begin < rows(); begin += chunk_rows) {
      const int64_t n = std::min(chunk_rows, rows() - begin);
      const Tensor z = slice(slice(memory, 0, 0, n), 1, 0, classes());
      const Tensor x = slice(x_, 0, begin, begin + n);
      product(kName, x, transpose(weight_, 0, 1), z, {.bias = bias_});
      softmax(z, begin, n, wanted, g, losses);
      add(z, x, begin, wanted, sums);
    }
    return losses;
  }

  const Tensor& count() const { return count_; }

 private:
  int64_t rows() const { return x_.size(0); }
  int64_t channels() const { return x_.size(1); }
  int64_t classes() const { return weight_.size(0); }
  DType dtype() const { return x_.dtype(); }
  Device device() const { return x_.device(); }

  void allocate(LinearWanted wanted, LinearGradients& sums) const {
    const DType wide = accumulate_dtype(dtype());
    const auto sum = [&](const Shape& shape) {
      return rows() == 0 ? zeros(shape, wide, device()) : Tensor::empty(shape, wide, device());
    };
    // dx is no sum over chunks and may be rounded at once; what is small would vanish in f16.
    const DType narrow = dtype() == f16 ? f32 : dtype();
    if (wanted.x) sums.x = Tensor::empty({rows(), channels()}, narrow, device());
    if (wanted.weight) sums.weight = sum({classes(), channels()});
    if (wanted.bias) sums.bias = sum({classes()});
  }

  // The losses of n rows of logits z, which become D times scale_.
  void softmax(const Tensor& z, int64_t begin, int64_t n, LinearWanted wanted, const Tensor& g,
               const Tensor& losses) const {
    const auto at = [&](const Tensor& x) {
      return static_cast<char*>(x.raw_data()) + begin * size_of(x.dtype());
    };
    ClassLoss rows{.op = kName,
                   .rows = n,
                   .classes = classes(),
                   .logits = z.raw_data(),
                   .dtype = dtype(),
                   .logits_stride = pitch_,
                   .targets = at(target_),
                   .target_dtype = target_.dtype(),
                   .ignore_index = options_.ignore_index,
                   .label_smoothing = options_.label_smoothing,
                   .losses = losses.data<double>() + begin};
    if (wanted.any()) {
      rows.gradients = z.raw_data();
      rows.gradients_stride = pitch_;
      rows.factor = scale_;
      rows.count = count_.defined() ? count_.data<int64_t>() : nullptr;
    }
    if (wanted.any() && g.defined()) {
      rows.g = at(g);
      rows.g_dtype = g.dtype();
      rows.g_stride = 1;
    }
    tendril::cuda::class_loss(rows, device());
  }

  // dx (n, C) = D (n, V) W (V, C), dW (V, C) += D^T x (n, C), db (V) += 1^T D
  void add(const Tensor& d, const Tensor& x, int64_t begin, LinearWanted wanted,
           const LinearGradients& sums) const {
    const double alpha = 1.0 / scale_;
    const int64_t n = d.size(0);
    const bool more = begin > 0;
    if (wanted.x) product(kName, d, weight_, slice(sums.x, 0, begin, begin + n), {.alpha = alpha});
    if (wanted.weight)
      product(kName, transpose(d, 0, 1), x, sums.weight, {.accumulate = more, .alpha = alpha});
    if (wanted.bias)
      product(kName, ones({1, n}, dtype(), device()), d, unsqueeze(sums.bias, 0),
              {.accumulate = more, .alpha = alpha});
  }

  const Tensor x_, weight_, bias_, target_;  // (N, C), (V, C), (V), (...)
  const CrossEntropyOptions& options_;
  const int64_t pitch_;
  const double scale_;
  Tensor count_;
};

void restore_shape(LinearGradients& gradients, const Tensor& x) {
  if (gradients.x.defined()) gradients.x = reshape(gradients.x, x.shape());
}

// ---------------------------------------------------------------- scaling

constexpr int kThreads = 256;

// y = g x, where 0 stays 0 even if g is infinite or NaN: gradients of ignored rows. In place (y is
// x) a g of 1 costs a launch and nothing else.
template <class From, class To, int N>
__global__ void __launch_bounds__(kThreads)
    scaled_kernel(const From* x, To* y, int64_t count, const void* g, bool g_is_f64) {
  using C = compute_t<From>;
  const C factor = g_is_f64 ? static_cast<C>(*static_cast<const double*>(g))
                            : static_cast<C>(*static_cast<const float*>(g));
  if (static_cast<const void*>(x) == static_cast<const void*>(y) && factor == C(1)) return;
  const auto times_factor = [&](From value) {
    const C number = convert<C>(value);
    return convert<To>(number == C(0) ? number : number * factor);
  };
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads * N;
  for (int64_t at = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * N; at < count;
       at += stride) {
    if (at + N <= count) {
      const auto in = tendril::cuda::load_vector<From, N>(x + at);
      tendril::cuda::Vector<To, N> out;
#pragma unroll
      for (int i = 0; i < N; ++i) out.v[i] = times_factor(in.v[i]);
      tendril::cuda::store_vector<To, N>(y + at, out);
    } else {
      for (int64_t i = at; i < count; ++i) y[i] = times_factor(x[i]);
    }
  }
}

}  // namespace

LinearLoss linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& target,
                                const Tensor& bias, const CrossEntropyOptions& options, DType dtype,
                                LinearWanted wanted, int64_t chunk_rows) {
  LinearLoss result;
  Walk walk(x, weight, target, bias, options, dtype);
  const Tensor losses = walk.run(wanted, {}, result.gradients, chunk_rows);
  result.loss = tendril::cuda::reduce_losses(losses, walk.count(), target.shape(),
                                             accumulate_dtype(dtype), options.reduction);
  restore_shape(result.gradients, x);
  return result;
}

// x times the scalar g in `dtype`, in x's memory where x has that dtype.
Tensor scaled(const Tensor& x, const Tensor& g, DType dtype) {
  const Tensor y = x.dtype() == dtype ? x : Tensor::empty(x.shape(), dtype, x.device());
  if (x.numel() == 0) return y;
  const Tensor factor = g.dtype() == f64 ? g : cast(g, f32);
  visit_floating(kName, x.dtype(), [&]<class From>(TypeTag<From>) {
    visit_floating(kName, dtype, [&]<class To>(TypeTag<To>) {
      constexpr int kWide = 16 / static_cast<int>(std::max(sizeof(From), sizeof(To)));
      const int most = tendril::cuda::properties(x.device()).multiprocessors * 8;
      scaled_kernel<From, To, kWide><<<tendril::cuda::blocks_for(x.numel(), kThreads * kWide, most),
                                       kThreads, 0, tendril::cuda::stream(x.device())>>>(
          x.data<From>(), y.data<To>(), x.numel(), factor.raw_data(), factor.dtype() == f64);
    });
  });
  TENDRIL_CUDA_CHECK_LAUNCH("linear_cross_entropy_backward");
  return y;
}

LinearGradients linear_cross_entropy_backward(const Tensor& g, const Tensor& x,
                                              const Tensor& weight, const Tensor& target,
                                              const Tensor& bias,
                                              const CrossEntropyOptions& options, DType dtype,
                                              LinearWanted wanted, int64_t chunk_rows) {
  LinearGradients sums;
  const bool by_row = options.reduction == Reduction::none;
  const Tensor row_g = by_row ? contiguous(g.dtype() == f64 ? g : cast(g, f32)) : Tensor();
  Walk(x, weight, target, bias, options, dtype).run(wanted, row_g, sums, chunk_rows);
  restore_shape(sums, x);
  if (by_row) return sums;
  for (Tensor* sum : {&sums.x, &sums.weight, &sums.bias})
    if (sum->defined()) *sum = scaled(*sum, g, sum->dtype());
  return sums;
}

}  // namespace tendril::ops::cuda
