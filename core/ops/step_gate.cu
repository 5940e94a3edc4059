#include <tendril/core/ops/step_gate.h>
#include <tendril/core/cuda/runtime.cuh>

namespace tendril::ops::cuda {
namespace {

__global__ void verdict_kernel(const int64_t* left_out, const int64_t* total, int64_t known,
                               int64_t* verdict) {
  *verdict = *left_out != 0 ? -1 : *total - known;
}

}  // namespace

void step_verdict(const Tensor& left_out, const Tensor& total, int64_t known,
                  const Tensor& verdict) {
  verdict_kernel<<<1, 1, 0, tendril::cuda::stream(verdict.device())>>>(
      left_out.data<int64_t>(), total.data<int64_t>(), known, verdict.data<int64_t>());
  TENDRIL_CUDA_CHECK_LAUNCH("step_verdict");
}

}  // namespace tendril::ops::cuda
