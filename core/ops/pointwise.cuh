// Pointwise kernels from functors: what the files pointwise_*.cu instantiate.
//
// A functor has at most four kernels: dense f32, bf16 and f16 at the speed of memory, and one per
// computing type for every other dtype, layout and broadcast.
#pragma once

#include <optional>
#include <type_traits>
#include <utility>

#include <tendril/core/ops/functors.h>
#include <tendril/core/ops/pointwise_call.h>
#include <tendril/core/cuda/layout.cuh>
#include <tendril/core/cuda/runtime.cuh>
#include <tendril/core/cuda/vector.cuh>

namespace tendril::ops::cuda {

// ---------------------------------------------------------------- functors as kernels see them

template <class F>
struct UnaryValue {
  static constexpr int kInputs = 1;
  template <class C>
  __device__ static C apply(const C (&in)[1], C) {
    return F::value(in[0]);
  }
};
template <class F>
struct UnaryGrad {
  static constexpr int kInputs = 2;
  template <class C>
  __device__ static C apply(const C (&in)[2], C) {
    return F::grad(in[0], in[1]);
  }
};
template <class F>
struct Unary1Value {
  static constexpr int kInputs = 1;
  template <class C>
  __device__ static C apply(const C (&in)[1], C parameter) {
    return F::value(in[0], parameter);
  }
};
template <class F>
struct Unary1Grad {
  static constexpr int kInputs = 2;
  template <class C>
  __device__ static C apply(const C (&in)[2], C parameter) {
    return F::grad(in[0], in[1], parameter);
  }
};
template <class F>
struct BinaryValue {
  static constexpr int kInputs = 2;
  template <class C>
  __device__ static auto apply(const C (&in)[2], C) {  // C, or bool for comparisons
    return F::value(in[0], in[1]);
  }
};
template <class F>
struct BinaryGradA {
  static constexpr int kInputs = 3;
  template <class C>
  __device__ static C apply(const C (&in)[3], C) {
    return F::grad_a(in[0], in[1], in[2]);
  }
};
template <class F>
struct BinaryGradB {
  static constexpr int kInputs = 3;
  template <class C>
  __device__ static C apply(const C (&in)[3], C) {
    return F::grad_b(in[0], in[1], in[2]);
  }
};

// What a functor computes dense numbers of type T in.
template <class F, class T>
struct DenseCompute {
  using type = float;
};
template <template <class> class Part, class F, class T>
requires(is_half<T>&& F::kShortToo) struct DenseCompute<Part<F>, T> {
  using type = vec::ShortFloat;
};
__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(vec::ShortFloat x) { return x.number; }

template <class T, int kCount>
struct Inputs {
  T input[kCount];
};

inline constexpr int kPointwiseThreads = 256;

// ---------------------------------------------------------------- any dtype and layout

template <class F, class C>
__global__ void __launch_bounds__(kPointwiseThreads)
    any_layout_kernel(tendril::cuda::Target out,
                      const __grid_constant__ Inputs<tendril::cuda::Source, F::kInputs> in,
                      int64_t count, C parameter) {
  const int64_t step = int64_t{gridDim.x} * kPointwiseThreads;
  for (int64_t i = int64_t{blockIdx.x} * kPointwiseThreads + threadIdx.x; i < count; i += step) {
    C values[F::kInputs];
#pragma unroll
    for (int k = 0; k < F::kInputs; ++k) values[k] = in.input[k].template load<C>(i);
    out.store(i, F::apply(values, parameter));
  }
}

inline tendril::cuda::Source source(const Operand& operand, const Shape& shape) {
  return operand.is_tensor() ? tendril::cuda::Source(operand.tensor, shape)
                             : tendril::cuda::Source(operand.number);
}

template <class F, class C>
void launch_any_layout(const Tensor& out, const PointwiseCall& call) {
  Inputs<tendril::cuda::Source, F::kInputs> in;
  for (int k = 0; k < F::kInputs; ++k) in.input[k] = source(call.inputs[k], out.shape());
  const auto blocks = tendril::cuda::blocks_for(out.numel(), kPointwiseThreads, 1 << 20);
  any_layout_kernel<F, C><<<blocks, kPointwiseThreads, 0, tendril::cuda::stream(out.device())>>>(
      tendril::cuda::Target(out), in, out.numel(), parameter_as<C>(call.parameter));
  TENDRIL_CUDA_CHECK_LAUNCH(name(call.op));
}

// ---------------------------------------------------------------- dense f32, bf16 and f16

// How an operand covers the result: element by element, a dense row again and again (a bias), one
// value per row, or a number.
enum class Cover : uint8_t { all, row, column, number };

template <class T>
struct DenseInput {
  const T* data = nullptr;
  float number = 0.0f;
  uint32_t size = 0;  // of the row
  Cover cover = Cover::number;

  __device__ int64_t offset(int64_t at) const {
    if (cover == Cover::row) return static_cast<uint32_t>(at) % size;
    if (cover == Cover::column) return static_cast<uint32_t>(at) / size;
    return at;
  }

  // `valid` <= kVector elements from `at`, which is a multiple of kVector, as row sizes are.
  __device__ tendril::cuda::Vector<T> load(int64_t at, int64_t valid) const {
    constexpr int kVector = tendril::cuda::kVector<T>;
    tendril::cuda::Vector<T> values{};
    if (cover == Cover::number || valid <= 0) return values;
    const T* from = data + offset(at);
    if (cover == Cover::column) {
      const T value = *from;
#pragma unroll
      for (int j = 0; j < kVector; ++j) values.v[j] = value;
    } else if (valid >= kVector) {
      values = tendril::cuda::load_vector(from);
    } else {
#pragma unroll
      for (int j = 0; j < kVector; ++j)
        if (j < valid) values.v[j] = from[j];
    }
    return values;
  }
};

template <class F, class T>
using DenseInputs = Inputs<DenseInput<T>, F::kInputs>;

template <class F, class C, class Vector, size_t... kInput>
__device__ C apply_at(const Vector (&operands)[F::kInputs], int at, C parameter,
                      std::index_sequence<kInput...>) {
  const C values[] = {C(operands[kInput].v[at])...};
  return F::apply(values, parameter);
}

// One vector of the result from those of the operands; kAll: none of them is a number.
template <class F, bool kAll, class T>
__device__ tendril::cuda::Vector<T> dense_result(const DenseInputs<F, T>& in,
                                                 const tendril::cuda::Packed (&raw)[F::kInputs],
                                                 float parameter) {
  using C = typename DenseCompute<F, T>::type;
  constexpr int kVector = tendril::cuda::kVector<T>;
  tendril::cuda::Vector<float, kVector> operands[F::kInputs];
#pragma unroll
  for (int k = 0; k < F::kInputs; ++k) {
    operands[k] = tendril::cuda::unpack_as<float, T>(raw[k]);
#pragma unroll
    for (int j = 0; j < kVector; ++j)
      if (!kAll && in.input[k].cover == Cover::number) operands[k].v[j] = in.input[k].number;
  }
  tendril::cuda::Vector<T> result;
#pragma unroll
  for (int j = 0; j < kVector; ++j)
    result.v[j] = T(to_float(
        apply_at<F, C>(operands, j, C(parameter), std::make_index_sequence<F::kInputs>())));
  return result;
}

inline constexpr int kDenseUnroll = 2;  // vectors of each operand that a thread reads at once

// `all`: every operand is Cover::all. Then a block's loads are all under way before the first is
// used. Those of the other way stand in branches: each waits for the one before.
template <class F, class T>
__global__ void __launch_bounds__(kPointwiseThreads)
    dense_kernel(T* out, const __grid_constant__ DenseInputs<F, T> in, bool all, int64_t count,
                 float parameter) {
  using Vector = tendril::cuda::Vector<T>;
  constexpr int kVector = tendril::cuda::kVector<T>;
  constexpr int64_t kStep = int64_t{kPointwiseThreads} * kVector, kBlock = kDenseUnroll * kStep;
  const int64_t begin = int64_t{blockIdx.x} * kBlock;
  const int64_t first = begin + int64_t{threadIdx.x} * kVector;
  if (all && begin + kBlock <= count) {
    tendril::cuda::Packed raw[kDenseUnroll][F::kInputs];
#pragma unroll
    for (int u = 0; u < kDenseUnroll; ++u)
#pragma unroll
      for (int k = 0; k < F::kInputs; ++k)
        raw[u][k] = tendril::cuda::load_packed(in.input[k].data + first + u * kStep);
#pragma unroll
    for (int u = 0; u < kDenseUnroll; ++u)
      tendril::cuda::store_vector(out + first + u * kStep,
                                  dense_result<F, true>(in, raw[u], parameter));
    return;
  }
#pragma unroll 1
  for (int64_t at = first; at < begin + kBlock && at < count; at += kStep) {
    const int64_t valid = count - at;
    tendril::cuda::Packed raw[F::kInputs];
#pragma unroll
    for (int k = 0; k < F::kInputs; ++k) raw[k] = tendril::cuda::pack(in.input[k].load(at, valid));
    const Vector result = dense_result<F, false>(in, raw, parameter);
    if (valid >= kVector) {
      tendril::cuda::store_vector(out + at, result);
    } else {
#pragma unroll
      for (int j = 0; j < kVector; ++j)
        if (j < valid) out[at + j] = result.v[j];
    }
  }
}

// How x covers the shape when it is dense, and the size of the row; nothing when the general kernel
// must do it. Rows are cut into whole vectors.
struct Covering {
  Cover cover;
  uint32_t row;
};
std::optional<Covering> covering(const Tensor& x, const Shape& shape, int vector);  // pointwise.cu

template <class T>
std::optional<DenseInput<T>> dense_input(const Operand& operand, const Shape& shape) {
  DenseInput<T> input;
  input.number = static_cast<float>(operand.number);
  if (!operand.is_tensor()) return input;
  const Tensor& x = operand.tensor;
  if (x.dtype() != dtype_of<T>()) return std::nullopt;
  const auto found = covering(x, shape, tendril::cuda::kVector<T>);
  if (!found) return std::nullopt;
  input.data = static_cast<const T*>(x.raw_data());
  input.cover = found->cover;
  input.size = found->row;
  return input;
}

// False when some operand is not dense.
template <class F, class T>
bool launch_dense(const Tensor& out, const PointwiseCall& call) {
  if (out.dtype() != dtype_of<T>() || !tendril::cuda::aligned16(out.raw_data())) return false;
  DenseInputs<F, T> in;
  bool all = true;
  for (int k = 0; k < F::kInputs; ++k) {
    const auto input = dense_input<T>(call.inputs[k], out.shape());
    if (!input) return false;
    in.input[k] = *input;
    all = all && input->cover == Cover::all;
  }
  constexpr int kBlock = kDenseUnroll * kPointwiseThreads * tendril::cuda::kVector<T>;
  const auto blocks = tendril::cuda::blocks_for(out.numel(), kBlock);
  dense_kernel<F, T><<<blocks, kPointwiseThreads, 0, tendril::cuda::stream(out.device())>>>(
      static_cast<T*>(out.raw_data()), in, all, out.numel(), parameter_as<float>(call.parameter));
  TENDRIL_CUDA_CHECK_LAUNCH(name(call.op));
  return true;
}

// ---------------------------------------------------------------- choosing

/// `out` is dense and not empty. Functors of kind Real, and all gradients, do not exist for
/// integers; comparisons write bool and have no dense kernels.
template <class F, NumberKind kKind, bool kDense = true>
void launch(const Tensor& out, const PointwiseCall& call) {
  if (call.compute == f64) return launch_any_layout<F, double>(out, call);
  if constexpr (kKind == NumberKind::Number)
    if (!is_floating(call.compute)) return launch_any_layout<F, int64_t>(out, call);
  if constexpr (kDense)
    if (launch_dense<F, float>(out, call) || launch_dense<F, bfloat16>(out, call) ||
        launch_dense<F, float16>(out, call))
      return;
  launch_any_layout<F, float>(out, call);
}

void unary_value(const Tensor& out, const PointwiseCall& call);   // pointwise_unary.cu
void unary_grad(const Tensor& out, const PointwiseCall& call);    // pointwise_unary_grad.cu
void binary_value(const Tensor& out, const PointwiseCall& call);  // pointwise_binary.cu
void binary_grad(const Tensor& out, const PointwiseCall& call);   // pointwise_binary_grad.cu
void compare(const Tensor& out, const PointwiseCall& call);       // pointwise_compare.cu

}  // namespace tendril::ops::cuda
