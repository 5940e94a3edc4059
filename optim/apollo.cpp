#include <tendril/core/creation.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/pointwise.h>
#include <tendril/core/ops/reduce.h>
#include <tendril/optim/apollo.h>
#include <tendril/optim/exact.h>
#include <tendril/optim/low_rank.h>
#include <tendril/optim/parameter_key.h>
#include <tendril/optim/raw_root_adamw.h>
#include <tendril/optim/rule_optimizer.h>

#include <cmath>

namespace tendril::optim {
namespace {

constexpr double kTiny = 1e-8;  // against a division by zero

// What the shared part of the projection takes of the options.
ProjectionOptions directions(const ApolloProjection& options) {
  return {.rank = options.rank,
          .update_proj_gap = options.update_proj_gap,
          .scale = options.scale,
          .type = options.type,
          .randomized = options.randomized,
          .seed = options.seed};
}

void check_projection(const ApolloProjection& options) {
  TENDRIL_CHECK(options.scale >= 0.0, "[ApolloAdamW] scale must not be negative; got ",
                options.scale);
  TENDRIL_CHECK(options.type != ProjectionType::full,
                "[ApolloAdamW] proj_type full leaves no channel to scale; choose from std, "
                "reverse_std, left, right");
  TENDRIL_CHECK(options.max_growth >= 1.0, "[ApolloAdamW] max_growth must be at least 1; got ",
                options.max_growth);
}

// Normal numbers of variance 1 / rank, so that lengths stay what they are on average.
Basis random_basis(const ProjectionOptions& options, const Tensor& gradient, const RandomKey& key) {
  const Sides sides = sides_of(options.type, gradient.shape());
  const int64_t rank = projection_rank(options, gradient.shape());
  const auto draw = [&](const Shape& shape) {
    return ops::mul(randn(shape, gradient.dtype(), key, gradient.device()),
                    1.0 / std::sqrt(static_cast<double>(rank)));
  };
  Basis basis;
  if (sides.left) basis.left = draw({gradient.shape()[0], rank});
  if (sides.right) basis.right = draw({rank, gradient.shape()[1]});
  return basis;
}

}  // namespace

ApolloBasis apollo_basis_from(const std::string& name) {
  if (name == "random") return ApolloBasis::random;
  if (name == "svd") return ApolloBasis::svd;
  fail("[apollo_basis] unknown proj \"", name, "\"; choose from random, svd");
}

ApolloScaling apollo_scaling_from(const std::string& name) {
  if (name == "channel") return ApolloScaling::channel;
  if (name == "tensor") return ApolloScaling::tensor;
  fail("[apollo_scaling] unknown scale_type \"", name, "\"; choose from channel, tensor");
}

ApolloAdamW::ApolloAdamW(const std::vector<NamedTensor>& parameters,
                         const ApolloAdamWOptions& options) {
  add_param_group(parameters, options);
}

ApolloAdamW::ApolloAdamW(const std::vector<Tensor>& parameters, const ApolloAdamWOptions& options)
    : ApolloAdamW(numbered(parameters), options) {}

void ApolloAdamW::add_param_group(const std::vector<NamedTensor>& parameters,
                                  const ApolloAdamWOptions& options) {
  check_betas("ApolloAdamW", {options.beta1, options.beta2});
  check_not_negative("ApolloAdamW", "eps", options.eps);
  check_not_negative("ApolloAdamW", "weight_decay", options.weight_decay);
  check_late_decay("ApolloAdamW", options.lr, options.weight_decay);
  std::optional<ProjectionOptions> projection;
  if (options.projection) {
    check_projection(*options.projection);
    projection = directions(*options.projection);
  }
  register_with("ApolloAdamW", parameters, options.lr, projection);
  options_.push_back(options);
}

// Parameters that are not projected take one fused pass each.
void ApolloAdamW::update_all(std::span<Slot* const> slots) {
  std::vector<Slot*> projected, whole;
  for (Slot* slot : slots) (projection_of(*slot) ? projected : whole).push_back(slot);
  update_whole(whole, [&](const Slot& slot) {
    const ApolloAdamWOptions& options = options_[slot.group];
    return WholeAdamW{options.beta1, options.beta2, options.eps, options.weight_decay};
  });
  Optimizer::update_all(projected);
}

// m / (sqrt(v) + eps) after this step. The kernel moves a parameter, one that starts at zero by its
// step, which has lr / (1 - beta1^t) and the root's correction in it: this rate takes them out.
Tensor ApolloAdamW::normalized(Slot& slot, const Tensor& small) {
  const ApolloAdamWOptions& options = options_[slot.group];
  const Tensor mean = state_of(slot, {"exp_avg", small.shape()});
  const Tensor square = state_of(slot, {"exp_avg_sq", small.shape()});
  const Tensor moved = zeros(small.shape(), small.dtype(), small.device());
  const double t = static_cast<double>(slot.step);
  const double rate =
      (1.0 - std::pow(options.beta1, t)) / root_correction(options.beta2, slot.step);
  ops::adamw_step(moved, small, {.mean = mean, .square = square, .max_square = {}, .master = {}},
                  raw_root_step(rate, options.beta1, options.beta2, options.eps, slot.step));
  return moved;  // only its norms matter, so its sign does not
}

// What a gradient of this norm after scaling is multiplied by so as not to grow too fast: one
// number, like the norm in f64 and on its device, which nobody waits for.
Tensor ApolloAdamW::growth_limit(Slot& slot, const Tensor& norm) {
  const Tensor before = state_of(slot, scaled_norm());
  const Tensor most = ops::mul(ops::add(before, kTiny), apollo_of(slot).max_growth);
  const Tensor scaled_down =
      ops::where(ops::compare(Op::gt, norm, most), ops::div(most, norm), 1.0);
  const Tensor limit = ops::where(ops::compare(Op::gt, before, 0.0), scaled_down, 1.0);
  ops::copy(before, ops::where(ops::isfinite(norm), ops::mul(norm, limit), before));
  return limit;
}

Tensor ApolloAdamW::factors(Slot& slot, const Tensor& gradient) {
  const ApolloProjection& options = apollo_of(slot);
  const ProjectionOptions& projection = *projection_of(slot);
  const int64_t drawn = (slot.step - 1) / options.update_proj_gap * options.update_proj_gap;
  const Basis basis =
      options.basis == ApolloBasis::svd
          ? basis_for(slot, gradient)
          : random_basis(projection, gradient,
                         parameter_key(options.seed, slot.name, drawn, Stream::noise));
  const Tensor small = project(basis, gradient);
  const Shape axes = options.scaling == ApolloScaling::tensor ? Shape{0, 1}
                     : basis.left.defined()                   ? Shape{0}
                                                              : Shape{1};
  const auto norms = [&](const Tensor& x) { return ops::norm(x, 2.0, axes, /*keepdim=*/true); };
  const Tensor lengths = norms(normalized(slot, small));
  const Tensor scales = ops::div(lengths, ops::add(norms(small), kTiny));
  const double root = std::sqrt(options.scale);
  const Tensor scaled_norms = ops::mul(scales, norms(gradient));  // of U's channels
  const Tensor norm =
      ops::mul(ops::cast(ops::norm(scaled_norms), f64), options.scale_front ? root : 1.0);
  const Tensor limit = ops::mul(growth_limit(slot, norm), root);
  return ops::mul(scales, ops::cast(limit, scales.dtype()));
}

// The kernel decays first: (1 - d) (p - s) = p - ((1 - d) s + d p) with d = lr * weight_decay.
void ApolloAdamW::update(Slot& slot, const Tensor& given, double lr) {
  const ApolloAdamWOptions& options = options_[slot.group];
  const Tensor gradient = in_state_dtype(given, slot.parameter);
  const double rate = lr * root_correction(options.beta2, slot.step) /
                      (1.0 - std::pow(options.beta1, static_cast<double>(slot.step)));
  const double decay = lr * options.weight_decay;
  const Tensor step = ops::mul(gradient, ops::mul(factors(slot, gradient), rate * (1.0 - decay)));
  ops::sgd_step(slot.parameter, step, {.buffer = {}, .master = master_of(slot)},
                {.lr = 1.0, .weight_decay = decay});
}

std::vector<Optimizer::StateSpec> ApolloAdamW::state_specs(const Slot& slot) const {
  const ProjectionOptions* const projection = projection_of(slot);
  if (!projection) return like_parameter(slot, {"exp_avg", "exp_avg_sq"});
  const Shape small = projected_shape(*projection, slot.parameter.shape());
  std::vector<StateSpec> specs = {{"exp_avg", small}, {"exp_avg_sq", small}, scaled_norm()};
  if (apollo_of(slot).basis == ApolloBasis::svd)
    for (const StateSpec& spec : basis_specs(slot)) specs.push_back(spec);
  return specs;
}

std::vector<std::string> ApolloAdamW::number_names(const Slot& slot) const {
  if (projection_of(slot) && apollo_of(slot).basis == ApolloBasis::svd) return basis_numbers();
  return {};
}

}  // namespace tendril::optim
