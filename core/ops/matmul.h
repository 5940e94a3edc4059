// Dense products on raw tensors. bf16 and f16 operands are multiplied and summed in f32 and rounded
// once; integers are refused.
#pragma once

#include <string>

#include <tendril/core/tensor.h>

namespace tendril::ops {

/// (..., M, K) x (..., K, N) -> (..., M, N), batch axes broadcast. Both operands have at least two
/// axes. Operands of any strides are read in place.
///   dA = g B^T, dB = A^T g, each summed over the batch axes along which it was broadcast.
TENDRIL_API Tensor matmul(const Tensor& a, const Tensor& b);
TENDRIL_API Tensor matmul_backward_a(const Tensor& g, const Tensor& b, const Shape& a_shape,
                                     DType a_dtype);
TENDRIL_API Tensor matmul_backward_b(const Tensor& g, const Tensor& a, const Shape& b_shape,
                                     DType b_dtype);

/// x (..., in) W^T + bias; weight (out, in), bias (out) or undefined.
///   dx = g W, dW = g^T x and dbias = sum of g over all rows.
TENDRIL_API Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias);
TENDRIL_API Tensor linear_backward_x(const Tensor& g, const Tensor& weight, DType dtype);
/// `column_major`: the result is the transpose of a dense (in, out), as a weight stored that way
/// wants it.
TENDRIL_API Tensor linear_backward_weight(const Tensor& g, const Tensor& x, DType dtype,
                                          bool column_major = false);

/// Sums the product of two operands over the indices that `equation` ("ij,jk->ik") leaves out on
/// the right. An index stands at most once in each operand; ellipses are not supported.
TENDRIL_API Tensor einsum(const std::string& equation, const Tensor& a, const Tensor& b);
/// The gradient of operand 0 or 1, given the other operand.
TENDRIL_API Tensor einsum_backward(const std::string& equation, int operand, const Tensor& g,
                                   const Tensor& other, const Shape& shape);

}  // namespace tendril::ops
