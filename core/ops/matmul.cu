#include <tendril/core/cuda/product.cuh>

namespace tendril::ops::cuda {

// `out` is dense (batch..., M, N); a and b are expanded to its batch axes. `bias` may be undefined.
void matmul(const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& out) {
  tendril::cuda::product("matmul", a, b, out, {.bias = bias});
}

}  // namespace tendril::ops::cuda
