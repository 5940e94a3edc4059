#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/step_gate.h>

namespace tendril::ops {

namespace cpu {

void step_verdict(const Tensor& left_out, const Tensor& total, int64_t known,
                  const Tensor& verdict) {
  const bool skipped = *left_out.data<int64_t>() != 0;
  *verdict.data<int64_t>() = skipped ? -1 : *total.data<int64_t>() - known;
}

}  // namespace cpu

namespace cuda {
void step_verdict(const Tensor& left_out, const Tensor& total, int64_t known,
                  const Tensor& verdict);  // step_gate.cu
}

Tensor step_verdict(const Tensor& left_out, const Tensor& total, int64_t known) {
  require_same_device("step_verdict", left_out, total);
  for (const Tensor& number : {left_out, total})
    TENDRIL_CHECK(number.dtype() == i64 && number.numel() == 1,
                  "[step_verdict] needs single i64 numbers; got ", number.dtype(), " ",
                  number.shape());
  const Tensor verdict = Tensor::empty({}, i64, left_out.device());
  TENDRIL_ON_DEVICE(left_out, step_verdict(left_out, total, known, verdict));
  return verdict;
}

bool is_open(const StepGate& gate) {
  return !gate.verdict.defined() || gate.verdict.item<int64_t>() == gate.opens_at;
}

}  // namespace tendril::ops
