#include <tendril/core/ops/pointwise.cuh>

namespace tendril::ops::cuda {

void unary_grad(const Tensor& out, const PointwiseCall& call) {
  switch (call.op) {
#define UNARY(op, F, ...) \
  case Op::op:            \
    return launch<UnaryGrad<F>, NumberKind::Real>(out, call);
#define UNARY1(op, F, ...) \
  case Op::op:             \
    return launch<Unary1Grad<F>, NumberKind::Real>(out, call);
#include <tendril/core/ops/ops.def>
    default:
      fail("[", name(call.op), "] has no gradient as a unary op");
  }
}

}  // namespace tendril::ops::cuda
