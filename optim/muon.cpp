#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/layout.h>
#include <tendril/core/ops/matmul.h>
#include <tendril/core/ops/optimizer_step.h>
#include <tendril/core/ops/pointwise.h>
#include <tendril/core/ops/reduce.h>
#include <tendril/optim/exact.h>
#include <tendril/optim/muon.h>
#include <tendril/optim/rule_optimizer.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>

namespace tendril::optim {
namespace {

// a x + b y
Tensor mix(double a, const Tensor& x, double b, const Tensor& y) {
  return ops::add(ops::mul(x, a), ops::mul(y, b));
}

double scale_of(MuonScale scale, const Shape& matrix) {
  const double rows = static_cast<double>(matrix[0]), columns = static_cast<double>(matrix[1]);
  if (scale == MuonScale::match_rms_adamw) return 0.2 * std::sqrt(std::max(rows, columns));
  return std::sqrt(std::max(1.0, rows / columns));
}

Tensor as_matrix(const Tensor& x) {
  return ops::reshape(x, {x.shape()[0], x.numel() / std::max<int64_t>(1, x.shape()[0])});
}

ops::AdamWUpdate adamw_update(const Tensor& parameter, const ops::AdamWState& state,
                              const AdamWOptions& options, double lr, int64_t step) {
  return {.parameter = parameter,
          .gradient = parameter.grad(),
          .state = state,
          .options = {.lr = lr,
                      .beta1 = options.beta1,
                      .beta2 = options.beta2,
                      .eps = options.eps,
                      .weight_decay = options.weight_decay,
                      .step = step,
                      .maximize = options.maximize}};
}

}  // namespace

Tensor orthogonalize(const Tensor& x, int64_t steps) {
  TENDRIL_CHECK(x.rank() == 2, "[orthogonalize] needs a matrix; got shape ", x.shape());
  const bool tall = x.shape()[0] > x.shape()[1];
  // The shorter side on the left: A is as small as it can be.
  Tensor result = tall ? ops::transpose(x, 0, 1) : x;
  result = ops::div(result, ops::add(ops::norm(result), 1e-7));
  for (int64_t i = 0; i < steps; ++i) {
    const Tensor a = ops::matmul(result, ops::transpose(result, 0, 1));
    const Tensor polynomial = mix(-4.7750, a, 2.0315, ops::matmul(a, a));
    result = ops::add(ops::mul(result, 3.4445), ops::matmul(polynomial, result));
  }
  return tall ? ops::transpose(result, 0, 1) : result;
}

Muon::Muon(const std::vector<NamedTensor>& matrices, const MuonOptions& options) {
  add_param_group(matrices, options);
}

Muon::Muon(const std::vector<Tensor>& matrices, const MuonOptions& options)
    : Muon(numbered(matrices), options) {}

void Muon::add_param_group(const std::vector<NamedTensor>& matrices, const MuonOptions& options) {
  check_betas("Muon", {options.momentum});
  check_not_negative("Muon", "weight_decay", options.weight_decay);
  TENDRIL_CHECK(options.ns_steps >= 1, "[Muon] ns_steps must be positive; got ", options.ns_steps);
  for (const NamedTensor& entry : matrices)
    TENDRIL_CHECK(!entry.tensor.defined() || entry.tensor.rank() >= 2, "[Muon] \"", entry.name,
                  "\" is no matrix; got shape ", entry.tensor.shape(),
                  "; add_adamw_group() takes it");
  register_group(matrices, options.lr);
  options_.emplace_back(options);
}

void Muon::add_adamw_group(const std::vector<NamedTensor>& parameters,
                           const AdamWOptions& options) {
  check_betas("Muon", {options.beta1, options.beta2});
  check_not_negative("Muon", "eps", options.eps);
  check_not_negative("Muon", "weight_decay", options.weight_decay);
  TENDRIL_CHECK(!options.amsgrad, "[Muon] its AdamW has no amsgrad");
  register_group(parameters, options.lr);
  options_.emplace_back(options);
}

void Muon::update_all(std::span<Slot* const> slots) {
  std::vector<Slot*> matrices;
  std::vector<ops::AdamWUpdate> rest;
  for (Slot* slot : slots) {
    const auto* adamw = std::get_if<AdamWOptions>(&options_[slot->group]);
    if (!adamw) {
      matrices.push_back(slot);
      continue;
    }
    const ops::AdamWState state = {.mean = state_of(*slot, "exp_avg"),
                                   .square = state_of(*slot, "exp_avg_sq"),
                                   .max_square = {},
                                   .master = master_of(*slot)};
    rest.push_back(adamw_update(slot->parameter, state, *adamw, lr(slot->group), slot->step));
  }
  ops::adamw_steps(rest);
  Optimizer::update_all(matrices);
}

void Muon::update(Slot& slot, const Tensor& given, double lr) {
  const MuonOptions& options = std::get<MuonOptions>(options_[slot.group]);
  const Tensor gradient = in_state_dtype(given, slot.parameter);
  const Tensor buffer = state_of(slot, "momentum_buffer"), master = master_of(slot);
  const double old = options.momentum;
  ops::copy(buffer, mix(old, buffer, 1.0 - old, gradient));
  const Tensor direction = options.nesterov ? mix(old, buffer, 1.0 - old, gradient) : buffer;
  const Tensor matrix = as_matrix(direction);
  const double size = lr * scale_of(options.scale, matrix.shape());
  const Tensor step = ops::reshape(orthogonalize(matrix, options.ns_steps), slot.parameter.shape());
  const Tensor value = exact_value(slot.parameter, master);
  // Not (1 - lr * decay) p: that factor, rounded to f32, would be off in the same way at every
  // step.
  const Tensor change = mix(lr * options.weight_decay, value, size, step);
  set_exact(slot.parameter, master, ops::sub(value, change));
}

std::vector<Optimizer::StateSpec> Muon::state_specs(const Slot& slot) const {
  if (std::holds_alternative<MuonOptions>(options_[slot.group]))
    return like_parameter(slot, {"momentum_buffer"});
  return like_parameter(slot, {"exp_avg", "exp_avg_sq"});
}

MuonSplit split_for_muon(const std::vector<NamedTensor>& parameters) {
  const auto outside = [](const std::string& name) {
    std::istringstream parts(name);
    for (std::string part; std::getline(parts, part, '.');)
      if (part == "wte" || part == "wpe" || part == "lm_head" ||
          part.find("embed") != std::string::npos)
        return true;
    return false;
  };
  MuonSplit split;
  for (const NamedTensor& entry : parameters)
    (entry.tensor.rank() >= 2 && !outside(entry.name) ? split.matrices : split.rest)
        .push_back(entry);
  return split;
}

}  // namespace tendril::optim
