#include <tendril/autograd/functions.h>
#include <tendril/core/ops/gradient_norm.h>
#include <tendril/core/ops/inplace.h>
#include <tendril/core/profiler.h>
#include <tendril/optim/grad_scaler.h>
#include <tendril/optim/gradients.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

namespace tendril::optim {
namespace {

void check(const GradScalerOptions& o) {
  TENDRIL_CHECK(std::isfinite(static_cast<float>(o.init_scale)) && o.init_scale > 0.0,
                "[GradScaler] the scale must be positive and finite in f32; got ", o.init_scale);
  TENDRIL_CHECK(o.growth_factor > 1.0 && o.backoff_factor > 0.0 && o.backoff_factor < 1.0,
                "[GradScaler] growth_factor must be above 1 and backoff_factor in (0, 1); got ",
                o.growth_factor, " and ", o.backoff_factor);
  TENDRIL_CHECK(o.growth_interval >= 1, "[GradScaler] growth_interval must be positive; got ",
                o.growth_interval);
}

// One number per device, which is not finite exactly when an element is not. Nobody waits.
std::vector<Tensor> largest_magnitudes(const std::vector<Tensor>& gradients) {
  std::map<std::pair<Device::Kind, int>, std::vector<Tensor>> by_device;
  for (const Tensor& gradient : gradients) {
    const Device device = gradient.device();
    by_device[{device.kind, device.index}].push_back(gradient);
  }
  std::vector<Tensor> largest;
  for (const auto& [device, list] : by_device) largest.push_back(ops::norm_of_all(list, INFINITY));
  return largest;
}

bool all_finite(const std::vector<Tensor>& numbers) {
  return std::all_of(numbers.begin(), numbers.end(),
                     [](const Tensor& x) { return std::isfinite(x.item<double>()); });
}

}  // namespace

GradScaler::GradScaler(const GradScalerOptions& options)
    : options_(options), scale_(static_cast<float>(options.init_scale)) {
  check(options);
}

Tensor GradScaler::scale(const Tensor& loss) const {
  const bool narrow = is_floating(loss.dtype()) && size_of(loss.dtype()) < 4;
  return (narrow ? to(loss, f32) : loss) * static_cast<double>(scale_);
}

GradScaler::Unscaled* GradScaler::find(const Optimizer& optimizer) {
  const auto found = std::find_if(unscaled_.begin(), unscaled_.end(), [&](const Unscaled& entry) {
    return entry.optimizer == &optimizer;
  });
  return found == unscaled_.end() ? nullptr : &*found;
}

void GradScaler::unscale(const Optimizer& optimizer) {
  if (const Unscaled* done = find(optimizer)) {
    TENDRIL_CHECK(!done->stepped,
                  "[GradScaler::unscale] must come before step(); update() begins a new step");
    return;
  }
  const ProfileRange range("unscale");
  const std::vector<Tensor> gradients = gradients_of(optimizer.parameters());
  for (const Tensor& gradient : gradients)
    TENDRIL_CHECK(gradient.dtype() != f16,
                  "[GradScaler::unscale] f16 gradients would lose what the scale has saved; keep "
                  "parameters in f32 and compute in f16 with AutocastGuard(f16)");
  const std::vector<Tensor> largest = largest_magnitudes(gradients);
  // As PyTorch rounds it; with the usual powers of two it is exact.
  const float inverse = static_cast<float>(1.0 / static_cast<double>(scale_));
  for (const Tensor& gradient : gradients) {
    ops::mul_in_place(gradient, inverse);
    gradient.bump_version();
  }
  // Last, so that a GPU has the division to do while the host waits for it.
  unscaled_.push_back({&optimizer, all_finite(largest), false});
}

bool GradScaler::found_inf() const {
  return std::any_of(unscaled_.begin(), unscaled_.end(),
                     [](const Unscaled& entry) { return !entry.finite; });
}

void GradScaler::set_found_inf() {
  TENDRIL_CHECK(!unscaled_.empty(), "[GradScaler::set_found_inf] must come after unscale()");
  for (Unscaled& entry : unscaled_) entry.finite = false;
}

bool GradScaler::step(Optimizer& optimizer) {
  const Unscaled* before = find(optimizer);
  TENDRIL_CHECK(!before || !before->stepped,
                "[GradScaler::step] this optimizer has stepped already; call update() first");
  if (!before) unscale(optimizer);
  Unscaled& entry = *find(optimizer);
  entry.stepped = true;
  if (entry.finite) optimizer.step();
  return entry.finite;
}

void GradScaler::update() {
  TENDRIL_CHECK(!unscaled_.empty(),
                "[GradScaler::update] no gradients have been unscaled since the last update; call "
                "step() or unscale() first");
  if (found_inf()) {
    scale_ = static_cast<float>(scale_ * options_.backoff_factor);
    growth_tracker_ = 0;
  } else if (++growth_tracker_ == options_.growth_interval) {
    const float grown = static_cast<float>(scale_ * options_.growth_factor);
    if (std::isfinite(grown)) scale_ = grown;
    growth_tracker_ = 0;
  }
  unscaled_.clear();
}

Json GradScaler::state() const {
  Json state = Json::object();
  state.set("scale", static_cast<double>(scale_));
  state.set("growth_factor", options_.growth_factor);
  state.set("backoff_factor", options_.backoff_factor);
  state.set("growth_interval", options_.growth_interval);
  state.set("_growth_tracker", growth_tracker_);
  return state;
}

void GradScaler::load_state(const Json& state) {
  const GradScalerOptions options = {.init_scale = state.at("scale").as_double(),
                                     .growth_factor = state.at("growth_factor").as_double(),
                                     .backoff_factor = state.at("backoff_factor").as_double(),
                                     .growth_interval = state.at("growth_interval").as_int()};
  const int64_t tracker = state.at("_growth_tracker").as_int();
  check(options);
  TENDRIL_CHECK(tracker >= 0 && tracker < options.growth_interval,
                "[GradScaler::load_state] _growth_tracker must be in [0, growth_interval); got ",
                tracker);
  options_ = options;
  scale_ = static_cast<float>(options.init_scale);
  growth_tracker_ = tracker;
}

}  // namespace tendril::optim
