// Cases of the reductions, scans and sorts for the table-driven op test.
#include <limits>

#include <tendril/autograd/functions.h>

#include "op_cases.h"

namespace tendril::testing {
namespace {

using Inputs = std::vector<Tensor>;

// Random numbers in (-0.3, 0.3) moved apart: the results differ from each other by about 0.1 and in
// magnitude by about 0.05, in no order, so that the extreme and the order of values do not change
// while a finite difference moves them or bf16 rounds them (three times: hence their tolerance).
// The number of elements must be no multiple of 11.
Tensor apart(const Tensor& x) {
  const int64_t count = x.numel();
  std::vector<double> places;
  for (int64_t i = 0; i < count; ++i)
    places.push_back(0.1 * static_cast<double>((i * 11 + 3) % count) + 0.025 -
                     0.05 * static_cast<double>(count));
  return 0.05 * x + to(to(Tensor::from(places, x.shape()), x.dtype()), x.device());
}

OpInput near_zero(const Shape& shape) { return {.shape = shape, .low = -0.3, .high = 0.3}; }

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
    bool order;  // picks a value: needs distinct numbers
    double half_tolerance;
  };
  const Row rows[] = {
      {Op::sum, sum, false, 2},
      {Op::mean, mean, false, 1},
      {Op::prod, prod, false, 8},
      {Op::max, max, true, 3},
      {Op::min, min, true, 3},
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
      OpInput input = row.order ? near_zero(c.shape) : OpInput{.shape = c.shape};
      if (row.op == Op::prod)
        input.low = 0.6, input.high = 1.6;  // 24 factors make a moderate product
      add(
          row.op, c.label, std::move(input),
          [run = row.run, order = row.order, c](const Tensor& x) {
            return run(order ? apart(x) : x, c.axes, c.keepdim);
          },
          row.half_tolerance);
    }

  for (double p : {1.0, 3.0, 1.5})
    add(
        Op::norm, "p " + std::to_string(p), {.shape = {4, 5}},
        [p](const Tensor& x) { return norm(x, p, {1}); }, 4);
  add(
      Op::norm, "p infinity", near_zero({4, 5}),
      [](const Tensor& x) { return norm(apart(x), std::numeric_limits<double>::infinity(), {0}); },
      3);
  add(
      Op::sum, "of an expanded sum", {.shape = {3, 4}},
      [](const Tensor& x) { return sum(sum(x, {0}, true) * x, {1}); }, 8);

  add(
      Op::cumsum, "last axis", {.shape = {3, 7}}, [](const Tensor& x) { return cumsum(x, -1); }, 4);
  add(
      Op::cumsum, "first axis", {.shape = {5, 3, 2}}, [](const Tensor& x) { return cumsum(x, 0); },
      4);

  add(
      Op::sort, "last axis", near_zero({3, 8}),
      [](const Tensor& x) { return sort(apart(x)).values; }, 3);
  add(
      Op::sort, "first axis, descending", near_zero({6, 4}),
      [](const Tensor& x) { return sort(apart(x), 0, true).values; }, 3);
  add(
      Op::topk, "largest", near_zero({3, 8}),
      [](const Tensor& x) { return topk(apart(x), 3).values; }, 3);
  add(
      Op::topk, "smallest of the first axis", near_zero({7, 3}),
      [](const Tensor& x) { return topk(apart(x), 2, 0, false).values; }, 3);

  add(Op::argmax, "last axis", near_zero({3, 5}),
      [](const Tensor& x) { return argmax(apart(x), -1); });
  add(Op::argmax, "everything", near_zero({3, 5}),
      [](const Tensor& x) { return argmax(apart(x)); });
  add(Op::argmin, "first axis kept", near_zero({3, 5}),
      [](const Tensor& x) { return argmin(apart(x), 0, true); });
  add(Op::argsort, "last axis", near_zero({3, 5}),
      [](const Tensor& x) { return argsort(apart(x)); });
  return cases;
}

}  // namespace tendril::testing
