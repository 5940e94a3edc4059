#include <tendril/core/ops/pointwise.cuh>

namespace tendril::ops::cuda {

void binary_value(const Tensor& out, const PointwiseCall& call) {
  switch (call.op) {
#define BINARY(op, F, kind, ...) \
  case Op::op:                   \
    return launch<BinaryValue<F>, NumberKind::kind>(out, call);
#include <tendril/core/ops/ops.def>
    default:
      fail("[", name(call.op), "] is not a binary op");
  }
}

}  // namespace tendril::ops::cuda
