#include <tendril/core/ops/pointwise.cuh>

namespace tendril::ops::cuda {
namespace {

struct AddScaled {
  static constexpr int kInputs = 2;
  template <class C>
  __device__ static C apply(const C (&in)[2], C alpha) {
    return Add::value(in[0], Mul::value(alpha, in[1]));
  }
};

struct Scaled {
  static constexpr int kInputs = 1;
  template <class C>
  __device__ static C apply(const C (&in)[1], C factor) {
    return Mul::value(in[0], factor);
  }
};

}  // namespace

// x is dense; y broadcasts to it.
void add_in_place(const Tensor& x, const Tensor& y, double alpha) {
  const Operand in[] = {x, y};
  launch<AddScaled, NumberKind::Number>(x,
                                        {Op::add, tendril::cpu::Part::value, x.dtype(), in, alpha});
}

void mul_in_place(const Tensor& x, double factor) {
  const Operand in[] = {x};
  launch<Scaled, NumberKind::Number>(x,
                                     {Op::mul, tendril::cpu::Part::value, x.dtype(), in, factor});
}

}  // namespace tendril::ops::cuda
