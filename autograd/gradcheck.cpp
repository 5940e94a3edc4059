#include <tendril/autograd/gradcheck.h>

#include <algorithm>
#include <cmath>

#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/creation.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/strided.h>

namespace tendril {
namespace {

using Function = std::function<Tensor(const std::vector<Tensor>&)>;

double weighted_sum(const Tensor& output, const std::vector<double>& weights) {
  const std::vector<double> values = output.to_vector<double>();
  double total = 0.0;
  for (size_t i = 0; i < values.size(); ++i) total += values[i] * weights[i];
  return total;
}

// (f(x - 2h) - 8 f(x - h) + 8 f(x + h) - f(x + 2h)) / 12h; `element` is a view of one number of one
// input, on whatever device that is.
double central_difference(const Function& fn, const std::vector<Tensor>& inputs,
                          const Tensor& element, const std::vector<double>& weights, double step) {
  const NoGradGuard no_grad;
  const double x = element.item<double>(), h = step * std::max(1.0, std::fabs(x));
  const auto at = [&](double shift) {
    ops::fill(element, x + shift);
    return weighted_sum(fn(inputs), weights);
  };
  const double slope = (at(-2 * h) - 8 * at(-h) + 8 * at(h) - at(2 * h)) / (12 * h);
  ops::fill(element, x);
  return slope;
}

}  // namespace

GradcheckResult gradcheck(const Function& fn, const std::vector<Tensor>& inputs,
                          const GradcheckOptions& options) {
  std::vector<Tensor> checked;
  for (const Tensor& input : inputs)
    if (input.defined() && input.requires_grad()) {
      TENDRIL_CHECK(input.dtype() == f64, "[gradcheck] inputs that require grad must be f64; got ",
                    input.dtype());
      checked.push_back(input);
    }
  const Tensor output = fn(inputs);
  TENDRIL_CHECK(output.dtype() == f64, "[gradcheck] the output must be f64; got ", output.dtype());
  TENDRIL_CHECK(output.requires_grad(),
                "[gradcheck] the output does not depend on an input that requires grad");
  const Tensor weights = rand(output.shape(), f64, RandomKey{options.seed, 0, Stream::noise});
  const std::vector<double> weight_values = weights.to_vector<double>();
  const std::vector<Tensor> gradients =
      grad({output}, checked, {to(weights, output.device())}, {}, /*allow_unused=*/true);

  GradcheckResult result{true, 0.0, "no element to check"};
  for (size_t i = 0; i < checked.size(); ++i) {
    const Tensor& input = checked[i];
    std::vector<double> tape(static_cast<size_t>(input.numel()), 0.0);
    if (gradients[i].defined()) tape = gradients[i].to_vector<double>();
    double largest = 0.0;
    for (double value : tape) largest = std::max(largest, std::fabs(value));
    size_t position = 0;
    for_each_offset(input.shape(), input.strides(), [&](int64_t offset) {
      const double exact = tape[position];
      const Tensor element = Tensor::view(input.storage(), input.offset() + offset, {}, {}, f64);
      const double numeric = central_difference(fn, inputs, element, weight_values, options.step);
      const double scale = std::max({std::fabs(exact), std::fabs(numeric), 1e-2 * largest, 1e-3});
      const double error = std::fabs(exact - numeric) / scale;
      if (!(error <= result.worst_error) || position == 0) {
        if (!(error <= result.worst_error)) result.worst_error = error;
        result.message = detail::concat("input ", i, " element ", position, ": tape ", exact,
                                        ", numeric ", numeric, ", relative error ", error);
      }
      if (!(error <= options.tolerance)) result.ok = false;
      ++position;
    });
  }
  return result;
}

}  // namespace tendril
