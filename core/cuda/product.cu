#include <tendril/core/cuda/product.cuh>

#include <algorithm>
#include <optional>
#include <utility>

#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/layout.h>
#include <tendril/core/strided.h>
#include <tendril/core/cuda/vector.cuh>

namespace tendril::cuda {
namespace {

// An operand's last two axes as a BlasMatrix, if cuBLASLt can read them in place.
std::optional<BlasMatrix> readable(const Tensor& x) {
  const int64_t rank = x.rank(), rows = x.size(-2), columns = x.size(-1);
  const int64_t row_stride = x.strides()[rank - 2], column_stride = x.strides()[rank - 1];
  for (int64_t i = 0; i < rank - 2; ++i)
    if (x.strides()[i] < 0) return {};
  if ((columns == 1 || column_stride == 1) && (rows == 1 || row_stride >= columns))
    return BlasMatrix{x.raw_data(), rows == 1 ? columns : row_stride, false};
  if ((rows == 1 || row_stride == 1) && (columns == 1 || column_stride >= rows))
    return BlasMatrix{x.raw_data(), columns == 1 ? rows : column_stride, true};
  return {};
}

// A copy with dense matrices; batch axes that repeat one matrix (stride 0) still do.
Tensor dense_copy(const Tensor& x, DType dtype) {
  Shape shape = x.shape();
  for (int64_t i = 0; i < x.rank() - 2; ++i)
    if (x.strides()[i] == 0) shape[i] = 1;
  const Tensor once = Tensor::view(x.storage(), x.offset(), shape, x.strides(), x.dtype());
  const Tensor result = Tensor::empty(shape, dtype, x.device());
  ops::copy(result, once);
  return ops::expand(result, x.shape());
}

Tensor prepared(const Tensor& x, DType dtype) {
  return x.dtype() == dtype && readable(x) ? x : dense_copy(x, dtype);
}

// ---------------------------------------------------------------- batches

constexpr int64_t kMostMatrices = 65535;  // in one call: what a grid has room for in its last axis

// The batch axes with neighbours merged wherever all three tensors allow; the longest is left to
// cuBLASLt, the others are walked here.
struct Batch {
  struct Axis {
    int64_t size = 1, a = 0, b = 0, c = 0;
  };
  Axis inner;
  Shape sizes;  // of the others
  Strides a_strides, b_strides, c_strides;

  Batch(const Tensor& a, const Tensor& b, const Tensor& out) {
    Axis axes[Shape::kMaxRank];
    int count = 0;
    for (int64_t i = 0; i < out.rank() - 2; ++i) {
      const Axis next{out.size(i), a.strides()[i], b.strides()[i], out.strides()[i]};
      if (next.size == 1) continue;
      Axis* last = count > 0 ? &axes[count - 1] : nullptr;
      if (last && last->a == next.a * next.size && last->b == next.b * next.size &&
          last->c == next.c * next.size)
        *last = {last->size * next.size, next.a, next.b, next.c};
      else
        axes[count++] = next;
    }
    Axis* longest = std::max_element(axes, axes + count,
                                     [](const Axis& x, const Axis& y) { return x.size < y.size; });
    if (count > 0) inner = *longest;
    for (Axis* axis = axes; axis != axes + count; ++axis) {
      if (axis == longest) continue;
      sizes.push_back(axis->size);
      a_strides.push_back(axis->a);
      b_strides.push_back(axis->b);
      c_strides.push_back(axis->c);
    }
  }
};

const void* advance(const Tensor& x, int64_t elements) {
  return static_cast<const char*>(x.raw_data()) + elements * size_of(x.dtype());
}

// Every matrix of the batch. False when cuBLASLt has no algorithm; that shows at the first one,
// before anything is written.
bool multiply_all(BlasProduct p, const Tensor& a, const Tensor& b, const Tensor& out,
                  const Tensor& aux) {
  const Batch batch(a, b, out);
  p.a = *readable(a);
  p.b = *readable(b);
  p.c.ld = p.m == 1 ? p.n : out.strides()[out.rank() - 2];
  p.a.batch_stride = batch.inner.a;
  p.b.batch_stride = batch.inner.b;
  p.c.batch_stride = batch.inner.c;
  bool first = true;
  const int64_t outer = batch.sizes.numel(),
                pieces = (batch.inner.size + kMostMatrices - 1) / kMostMatrices;
  for (int64_t i = 0; i < outer * pieces; ++i) {
    const int64_t walked = i / pieces, begin = i % pieces * kMostMatrices;
    const int64_t at = offset_of(walked, batch.sizes, batch.c_strides) + begin * batch.inner.c;
    p.batch = std::min(kMostMatrices, batch.inner.size - begin);
    p.a.data = advance(a, offset_of(walked, batch.sizes, batch.a_strides) + begin * batch.inner.a);
    p.b.data = advance(b, offset_of(walked, batch.sizes, batch.b_strides) + begin * batch.inner.b);
    p.c.data = advance(out, at);
    if (aux.defined()) p.aux = const_cast<void*>(advance(aux, at));
    if (!multiply(p)) {
      TENDRIL_CHECK(first, "[", p.op, "] cuBLASLt multiplies only some matrices of a batch; got ",
                    a.shape(), " x ", b.shape());
      return false;
    }
    first = false;
  }
  return true;
}

// ---------------------------------------------------------------- dtypes

// The operands' common dtype: 16-bit ones stay as they are when they are of one kind.
DType operand_dtype(const Tensor& a, const Tensor& b, const Tensor& out) {
  return out.dtype() == f64 ? f64 : promote(a.dtype(), b.dtype());
}

bool fits(DType in, DType out) { return in == out || (out == f32 && in != f64); }

// The bias as the epilogue reads it: dense, in the dtype of the output, aligned.
Tensor epilogue_bias(const Tensor& bias, DType dtype) {
  if (!bias.defined()) return bias;
  const Tensor dense = ops::contiguous(ops::cast(bias, dtype));
  return aligned16(dense.raw_data()) ? dense : ops::clone(dense);
}

// No terms: what remains is the bias, or zero.
void empty_sums(const Tensor& out, const ProductExtras& extras) {
  if (extras.accumulate) return;
  if (extras.bias.defined())
    ops::copy(out, extras.bias);
  else
    ops::fill(out, 0.0);
}

}  // namespace

bool product(const char* op, const Tensor& a, const Tensor& b, const Tensor& out,
             const ProductExtras& extras) {
  const DType in = operand_dtype(a, b, out);
  const bool plain = extras.epilogue == Epilogue::none;
  if (out.numel() == 0) return true;
  if (!plain && (a.size(-1) == 0 || !fits(in, out.dtype()))) return false;
  if (a.size(-1) == 0) {
    empty_sums(out, extras);
    return true;
  }
  if (!fits(in, out.dtype())) {  // wider than the output: rounded in a step of its own
    const Tensor wide = Tensor::empty(out.shape(), accumulate_dtype(in), out.device());
    if (extras.accumulate) ops::copy(wide, out);
    product(op, a, b, wide, {extras.bias, extras.accumulate, extras.alpha});
    ops::copy(out, wide);
    return true;
  }
  const Tensor left = prepared(a, in), right = prepared(b, in);
  const Tensor bias = epilogue_bias(extras.bias, out.dtype());
  BlasProduct p{.op = op,
                .device = out.device(),
                .in = in,
                .out = out.dtype(),
                .m = out.size(-2),
                .n = out.size(-1),
                .k = a.size(-1),
                .alpha = extras.alpha,
                .bias = bias.defined() ? bias.raw_data() : nullptr,
                .accumulate = extras.accumulate,
                .epilogue = extras.epilogue};
  if (multiply_all(p, left, right, out, extras.aux)) return true;
  if (!plain) return false;
  if (p.bias) {  // the sums start from the bias instead
    ops::copy(out, bias);
    p.bias = nullptr;
    p.accumulate = true;
  }
  if (!multiply_all(p, left, right, out, {}))
    TENDRIL_CHECK(multiply_all(p, dense_copy(left, in), dense_copy(right, in), out, {}), "[", op,
                  "] cuBLASLt has no algorithm for ", a.shape(), " x ", b.shape(), " of ", in,
                  " -> ", out.dtype());
  return true;
}

}  // namespace tendril::cuda
