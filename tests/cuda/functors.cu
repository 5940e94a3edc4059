// Kernels made of the code that CPU loops and CUDA kernels share: 16-bit floats, random numbers and
// the pointwise functors. Compiled only, to keep that code fit for the device.
#include <cstdint>

#include <tendril/core/half.h>
#include <tendril/core/ops/functors.h>
#include <tendril/core/random.h>

namespace tendril::cuda_check {

// out[i] = in[i], rounded to 16 bits and widened again.
template <class Half>
__global__ void round_trip(const float* in, float* out, int64_t n) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (i < n) out[i] = static_cast<float>(Half(in[i]));
}

template __global__ void round_trip<bfloat16>(const float*, float*, int64_t);
template __global__ void round_trip<float16>(const float*, float*, int64_t);

// One thread fills four uniform numbers, as the CPU does for element 4 * block.
__global__ void fill_uniform(float* out, int64_t blocks, RandomKey key) {
  const int64_t block = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (block >= blocks) return;
  const PhiloxBlock bits = key.block(static_cast<uint64_t>(block));
  for (int i = 0; i < 4; ++i) out[4 * block + i] = uniform_from_bits(bits[i]);
}

// A dropout mask, element by element.
__global__ void drop(float* x, int64_t n, RandomKey key, uint32_t threshold, float scale) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (i < n) x[i] = key.bits(static_cast<uint64_t>(i)) >= threshold ? x[i] * scale : 0.0f;
}

// Value and derivative of every pointwise op in the list, one kernel each.
#define UNARY(op, F, ...)                                                                  \
  template <class T>                                                                       \
  __global__ void op##_kernel(const T* x, const T* g, T* y, T* dx) {                       \
    y[threadIdx.x] = ops::F::value(x[threadIdx.x]);                                        \
    dx[threadIdx.x] = ops::F::grad(x[threadIdx.x], g[threadIdx.x]);                        \
  }                                                                                        \
  template __global__ void op##_kernel<float>(const float*, const float*, float*, float*); \
  template __global__ void op##_kernel<double>(const double*, const double*, double*, double*);
#define UNARY1(op, F, ...)                                                                        \
  template <class T>                                                                              \
  __global__ void op##_kernel(const T* x, const T* g, T* y, T* dx, T parameter) {                 \
    y[threadIdx.x] = ops::F::value(x[threadIdx.x], parameter);                                    \
    dx[threadIdx.x] = ops::F::grad(x[threadIdx.x], g[threadIdx.x], parameter);                    \
  }                                                                                               \
  template __global__ void op##_kernel<float>(const float*, const float*, float*, float*, float); \
  template __global__ void op##_kernel<double>(const double*, const double*, double*, double*,    \
                                               double);
#define UNARY_NONDIFF(op, F, ...)                                    \
  template <class T>                                                 \
  __global__ void op##_kernel(const T* x, T* y) {                    \
    y[threadIdx.x] = ops::F::value(x[threadIdx.x]);                  \
  }                                                                  \
  template __global__ void op##_kernel<float>(const float*, float*); \
  template __global__ void op##_kernel<double>(const double*, double*);
#define BINARY(op, F, ...)                                                                      \
  template <class T>                                                                            \
  __global__ void op##_kernel(const T* a, const T* b, const T* g, T* y, T* da, T* db) {         \
    const unsigned i = threadIdx.x;                                                             \
    y[i] = ops::F::value(a[i], b[i]);                                                           \
    da[i] = ops::F::grad_a(a[i], b[i], g[i]);                                                   \
    db[i] = ops::F::grad_b(a[i], b[i], g[i]);                                                   \
  }                                                                                             \
  template __global__ void op##_kernel<float>(const float*, const float*, const float*, float*, \
                                              float*, float*);                                  \
  template __global__ void op##_kernel<double>(const double*, const double*, const double*,     \
                                               double*, double*, double*);
#define COMPARE(op, F)                                                            \
  template <class T>                                                              \
  __global__ void op##_kernel(const T* a, const T* b, bool* y) {                  \
    y[threadIdx.x] = ops::F::value(a[threadIdx.x], b[threadIdx.x]);               \
  }                                                                               \
  template __global__ void op##_kernel<float>(const float*, const float*, bool*); \
  template __global__ void op##_kernel<int64_t>(const int64_t*, const int64_t*, bool*);
#include <tendril/core/ops/ops.def>

}  // namespace tendril::cuda_check
