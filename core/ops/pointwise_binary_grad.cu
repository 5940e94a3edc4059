#include <tendril/core/ops/pointwise.cuh>

namespace tendril::ops::cuda {

void binary_grad(const Tensor& out, const PointwiseCall& call) {
  switch (call.op) {
#define BINARY(op, F, ...)                                        \
  case Op::op:                                                    \
    if (call.part == tendril::cpu::Part::grad)                    \
      return launch<BinaryGradA<F>, NumberKind::Real>(out, call); \
    return launch<BinaryGradB<F>, NumberKind::Real>(out, call);
#include <tendril/core/ops/ops.def>
    default:
      fail("[", name(call.op), "] has no gradient as a binary op");
  }
}

}  // namespace tendril::ops::cuda
