#include <tendril/autograd/functions.h>
#include <tendril/core/creation.h>
#include <tendril/core/ops/copy.h>
#include <tendril/optim/adafactor_rule.h>
#include <tendril/optim/rule_optimizer.h>

#include <algorithm>
#include <cmath>

namespace tendril::optim {
namespace {

Tensor root_mean_square(const Tensor& x) { return sqrt(mean(square(x))); }

// mean = decay * mean + (1 - decay) * x, in place.
void average(const Tensor& mean, const Tensor& x, double decay) {
  ops::copy(mean, mean * decay + x * (1.0 - decay));
}

Shape without_axis(const Shape& shape, int64_t axis) {
  Shape rest = Shape::filled(shape.rank() - 1, 0);
  for (int64_t i = 0, j = 0; i < shape.rank(); ++i)
    if (i != axis) rest[j++] = shape[i];
  return rest;
}

// The gradient over the root of its second moment.
Tensor scaled_gradient(const Tensor& gradient, std::span<const Tensor> states) {
  const Tensor& first = states[0];
  if (gradient.rank() < 2) return gradient * rsqrt(first);
  const Tensor rows = rsqrt(first / mean(first, {-1}, /*keepdim=*/true));
  return gradient * unsqueeze(rows, -1) * unsqueeze(rsqrt(states[1]), -2);
}

}  // namespace

void check_adafactor(const AdafactorOptions& options) {
  TENDRIL_CHECK(!options.relative_step || options.lr == 0.0,
                "[Adafactor] relative_step makes the learning rate itself; got lr ", options.lr,
                "; leave it out, or set relative_step to false");
  TENDRIL_CHECK(options.relative_step || !options.warmup_init,
                "[Adafactor] warmup_init needs relative_step");
  TENDRIL_CHECK(options.clip_threshold > 0.0 && options.decay_rate < 0.0,
                "[Adafactor] clip_threshold must be above 0 and decay_rate below; got ",
                options.clip_threshold, " and ", options.decay_rate);
  check_betas("Adafactor", {options.beta1});
  check_not_negative("Adafactor", "eps_square", options.eps_square);
  check_not_negative("Adafactor", "eps_scale", options.eps_scale);
  check_not_negative("Adafactor", "weight_decay", options.weight_decay);
}

std::vector<std::pair<std::string, Shape>> adafactor_states(const AdafactorOptions& options,
                                                            const Shape& gradient) {
  std::vector<std::pair<std::string, Shape>> states;
  if (gradient.rank() < 2) {
    states.emplace_back("exp_avg_sq", gradient);
  } else {
    states.emplace_back("exp_avg_sq_row", without_axis(gradient, gradient.rank() - 1));
    states.emplace_back("exp_avg_sq_col", without_axis(gradient, gradient.rank() - 2));
  }
  if (options.beta1 > 0.0) states.emplace_back("exp_avg", gradient);
  return states;
}

Tensor adafactor_rate(const AdafactorOptions& options, double lr, int64_t step,
                      const Tensor& value) {
  const auto t = static_cast<double>(step);
  const double own = std::min(options.warmup_init ? 1e-6 * t : 1e-2, 1.0 / std::sqrt(t));
  const Tensor rate = full({}, options.relative_step ? own : lr, value.dtype(), value.device());
  if (!options.scale_parameter) return rate;
  return rate * clamp_min(root_mean_square(value), options.eps_scale);
}

void enter_squares(const AdafactorOptions& options, int64_t step, const Tensor& gradient,
                   std::span<const Tensor> states) {
  const double decay = 1.0 - std::pow(static_cast<double>(step), options.decay_rate);
  const Tensor squares = square(gradient);
  if (gradient.rank() < 2) {
    average(states[0], squares + options.eps_square, decay);
    return;
  }
  average(states[0], mean(squares, {-1}) + options.eps_square, decay);
  average(states[1], mean(squares, {-2}) + options.eps_square, decay);
}

Tensor adafactor_change(const AdafactorOptions& options, int64_t step, const Tensor& gradient,
                        std::span<const Tensor> states, const Tensor& rate) {
  enter_squares(options, step, gradient, states);
  Tensor change = scaled_gradient(gradient, states);
  change = change / clamp_min(root_mean_square(change) / options.clip_threshold, 1.0) * rate;
  if (options.beta1 <= 0.0) return change;
  average(states.back(), change, options.beta1);
  return states.back();
}

}  // namespace tendril::optim
