// Reductions, scans and sorting.

#include <tendril/autograd/autocast.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/ops/reduce.h>
#include <tendril/core/ops/sort.h>

namespace tendril {

Tensor sum(const Tensor& input, const Shape& axes, bool keepdim) {
  const Tensor x = detail::autocast_wide(input);
  const OpTimer timer;
  return record(Op::sum, ops::sum(x, axes, keepdim), {x},
                [shape = x.shape(), axes, keepdim](const Tensor& g, Gradients& in) {
                  in.set(0, ops::sum_backward(g, shape, axes, keepdim));
                });
}

Tensor mean(const Tensor& input, const Shape& axes, bool keepdim) {
  const Tensor x = detail::autocast_wide(input);
  const OpTimer timer;
  return record(Op::mean, ops::mean(x, axes, keepdim), {x},
                [shape = x.shape(), axes, keepdim](const Tensor& g, Gradients& in) {
                  in.set(0, ops::mean_backward(g, shape, axes, keepdim));
                });
}

Tensor prod(const Tensor& input, const Shape& axes, bool keepdim) {
  const Tensor x = detail::autocast_wide(input);
  const OpTimer timer;
  return record(Op::prod, ops::prod(x, axes, keepdim), {x},
                [x = Saved(x), axes, keepdim](const Tensor& g, Gradients& in) {
                  in.set(0, ops::prod_backward(g, x, axes, keepdim));
                });
}

Tensor max(const Tensor& x, const Shape& axes, bool keepdim) {
  const OpTimer timer;
  return record(Op::max, ops::max(x, axes, keepdim), {x},
                [x = Saved(x), axes, keepdim](const Tensor& g, Gradients& in) {
                  in.set(0, ops::max_backward(g, x, axes, keepdim));
                });
}

Tensor min(const Tensor& x, const Shape& axes, bool keepdim) {
  const OpTimer timer;
  return record(Op::min, ops::min(x, axes, keepdim), {x},
                [x = Saved(x), axes, keepdim](const Tensor& g, Gradients& in) {
                  in.set(0, ops::min_backward(g, x, axes, keepdim));
                });
}

Tensor var(const Tensor& input, const Shape& axes, bool keepdim, int64_t correction) {
  const Tensor x = detail::autocast_wide(input);
  const OpTimer timer;
  return record(Op::var, ops::var(x, axes, keepdim, correction), {x},
                [x = Saved(x), axes, keepdim, correction](const Tensor& g, Gradients& in) {
                  in.set(0, ops::var_backward(g, x, axes, keepdim, correction));
                });
}

Tensor std(const Tensor& input, const Shape& axes, bool keepdim, int64_t correction) {
  const Tensor x = detail::autocast_wide(input);
  const OpTimer timer;
  const Tensor y = ops::std(x, axes, keepdim, correction);
  return record(
      Op::std, y, {x},
      [x = Saved(x), y = Saved(y), axes, keepdim, correction](const Tensor& g, Gradients& in) {
        in.set(0, ops::std_backward(g, x, y, axes, keepdim, correction));
      });
}

Tensor norm(const Tensor& input, double p, const Shape& axes, bool keepdim) {
  const Tensor x = detail::autocast_wide(input);
  const OpTimer timer;
  const Tensor y = ops::norm(x, p, axes, keepdim);
  return record(Op::norm, y, {x},
                [x = Saved(x), y = Saved(y), p, axes, keepdim](const Tensor& g, Gradients& in) {
                  in.set(0, ops::norm_backward(g, x, y, p, axes, keepdim));
                });
}

Tensor logsumexp(const Tensor& input, const Shape& axes, bool keepdim) {
  const Tensor x = detail::autocast_wide(input);
  const OpTimer timer;
  return record(Op::logsumexp, ops::logsumexp(x, axes, keepdim), {x},
                [x = Saved(x), axes, keepdim](const Tensor& g, Gradients& in) {
                  in.set(0, ops::logsumexp_backward(g, x, axes, keepdim));
                });
}

Tensor cumsum(const Tensor& input, int64_t axis) {
  const Tensor x = detail::autocast_wide(input);
  const OpTimer timer;
  return record(Op::cumsum, ops::cumsum(x, axis), {x}, [axis](const Tensor& g, Gradients& in) {
    in.set(0, ops::cumsum_backward(g, axis));
  });
}

Tensor any(const Tensor& x, const Shape& axes, bool keepdim) {
  const OpTimer timer;
  return record_nondiff(Op::any, ops::any(x, axes, keepdim), {x});
}

Tensor all(const Tensor& x, const Shape& axes, bool keepdim) {
  const OpTimer timer;
  return record_nondiff(Op::all, ops::all(x, axes, keepdim), {x});
}

Tensor argmax(const Tensor& x, std::optional<int64_t> axis, bool keepdim) {
  const OpTimer timer;
  return record_nondiff(Op::argmax, ops::argmax(x, axis, keepdim), {x});
}

Tensor argmin(const Tensor& x, std::optional<int64_t> axis, bool keepdim) {
  const OpTimer timer;
  return record_nondiff(Op::argmin, ops::argmin(x, axis, keepdim), {x});
}

namespace {
// The values are differentiable, the positions are plain integers.
SortResult record_sorted(Op op, const ops::Sorted& sorted, const Tensor& x, int64_t axis) {
  const Tensor values = record(
      op, sorted.values, {x},
      [indices = Saved(sorted.indices), shape = x.shape(), axis](const Tensor& g, Gradients& in) {
        in.set(0, ops::sort_backward(g, indices, shape, axis));
      });
  return {values, sorted.indices};
}
}  // namespace

SortResult sort(const Tensor& x, int64_t axis, bool descending) {
  const OpTimer timer;
  return record_sorted(Op::sort, ops::sort(x, axis, descending), x, axis);
}

SortResult topk(const Tensor& x, int64_t k, int64_t axis, bool largest) {
  const OpTimer timer;
  return record_sorted(Op::topk, ops::topk(x, k, axis, largest), x, axis);
}

Tensor argsort(const Tensor& x, int64_t axis, bool descending) {
  const OpTimer timer;
  return record_nondiff(Op::argsort, ops::argsort(x, axis, descending), {x});
}

}  // namespace tendril
