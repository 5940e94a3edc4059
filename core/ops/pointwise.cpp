#include <tendril/core/ops/pointwise.h>

#include <cmath>

#include <tendril/core/cpu/block.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/pointwise_call.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace {

using tendril::cpu::Part;

NumberKind number_kind(Op op) {
  switch (op) {
#define UNARY(op, F, kind, ...) \
  case Op::op:                  \
    return NumberKind::kind;
#define UNARY1(op, F, kind, ...) \
  case Op::op:                   \
    return NumberKind::kind;
#define UNARY_NONDIFF(op, F, kind, ...) \
  case Op::op:                          \
    return NumberKind::kind;
#define BINARY(op, F, kind, ...) \
  case Op::op:                   \
    return NumberKind::kind;
#include <tendril/core/ops/ops.def>
    default:
      return NumberKind::Number;
  }
}

DType result_dtype(Op op, DType dtype) {
  if (is_floating(dtype)) return dtype;
  if (number_kind(op) == NumberKind::Real) return f32;
  return dtype == bool_ ? i64 : dtype;
}

// A number leaves a floating tensor's dtype alone; a fractional one turns integers into f32.
DType operand_dtype(const Operand& a, const Operand& b) {
  if (a.is_tensor() && b.is_tensor()) return promote(a.tensor.dtype(), b.tensor.dtype());
  const Operand& tensor = a.is_tensor() ? a : b;
  const double number = a.is_tensor() ? b.number : a.number;
  const DType dtype = tensor.tensor.dtype();
  if (is_floating(dtype)) return dtype;
  if (number != std::floor(number) || std::fabs(number) > 0x1p62) return f32;
  return dtype == bool_ ? i64 : dtype;
}

Shape operand_shape(const char* op, const Operand& a, const Operand& b) {
  if (!a.is_tensor()) return b.tensor.shape();
  if (!b.is_tensor()) return a.tensor.shape();
  require_same_device(op, a.tensor, b.tensor);
  return broadcast_shapes(op, a.tensor.shape(), b.tensor.shape());
}

Device device_of(const Operand& a, const Operand& b) {
  return a.is_tensor() ? a.tensor.device() : b.tensor.device();
}

}  // namespace

namespace cpu {
namespace {

using tendril::cpu::BlockFunction;
using tendril::cpu::BlockKernel;
using tendril::cpu::BlockReader;
using tendril::cpu::kBlock;

constexpr int64_t kChunk = 32 * kBlock;  // elements per unit of parallel work

BlockReader reader(const Operand& operand, const Shape& shape) {
  return operand.is_tensor() ? BlockReader(operand.tensor, shape) : BlockReader(operand.number);
}

template <class T>
void run_blocks(BlockFunction<T> function, const Tensor& out, const PointwiseCall& call) {
  const size_t inputs = call.inputs.size();
  BlockReader readers[3];
  for (size_t i = 0; i < inputs; ++i) readers[i] = reader(call.inputs[i], out.shape());
  parallel_for(out.numel(), kChunk, [&](int64_t begin, int64_t end) {
    alignas(64) T buffers[3][kBlock];
    alignas(64) T result[kBlock];
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t n = std::min(kBlock, end - at);
      const T* in[3] = {};
      for (size_t i = 0; i < inputs; ++i) in[i] = readers[i].read(at, n, buffers[i]);
      T* target = tendril::cpu::block_target(out, at, result);
      function(n, in, target, call.parameter);
      tendril::cpu::write_block(out, at, n, target);
    }
  });
}

void pointwise(const Tensor& out, const PointwiseCall& call) {
  const BlockKernel kernel = TENDRIL_ISA_CALL(pointwise_kernel(call.op, call.part));
  if (call.compute == f64) return run_blocks<double>(kernel.f64, out, call);
  if (is_floating(call.compute)) return run_blocks<float>(kernel.f32, out, call);
  run_blocks<int64_t>(kernel.i64, out, call);
}

}  // namespace
}  // namespace cpu

namespace cuda {
void pointwise(const Tensor& out, const PointwiseCall& call);  // pointwise.cu
}

namespace {

void run(const Tensor& out, const PointwiseCall& call) {
  if (out.numel() > 0) TENDRIL_ON_DEVICE(out, pointwise(out, call));
}

// An operand that a gradient does not read may be undefined: g stands in for it.
Operand or_else(const Operand& operand, const Tensor& g) {
  return operand.is_tensor() && !operand.tensor.defined() ? Operand(g) : operand;
}

Tensor binary_backward(Op op, Part part, const Operand& a, const Operand& b, const Tensor& g) {
  const Operand in[] = {or_else(a, g), or_else(b, g), g};
  require_same_device(name(op), g, in[0].tensor, in[1].tensor);
  Tensor out = Tensor::empty(g.shape(), g.dtype(), g.device());
  run(out, {op, part, g.dtype(), in});
  return out;
}

}  // namespace

Tensor unary(Op op, const Tensor& x, double parameter) {
  DType dtype = result_dtype(op, x.dtype());
  if (!is_floating(dtype) && parameter != std::floor(parameter)) dtype = f32;
  Tensor out = Tensor::empty(x.shape(), dtype, x.device());
  const Operand in[] = {x};
  run(out, {op, Part::value, dtype, in, parameter});
  return out;
}

Tensor unary_backward(Op op, const Tensor& saved, const Tensor& g, double parameter) {
  const Operand in[] = {or_else(saved, g), g};
  require_same_device(name(op), g, in[0].tensor);
  Tensor out = Tensor::empty(g.shape(), g.dtype(), g.device());
  run(out, {op, Part::grad, g.dtype(), in, parameter});
  return out;
}

Tensor binary(Op op, const Operand& a, const Operand& b) {
  const Shape shape = operand_shape(name(op), a, b);
  const DType dtype = result_dtype(op, operand_dtype(a, b));
  Tensor out = Tensor::empty(shape, dtype, device_of(a, b));
  const Operand in[] = {a, b};
  run(out, {op, Part::value, dtype, in});
  return out;
}

Tensor binary_backward_a(Op op, const Tensor& a, const Operand& b, const Tensor& g) {
  return binary_backward(op, Part::grad, a, b, g);
}

Tensor binary_backward_b(Op op, const Operand& a, const Tensor& b, const Tensor& g) {
  return binary_backward(op, Part::grad_b, a, b, g);
}

Tensor compare(Op op, const Operand& a, const Operand& b) {
  const Shape shape = operand_shape(name(op), a, b);
  Tensor out = Tensor::empty(shape, bool_, device_of(a, b));
  const auto is_integer = [](const Operand& x) {
    return x.is_tensor() && !is_floating(x.tensor.dtype());
  };
  DType compute = operand_dtype(a, b);
  // f32 would round an integer above 2^24 before it is compared.
  if (is_floating(compute) && (is_integer(a) || is_integer(b))) compute = f64;
  const Operand in[] = {a, b};
  run(out, {op, Part::value, compute, in});
  return out;
}

Tensor logical_not(const Tensor& x) { return compare(Op::eq, x, 0.0); }

// Infinity and NaN are what differs from itself after subtracting itself.
Tensor isfinite(const Tensor& x) {
  const Tensor difference = sub(x, x);
  return compare(Op::eq, difference, difference);
}

Tensor where(const Tensor& condition, const Operand& a, const Operand& b) {
  TENDRIL_CHECK(condition.dtype() == bool_, "[where] the condition must be bool; got ",
                condition.dtype(), "; compare it, e.g. ne(x, 0)");
  Shape shape = condition.shape();
  for (const Operand* operand : {&a, &b})
    if (operand->is_tensor()) {
      require_same_device("where", condition, operand->tensor);
      shape = broadcast_shapes("where", shape, operand->tensor.shape());
    }
  const DType dtype = a.is_tensor() || b.is_tensor() ? operand_dtype(a, b) : f32;
  Tensor out = Tensor::empty(shape, dtype, condition.device());
  const Operand in[] = {condition, a, b};
  run(out, {Op::where, Part::value, dtype, in});
  return out;
}

void accumulate(const Tensor& sum, const Tensor& x) {
  TENDRIL_CHECK(sum.is_contiguous(), "[accumulate] the sum must be contiguous; got strides ",
                sum.strides());
  TENDRIL_CHECK(broadcast_shapes("accumulate", sum.shape(), x.shape()) == sum.shape(),
                "[accumulate] ", x.shape(), " does not broadcast to ", sum.shape());
  require_same_device("accumulate", sum, x);
  const Operand in[] = {sum, x};
  run(sum, {Op::add, Part::value, sum.dtype(), in});
  sum.bump_version();
}

}  // namespace tendril::ops
