#include <tendril/autograd/functions.h>
#include <tendril/core/creation.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/gradient_norm.h>
#include <tendril/core/ops/optimizer_step.h>
#include <tendril/optim/adafactor_rule.h>
#include <tendril/optim/exact.h>
#include <tendril/optim/lomo.h>
#include <tendril/optim/optimizer_names.h>
#include <tendril/optim/pieces.h>
#include <tendril/optim/rule_optimizer.h>

#include <algorithm>

namespace tendril::optim {
namespace {

AdafactorOptions adafactor_options(const AdaLomoOptions& options) {
  return {.lr = options.lr,
          .eps_square = options.eps_square,
          .eps_scale = options.eps_scale,
          .clip_threshold = options.clip_threshold,
          .decay_rate = options.decay_rate,
          .weight_decay = options.weight_decay,
          .scale_parameter = true,
          .relative_step = false};
}

// In f64, on its device, for which nobody waits.
Tensor sum_of_squares(const Tensor& x) { return square(ops::norm_of_all({&x, 1}, 2.0)); }

Tensor root_of_mean(const Tensor& squares, const Tensor& x) {
  return sqrt(squares / static_cast<double>(std::max<int64_t>(1, x.numel())));
}

// One step of a piece. The kernel computes 16-bit parameters in f32 memory, which here lasts for
// this piece only.
void descend(const Tensor& part, const Tensor& direction, const ops::SgdStep& step) {
  const Tensor wide = has_master(part) ? ops::cast(part, f32) : Tensor();
  ops::sgd_step(part, direction, {.buffer = {}, .master = wide}, step);
}

}  // namespace

Lomo::Lomo(const std::vector<NamedTensor>& parameters, const LomoOptions& options) : Lomo() {
  add_param_group(parameters, options);
}

Lomo::Lomo(const std::vector<Tensor>& parameters, const LomoOptions& options)
    : Lomo(numbered(parameters), options) {}

void Lomo::check(const LomoOptions& options) const {
  check_not_negative("Lomo", "weight_decay", options.weight_decay);
}

void Lomo::update(Slot& slot, const Tensor& gradient, double lr) {
  const Tensor parameter = slot.parameter.detach();
  for_each_piece(parameter, [&](const Piece& piece) {
    descend(piece.of(parameter), piece.of(gradient),
            {.lr = lr, .weight_decay = options_of(slot).weight_decay});
  });
}

std::vector<Optimizer::StateSpec> Lomo::state_specs(const Slot&) const { return {}; }

AdaLomo::AdaLomo(const std::vector<NamedTensor>& parameters, const AdaLomoOptions& options)
    : AdaLomo() {
  add_param_group(parameters, options);
}

AdaLomo::AdaLomo(const std::vector<Tensor>& parameters, const AdaLomoOptions& options)
    : AdaLomo(numbered(parameters), options) {}

void AdaLomo::check(const AdaLomoOptions& options) const {
  check_adafactor(adafactor_options(options));
}

// Piece by piece, as an embedding's gradient is large enough alone: once for the update's size, and
// once to apply it. A GPU keeps the sizes, and the host does not wait for them.
void AdaLomo::update(Slot& slot, const Tensor& gradient, double lr) {
  const AdafactorOptions options = adafactor_options(options_of(slot));
  const Tensor parameter = slot.parameter.detach();
  std::vector<Tensor> states;
  for (const StateSpec& spec : state_specs(slot)) states.push_back(state_of(slot, spec));
  enter_squares(options, slot.step, gradient, states);
  const std::vector<Tensor> factors = gradient_factors(gradient.rank(), states);
  const auto direction = [&](const Piece& piece) {
    return scaled_gradient(in_state_dtype(piece.of(gradient), parameter), factors, piece);
  };
  Tensor squares = zeros({}, f64, parameter.device());
  for_each_piece(gradient,
                 [&](const Piece& piece) { squares = squares + sum_of_squares(direction(piece)); });
  const Tensor excess = clamp_min(root_of_mean(squares, gradient) / options.clip_threshold, 1.0);
  const Tensor size = root_of_mean(sum_of_squares(parameter), parameter);
  const Tensor rate = clamp_min(size, options.eps_scale) * lr;
  // p -= rate * (u / excess + weight_decay * p)
  if (parameter.device().is_cpu()) {
    const double of_direction = (rate / excess).item<double>();
    const ops::SgdStep step{.lr = of_direction,
                            .weight_decay = options.weight_decay * excess.item<double>()};
    for_each_piece(gradient, [&](const Piece& piece) {
      descend(piece.of(parameter), direction(piece), step);
    });
    return;
  }
  const DType dtype = ops::state_dtype(parameter.dtype());
  const Tensor of_direction = to(rate / excess, dtype);
  const Tensor of_value = to(rate * options.weight_decay, dtype);
  for_each_piece(gradient, [&](const Piece& piece) {
    const Tensor part = piece.of(parameter);
    Tensor change = direction(piece) * of_direction;
    if (options.weight_decay > 0.0) change = change + in_state_dtype(part, parameter) * of_value;
    descend(part, change, {.lr = 1.0});
  });
}

std::vector<Optimizer::StateSpec> AdaLomo::state_specs(const Slot& slot) const {
  std::vector<StateSpec> specs;
  for (const auto& [name, shape] :
       adafactor_states(adafactor_options(options_of(slot)), slot.parameter.shape()))
    specs.push_back({name, shape});
  return specs;
}

}  // namespace tendril::optim
