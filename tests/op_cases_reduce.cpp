// Cases of the reductions, scans and sorts for the table-driven op test.
#include <limits>

#include <tendril/autograd/functions.h>

#include "op_cases.h"

namespace tendril::testing {
namespace {

using Inputs = std::vector<Tensor>;

// Numbers that differ from each other by 0.1 and whose magnitudes differ by 0.04, in no order: the
// extreme and the order of values do not change while a finite difference moves them. No multiple
// of 11.
OpInput distinct(const Shape& shape) {
  const int64_t count = shape.numel();
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(0.1 * static_cast<double>((i * 11 + 3) % count) + 0.03 -
                     0.05 * static_cast<double>(count));
  return {.shape = shape, .value = Tensor::from(values, shape)};
}

struct Axes {
  std::string label;
  Shape shape, axes;
  bool keepdim;
};

const std::vector<Axes>& choices() {
  static const std::vector<Axes> all = {
      {"everything", {2, 3, 4}, {}, false},     {"last axis", {3, 5}, {-1}, false},
      {"first axis", {4, 19}, {0}, false},      {"middle axis kept", {2, 4, 3}, {1}, true},
      {"outer axes", {2, 3, 4}, {0, 2}, false},
  };
  return all;
}

using Reduction = Tensor (*)(const Tensor&, const Shape&, bool);

}  // namespace

std::vector<OpCase> reduce_cases() {
  std::vector<OpCase> cases;
  const auto add = [&](Op op, const std::string& label, OpInput input,
                       std::function<Tensor(const Tensor&)> run, double half_tolerance = 1.0) {
    cases.push_back({op,
                     std::string(name(op)) + " " + label,
                     {std::move(input)},
                     [run = std::move(run)](const Inputs& in) { return run(in[0]); },
                     half_tolerance});
  };
  struct Row {
    Op op;
    Reduction run;
    bool order;  // picks a value: needs distinct inputs
    double half_tolerance;
  };
  const Row rows[] = {
      {Op::sum, sum, false, 2},
      {Op::mean, mean, false, 1},
      {Op::prod, prod, false, 8},
      {Op::max, max, true, 1},
      {Op::min, min, true, 1},
      {Op::logsumexp, logsumexp, false, 2},
      {Op::any, any, false, 1},
      {Op::all, all, false, 1},
      {Op::var,
       [](const Tensor& x, const Shape& axes, bool keepdim) { return var(x, axes, keepdim); },
       false, 4},
      {Op::std,
       [](const Tensor& x, const Shape& axes, bool keepdim) { return std(x, axes, keepdim, 0); },
       false, 4},
      {Op::norm,
       [](const Tensor& x, const Shape& axes, bool keepdim) { return norm(x, 2, axes, keepdim); },
       false, 2},
  };
  for (const Row& row : rows)
    for (const Axes& c : choices()) {
      OpInput input = row.order ? distinct(c.shape) : OpInput{.shape = c.shape};
      if (row.op == Op::prod)
        input.low = 0.6, input.high = 1.6;  // 24 factors make a moderate product
      add(
          row.op, c.label, std::move(input),
          [run = row.run, c](const Tensor& x) { return run(x, c.axes, c.keepdim); },
          row.half_tolerance);
    }

  for (double p : {1.0, 3.0, 1.5})
    add(
        Op::norm, "p " + std::to_string(p), {.shape = {4, 5}},
        [p](const Tensor& x) { return norm(x, p, {1}); }, 4);
  add(Op::norm, "p infinity", distinct({4, 5}),
      [](const Tensor& x) { return norm(x, std::numeric_limits<double>::infinity(), {0}); });
  add(
      Op::sum, "of an expanded sum", {.shape = {3, 4}},
      [](const Tensor& x) { return sum(sum(x, {0}, true) * x, {1}); }, 8);

  add(
      Op::cumsum, "last axis", {.shape = {3, 7}}, [](const Tensor& x) { return cumsum(x, -1); }, 4);
  add(
      Op::cumsum, "first axis", {.shape = {5, 3, 2}}, [](const Tensor& x) { return cumsum(x, 0); },
      4);

  add(Op::sort, "last axis", distinct({3, 8}), [](const Tensor& x) { return sort(x).values; });
  add(Op::sort, "first axis, descending", distinct({6, 4}),
      [](const Tensor& x) { return sort(x, 0, true).values; });
  add(Op::topk, "largest", distinct({3, 8}), [](const Tensor& x) { return topk(x, 3).values; });
  add(Op::topk, "smallest of the first axis", distinct({7, 3}),
      [](const Tensor& x) { return topk(x, 2, 0, false).values; });

  add(Op::argmax, "last axis", distinct({3, 5}), [](const Tensor& x) { return argmax(x, -1); });
  add(Op::argmax, "everything", distinct({3, 5}), [](const Tensor& x) { return argmax(x); });
  add(Op::argmin, "first axis kept", distinct({3, 5}),
      [](const Tensor& x) { return argmin(x, 0, true); });
  add(Op::argsort, "last axis", distinct({3, 5}), [](const Tensor& x) { return argsort(x); });
  return cases;
}

}  // namespace tendril::testing
