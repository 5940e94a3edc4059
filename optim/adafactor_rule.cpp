#include <tendril/autograd/functions.h>
#include <tendril/core/creation.h>
#include <tendril/core/ops/copy.h>
#include <tendril/optim/adafactor_rule.h>
#include <tendril/optim/rule_optimizer.h>

#include <algorithm>
#include <cmath>

namespace tendril::optim {
namespace {

// Of what part(piece) gives for the pieces of a tensor like x.
template <class Part>
Tensor root_mean_square(const Tensor& x, const Part& part) {
  Tensor total;
  for_each_piece(x, [&](const Piece& piece) {
    const Tensor squares = sum(square(part(piece)));
    total = total.defined() ? total + squares : squares;
  });
  return sqrt(total / static_cast<double>(std::max<int64_t>(1, x.numel())));
}

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
  const Tensor size = root_mean_square(value, [&](const Piece& piece) { return piece.of(value); });
  return rate * clamp_min(size, options.eps_scale);
}

void enter_squares(const AdafactorOptions& options, int64_t step, const Tensor& gradient,
                   std::span<const Tensor> states) {
  const double decay = 1.0 - std::pow(static_cast<double>(step), options.decay_rate);
  const auto squares_of = [&](const Tensor& x) { return square(to(x, states[0].dtype())); };
  if (gradient.rank() < 2) {
    average(states[0], squares_of(gradient) + options.eps_square, decay);
    return;
  }
  Tensor columns;  // sums
  for_each_piece(gradient, [&](const Piece& piece) {
    const Tensor squares = squares_of(piece.of(gradient));
    average(piece.of(states[0]), mean(squares, {-1}) + options.eps_square, decay);
    const Tensor sums = sum(squares, {-2});
    columns = columns.defined() ? columns + sums : sums;
  });
  average(states[1], columns / static_cast<double>(gradient.size(-2)) + options.eps_square, decay);
}

std::vector<Tensor> gradient_factors(int64_t rank, std::span<const Tensor> states) {
  const Tensor& first = states[0];
  if (rank < 2) return {rsqrt(first)};
  const Tensor rows = rsqrt(first / mean(first, {-1}, /*keepdim=*/true));
  return {unsqueeze(rows, -1), unsqueeze(rsqrt(states[1]), -2)};
}

Tensor scaled_gradient(const Tensor& part, std::span<const Tensor> factors, const Piece& piece) {
  const Tensor scaled = part * piece.of(factors[0]);
  return factors.size() < 2 ? scaled : scaled * factors[1];
}

AdafactorChange::AdafactorChange(const AdafactorOptions& options, int64_t step,
                                 const Tensor& gradient, std::span<const Tensor> states,
                                 const Tensor& rate)
    : beta1_(options.beta1), gradient_(gradient), rate_(rate) {
  if (beta1_ > 0.0) mean_ = states.back();
  enter_squares(options, step, gradient, states);
  factors_ = gradient_factors(gradient.rank(), states);
  const Tensor size = root_mean_square(gradient, [&](const Piece& p) { return direction(p); });
  excess_ = clamp_min(size / options.clip_threshold, 1.0);
}

Tensor AdafactorChange::direction(const Piece& piece) const {
  return scaled_gradient(to(piece.of(gradient_), rate_.dtype()), factors_, piece);
}

Tensor AdafactorChange::of(const Piece& piece) const {
  const Tensor change = direction(piece) / excess_ * rate_;
  if (!mean_.defined()) return change;
  const Tensor part = piece.of(mean_);
  average(part, change, beta1_);
  return part;
}

Tensor adafactor_change(const AdafactorOptions& options, int64_t step, const Tensor& gradient,
                        std::span<const Tensor> states, const Tensor& rate) {
  return AdafactorChange(options, step, gradient, states, rate).of(kWhole);
}

}  // namespace tendril::optim
