// Rules of reading and writing at indices, of random draws, and the operations in place.
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/indexing.h>
#include <tendril/core/ops/inplace.h>
#include <tendril/core/ops/sampling.h>

namespace tendril {

Tensor index_select(const Tensor& x, int64_t axis, const Tensor& indices) {
  const OpTimer timer;
  return record(Op::index_select, ops::index_select(x, axis, indices), {x},
                [shape = x.shape(), axis, rows = Saved(indices)](const Tensor& g, Gradients& in) {
                  in.set(0, ops::index_select_backward(g, shape, axis, rows));
                });
}

Tensor gather(const Tensor& x, int64_t axis, const Tensor& indices) {
  const OpTimer timer;
  return record(Op::gather, ops::gather(x, axis, indices), {x},
                [shape = x.shape(), axis, rows = Saved(indices)](const Tensor& g, Gradients& in) {
                  in.set(0, ops::gather_backward(g, shape, axis, rows));
                });
}

Tensor scatter_add(const Tensor& x, int64_t axis, const Tensor& indices, const Tensor& source) {
  const OpTimer timer;
  return record(Op::scatter_add, ops::scatter_add(x, axis, indices, source), {x, source},
                [axis, rows = Saved(indices)](const Tensor& g, Gradients& in) {
                  if (in.needs(0)) in.set(0, g);
                  if (in.needs(1)) in.set(1, ops::gather(g, axis, rows));
                });
}

Tensor one_hot(const Tensor& indices, int64_t classes, DType dtype) {
  const OpTimer timer;
  return record_nondiff(Op::one_hot, ops::one_hot(indices, classes, dtype), {indices});
}

// ---------------------------------------------------------------- random draws

Tensor multinomial(const Tensor& weights, int64_t count, bool replacement) {
  const RandomKey key = default_generator().next(Stream::sampling);
  const OpTimer timer;
  return record_nondiff(Op::multinomial, ops::multinomial(weights, count, replacement, key),
                        {weights});
}

Tensor bernoulli(const Tensor& probability) {
  const RandomKey key = default_generator().next(Stream::sampling);
  const OpTimer timer;
  return record_nondiff(Op::bernoulli, ops::bernoulli(probability, key), {probability});
}

// ---------------------------------------------------------------- in place

namespace {

// Numbers of a recorded tensor would enter x without their gradient's way back.
void require_source_allowed(const char* op, const Tensor& source) {
  TENDRIL_CHECK(!(grad_enabled() && source.requires_grad()), "[", op,
                "] does not record, but its source requires grad; got shape ", source.shape(),
                "; pass source.detach(), or use the operation that returns a new tensor");
}

}  // namespace

void copy_(const Tensor& destination, const Tensor& source) {
  require_in_place_allowed("copy_", destination);
  require_source_allowed("copy_", source);
  const OpTimer timer(ProfileKind::forward, "copy_");
  timer.touches(source, destination);
  ops::copy(destination, source);
  destination.bump_version();
}

void fill_(const Tensor& x, double value) {
  require_in_place_allowed("fill_", x);
  const OpTimer timer(ProfileKind::forward, "fill_");
  timer.touches(x);
  ops::fill(x, value);
  x.bump_version();
}

void zero_(const Tensor& x) { fill_(x, 0.0); }

void add_(const Tensor& x, const Tensor& y, double alpha) {
  require_in_place_allowed("add_", x);
  require_source_allowed("add_", y);
  const OpTimer timer(ProfileKind::forward, "add_");
  timer.touches(x, y, x);
  ops::add_in_place(x, y, alpha);
  x.bump_version();
}

void mul_(const Tensor& x, double factor) {
  require_in_place_allowed("mul_", x);
  const OpTimer timer(ProfileKind::forward, "mul_");
  timer.touches(x, x);
  ops::mul_in_place(x, factor);
  x.bump_version();
}

}  // namespace tendril
