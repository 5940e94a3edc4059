#include <tendril/autograd/functions.h>
#include <tendril/core/creation.h>
#include <tendril/core/ops/copy.h>
#include <tendril/optim/adafactor.h>
#include <tendril/optim/exact.h>
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

double step_rate(const AdafactorOptions& options, double lr, double t) {
  if (!options.relative_step) return lr;
  return std::min(options.warmup_init ? 1e-6 * t : 1e-2, 1.0 / std::sqrt(t));
}

}  // namespace

Adafactor::Adafactor(const std::vector<NamedTensor>& parameters, const AdafactorOptions& options) {
  add_param_group(parameters, options);
}

Adafactor::Adafactor(const std::vector<Tensor>& parameters, const AdafactorOptions& options)
    : Adafactor(numbered(parameters), options) {}

void Adafactor::check(const AdafactorOptions& options) const {
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

// The gradient over the root of its second moment, which this step enters.
Tensor Adafactor::scaled_gradient(Slot& slot, const Tensor& gradient) {
  const AdafactorOptions& options = options_of(slot);
  const double decay = 1.0 - std::pow(static_cast<double>(slot.step), options.decay_rate);
  const Tensor squares = square(gradient) + options.eps_square;
  const std::vector<StateSpec> specs = state_specs(slot);
  const Tensor first = state_of(slot, specs[0]);
  if (slot.parameter.rank() < 2) {
    average(first, squares, decay);
    return gradient * rsqrt(first);
  }
  const Tensor columns = state_of(slot, specs[1]);
  average(first, mean(squares, {-1}), decay);
  average(columns, mean(squares, {-2}), decay);
  const Tensor rows = rsqrt(first / mean(first, {-1}, /*keepdim=*/true));
  return gradient * unsqueeze(rows, -1) * unsqueeze(rsqrt(columns), -2);
}

void Adafactor::update(Slot& slot, const Tensor& given, double lr) {
  const AdafactorOptions& options = options_of(slot);
  const Tensor gradient = in_state_dtype(given, slot.parameter);
  const Tensor master = master_of(slot);
  const Tensor value = exact_value(slot.parameter, master);
  Tensor rate = full({}, step_rate(options, lr, static_cast<double>(slot.step)), gradient.dtype(),
                     gradient.device());
  if (options.scale_parameter) rate = rate * clamp_min(root_mean_square(value), options.eps_scale);

  Tensor change = scaled_gradient(slot, gradient);
  change = change / clamp_min(root_mean_square(change) / options.clip_threshold, 1.0) * rate;
  if (options.beta1 > 0.0) {
    const Tensor mean = state_of(slot, "exp_avg");
    average(mean, change, options.beta1);
    change = mean;
  }
  const Tensor decayed =
      options.weight_decay > 0.0 ? value - value * (rate * options.weight_decay) : value;
  set_exact(slot.parameter, master, decayed - change);
}

std::vector<Optimizer::StateSpec> Adafactor::state_specs(const Slot& slot) const {
  const Shape& shape = slot.parameter.shape();
  std::vector<StateSpec> specs;
  if (shape.rank() < 2) {
    specs = like_parameter(slot, {"exp_avg_sq"});
  } else {
    specs.push_back({"exp_avg_sq_row", without_axis(shape, shape.rank() - 1)});
    specs.push_back({"exp_avg_sq_col", without_axis(shape, shape.rank() - 2)});
  }
  if (options_of(slot).beta1 > 0.0) specs.push_back({"exp_avg", shape});
  return specs;
}

}  // namespace tendril::optim
