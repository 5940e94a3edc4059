// Pointwise operations on raw tensors; which there are, ops.def says.
#pragma once

#include <tendril/core/ops/op_list.h>
#include <tendril/core/tensor.h>

namespace tendril::ops {

/// An operand of a binary operation: a tensor, or a number that takes the tensor's dtype.
struct Operand {
  Operand(const Tensor& tensor) : tensor(tensor) {}
  Operand(double number) : number(number), is_number(true) {}
  bool is_tensor() const { return !is_number; }
  Tensor tensor;
  double number = 0.0;
  bool is_number = false;
};

/// Value of a unary op; `parameter` for the UNARY1 rows. Integers become f32 for Real ops, bool
/// becomes i64.
TENDRIL_API Tensor unary(Op op, const Tensor& x, double parameter = 0.0);
/// Gradient of the input; `saved` is the input or the output, as the row says.
TENDRIL_API Tensor unary_backward(Op op, const Tensor& saved, const Tensor& g,
                                  double parameter = 0.0);

/// Broadcasts and promotes.
TENDRIL_API Tensor binary(Op op, const Operand& a, const Operand& b);
/// Gradient with respect to a (or b), of the shape of g: reduce it with sum_to(). Operands the
/// functor does not use may be undefined tensors.
TENDRIL_API Tensor binary_backward_a(Op op, const Tensor& a, const Operand& b, const Tensor& g);
TENDRIL_API Tensor binary_backward_b(Op op, const Operand& a, const Tensor& b, const Tensor& g);

/// bool result.
TENDRIL_API Tensor compare(Op op, const Operand& a, const Operand& b);
TENDRIL_API Tensor logical_not(const Tensor& x);
TENDRIL_API Tensor isfinite(const Tensor& x);

/// condition ? a : b; all broadcast.
TENDRIL_API Tensor where(const Tensor& condition, const Operand& a, const Operand& b);

/// sum += x, in place; sum is contiguous and x broadcasts to it.
TENDRIL_API void accumulate(const Tensor& sum, const Tensor& x);

inline Tensor add(const Operand& a, const Operand& b) { return binary(Op::add, a, b); }
inline Tensor sub(const Operand& a, const Operand& b) { return binary(Op::sub, a, b); }
inline Tensor mul(const Operand& a, const Operand& b) { return binary(Op::mul, a, b); }
inline Tensor div(const Operand& a, const Operand& b) { return binary(Op::div, a, b); }
inline Tensor neg(const Tensor& x) { return unary(Op::neg, x); }
inline Tensor exp(const Tensor& x) { return unary(Op::exp, x); }

}  // namespace tendril::ops
