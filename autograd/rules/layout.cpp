// Rules of the layout operations: views, rearrangements and conversions.
#include <algorithm>
#include <array>

#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/layout.h>
#include <tendril/core/ops/rearrange.h>
#include <tendril/core/ops/reduce.h>

namespace tendril {

// ---------------------------------------------------------------- conversion

Tensor to(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  const OpTimer timer;
  const Tensor y = ops::cast(x, dtype);
  if (!is_floating(dtype)) return record_nondiff(Op::to, y, {x});
  return record(Op::to, y, {x}, [from = x.dtype()](const Tensor& g, Gradients& in) {
    in.set(0, ops::cast(g, from));
  });
}

Tensor to(const Tensor& x, Device device) {
  if (x.device() == device) return x;
  const auto move = [](const Tensor& source, Device target) {
    const Tensor result = Tensor::empty(source.shape(), source.dtype(), target);
    ops::copy(result, source);
    return result;
  };
  const OpTimer timer;
  return record(
      Op::to, move(x, device), {x},
      [move, from = x.device()](const Tensor& g, Gradients& in) { in.set(0, move(g, from)); });
}

Tensor contiguous(const Tensor& x) {
  if (x.is_contiguous()) return x;
  const OpTimer timer;
  return record(Op::contiguous, ops::clone(x), {x},
                [](const Tensor& g, Gradients& in) { in.set(0, g); });
}

Tensor clone(const Tensor& x) {
  const OpTimer timer;
  return record(Op::clone, ops::clone(x), {x},
                [](const Tensor& g, Gradients& in) { in.set(0, g); });
}

// ---------------------------------------------------------------- views

namespace {

// Any change of shape that keeps the elements and their order.
Tensor record_reshape(const Tensor& x, const Tensor& y) {
  return record(Op::reshape, y, {x}, [shape = x.shape()](const Tensor& g, Gradients& in) {
    in.set(0, ops::reshape(g, shape));
  });
}

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  const OpTimer timer;
  return record_reshape(x, ops::reshape(x, shape));
}

Tensor view(const Tensor& x, const Shape& shape) {
  const OpTimer timer;
  return record_reshape(x, ops::view(x, shape));
}

Tensor flatten(const Tensor& x, int64_t first_axis, int64_t last_axis) {
  if (x.rank() == 0) return reshape(x, {1});
  const int64_t first = normalize_axis("flatten", first_axis, x.rank());
  const int64_t last = normalize_axis("flatten", last_axis, x.rank());
  TENDRIL_CHECK(first <= last, "[flatten] first_axis must not come after last_axis; got ",
                first_axis, " and ", last_axis, " for shape ", x.shape());
  Shape shape;
  for (int64_t i = 0; i < x.rank(); ++i) {
    if (i > first && i <= last)
      shape[first] *= x.shape()[i];
    else
      shape.push_back(x.shape()[i]);
  }
  return reshape(x, shape);
}

Tensor squeeze(const Tensor& x, std::optional<int64_t> axis) {
  const OpTimer timer;
  return record_reshape(x, ops::squeeze(x, axis));
}

Tensor unsqueeze(const Tensor& x, int64_t axis) {
  const OpTimer timer;
  return record_reshape(x, ops::unsqueeze(x, axis));
}

Tensor permute(const Tensor& x, const Shape& axes) {
  const OpTimer timer;
  return record(Op::permute, ops::permute(x, axes), {x}, [axes](const Tensor& g, Gradients& in) {
    in.set(0, ops::permute(g, ops::inverse_permutation(axes, g.rank())));
  });
}

Tensor transpose(const Tensor& x, int64_t axis0, int64_t axis1) {
  const OpTimer timer;
  return record(Op::permute, ops::transpose(x, axis0, axis1), {x},
                [axis0, axis1](const Tensor& g, Gradients& in) {
                  in.set(0, ops::transpose(g, axis0, axis1));
                });
}

Tensor expand(const Tensor& x, const Shape& shape) {
  const OpTimer timer;
  return record(
      Op::expand, ops::expand(x, shape), {x},
      [from = x.shape()](const Tensor& g, Gradients& in) { in.set(0, ops::sum_to(g, from)); });
}

Tensor slice(const Tensor& x, int64_t axis, int64_t start, std::optional<int64_t> stop,
             int64_t step) {
  const OpTimer timer;
  const Tensor y = ops::slice(x, axis, start, stop, step);
  return record(Op::slice, y, {x},
                [shape = x.shape(), axis, start, stop, step](const Tensor& g, Gradients& in) {
                  in.set(0, ops::slice_backward(g, shape, axis, start, stop, step));
                });
}

Tensor select(const Tensor& x, int64_t axis, int64_t index) {
  const OpTimer timer;
  const Tensor y = ops::select(x, axis, index);
  return record(Op::slice, y, {x},
                [shape = x.shape(), axis, index](const Tensor& g, Gradients& in) {
                  in.set(0, ops::select_backward(g, shape, axis, index));
                });
}

Tensor diagonal(const Tensor& x, int64_t offset, int64_t axis0, int64_t axis1) {
  const OpTimer timer;
  const Tensor y = ops::diagonal(x, offset, axis0, axis1);
  return record(Op::diagonal, y, {x},
                [shape = x.shape(), offset, axis0, axis1](const Tensor& g, Gradients& in) {
                  in.set(0, ops::diagonal_backward(g, shape, offset, axis0, axis1));
                });
}

std::vector<Tensor> split(const Tensor& x, const std::vector<int64_t>& sizes, int64_t axis) {
  const OpTimer timer;
  std::vector<Tensor> pieces = ops::split(x, sizes, axis);
  record_outputs(Op::split, pieces, std::array{x},
                 [shape = x.shape(), sizes, axis](std::span<const Tensor> g, Gradients& in) {
                   in.set(0, ops::split_backward(g, sizes, shape, axis));
                 });
  return pieces;
}

std::vector<Tensor> split(const Tensor& x, int64_t size, int64_t axis) {
  const int64_t total = x.shape()[normalize_axis("split", axis, x.rank())];
  return split(x, ops::split_sizes(total, size), axis);
}

std::vector<Tensor> chunk(const Tensor& x, int64_t count, int64_t axis) {
  TENDRIL_CHECK(count >= 1, "[chunk] needs at least one piece; got ", count);
  const int64_t total = x.shape()[normalize_axis("chunk", axis, x.rank())];
  return split(x, std::max<int64_t>(1, total / count + (total % count != 0)), axis);
}

// ---------------------------------------------------------------- rearrangements

Tensor cat(const std::vector<Tensor>& parts, int64_t axis) {
  const OpTimer timer;
  const Tensor y = ops::cat(parts, axis);
  struct Part {
    int64_t size;
    DType dtype;
  };
  std::vector<Part> sizes;
  for (const Tensor& part : parts) sizes.push_back({part.size(axis), part.dtype()});
  return record(Op::cat, y, parts, [sizes, axis](const Tensor& g, Gradients& in) {
    int64_t begin = 0;
    for (size_t i = 0; i < sizes.size(); ++i) {
      if (in.needs(i))
        in.set(i, ops::cast(ops::narrow(g, axis, begin, sizes[i].size), sizes[i].dtype));
      begin += sizes[i].size;
    }
  });
}

Tensor stack(const std::vector<Tensor>& parts, int64_t axis) {
  TENDRIL_CHECK(!parts.empty(), "[stack] needs at least one tensor");
  axis = normalize_axis("stack", axis, parts[0].rank() + 1);
  std::vector<Tensor> rows;
  for (const Tensor& part : parts) {
    TENDRIL_CHECK(part.shape() == parts[0].shape(), "[stack] shapes must be equal; got ",
                  parts[0].shape(), " and ", part.shape());
    rows.push_back(unsqueeze(part, axis));
  }
  return cat(rows, axis);
}

Tensor flip(const Tensor& x, const Shape& axes) {
  const OpTimer timer;
  return record(Op::flip, ops::flip(x, axes), {x},
                [axes](const Tensor& g, Gradients& in) { in.set(0, ops::flip(g, axes)); });
}

Tensor roll(const Tensor& x, int64_t shift, int64_t axis) {
  const OpTimer timer;
  return record(Op::roll, ops::roll(x, shift, axis), {x},
                [shift, axis](const Tensor& g, Gradients& in) {
                  const int64_t size = g.size(axis);  // -shift alone could overflow
                  in.set(0, ops::roll(g, size == 0 ? 0 : -(shift % size), axis));
                });
}

Tensor repeat(const Tensor& x, const Shape& repeats) {
  const OpTimer timer;
  return record(Op::repeat, ops::repeat(x, repeats), {x},
                [shape = x.shape(), repeats](const Tensor& g, Gradients& in) {
                  in.set(0, ops::repeat_backward(g, shape, repeats));
                });
}

Tensor pad(const Tensor& x, const std::vector<int64_t>& padding, double value) {
  const OpTimer timer;
  return record(Op::pad, ops::pad(x, padding, value), {x},
                [shape = x.shape(), padding](const Tensor& g, Gradients& in) {
                  in.set(0, ops::pad_backward(g, shape, padding));
                });
}

Tensor tril(const Tensor& x, int64_t diagonal) {
  const OpTimer timer;
  return record(Op::tril, ops::tril(x, diagonal), {x},
                [diagonal](const Tensor& g, Gradients& in) { in.set(0, ops::tril(g, diagonal)); });
}

Tensor triu(const Tensor& x, int64_t diagonal) {
  const OpTimer timer;
  return record(Op::triu, ops::triu(x, diagonal), {x},
                [diagonal](const Tensor& g, Gradients& in) { in.set(0, ops::triu(g, diagonal)); });
}

}  // namespace tendril
