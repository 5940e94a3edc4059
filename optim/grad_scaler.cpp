#include <tendril/autograd/functions.h>
#include <tendril/core/creation.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/inplace.h>
#include <tendril/core/ops/loss_scaling.h>
#include <tendril/core/profiler.h>
#include <tendril/optim/grad_scaler.h>
#include <tendril/optim/gradients.h>

#include <algorithm>
#include <cmath>

namespace tendril::optim {
namespace {

void check(const GradScalerOptions& o) {
  TENDRIL_CHECK(
      std::isfinite(static_cast<float>(o.init_scale)) && static_cast<float>(o.init_scale) > 0.0f,
      "[GradScaler] the scale must be positive and finite in f32; got ", o.init_scale);
  TENDRIL_CHECK(o.growth_factor > 1.0 && o.backoff_factor > 0.0 && o.backoff_factor < 1.0,
                "[GradScaler] growth_factor must be above 1 and backoff_factor in (0, 1); got ",
                o.growth_factor, " and ", o.backoff_factor);
  TENDRIL_CHECK(o.growth_interval >= 1, "[GradScaler] growth_interval must be positive; got ",
                o.growth_interval);
}

// The numbers that are on this device, which are taken out of the list.
std::vector<Tensor> take_those_on(Device device, std::vector<Tensor>& list) {
  const auto there = std::stable_partition(
      list.begin(), list.end(), [&](const Tensor& tensor) { return tensor.device() != device; });
  const std::vector<Tensor> taken(there, list.end());
  list.erase(there, list.end());
  return taken;
}

// Adds a flag that may be on another device.
void add_flag(const Tensor& flag, const Tensor& other) {
  ops::add_in_place(flag, to(other, flag.device()), 1.0);
}

}  // namespace

GradScaler::GradScaler(const GradScalerOptions& options)
    : options_(options),
      scale_(full({}, static_cast<float>(options.init_scale))),
      growth_tracker_(zeros({}, i64)) {
  check(options);
}

double GradScaler::scale() const { return scale_.item<float>(); }

// From the CPU without a copy, which a recorded graph would repeat.
void GradScaler::move_to(Device device) const {
  if (scale_.device() == device) return;
  scale_ = full({}, scale_.item<float>(), f32, device);
  growth_tracker_ = full({}, static_cast<double>(growth_tracker_.item<int64_t>()), i64, device);
}

Tensor GradScaler::scale(const Tensor& loss) const {
  if (scale_.device().is_cpu()) move_to(loss.device());
  const bool narrow = is_floating(loss.dtype()) && size_of(loss.dtype()) < 4;
  const Tensor wide = narrow ? to(loss, f32) : loss;
  return wide * to(to(scale_, wide.device()), wide.dtype());
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
  if (!gradients.empty() && scale_.device().is_cpu()) move_to(gradients.front().device());
  const Tensor found_inf = zeros({}, i64, scale_.device());
  std::vector<Tensor> rest = gradients;
  ops::unscale_all(take_those_on(scale_.device(), rest), scale_, found_inf);
  while (!rest.empty()) {  // mostly there is one device
    const Device elsewhere = rest.front().device();
    const Tensor found_there = zeros({}, i64, elsewhere);
    ops::unscale_all(take_those_on(elsewhere, rest), to(scale_, elsewhere), found_there);
    add_flag(found_inf, found_there);
  }
  for (const Tensor& gradient : gradients) gradient.bump_version();
  unscaled_.push_back({&optimizer, LateFlag(found_inf), false});
}

bool GradScaler::found_inf() const {
  return std::any_of(unscaled_.begin(), unscaled_.end(),
                     [](const Unscaled& entry) { return entry.found_inf.value(); });
}

void GradScaler::set_found_inf() {
  TENDRIL_CHECK(!unscaled_.empty(), "[GradScaler::set_found_inf] must come after unscale()");
  for (Unscaled& entry : unscaled_)
    entry.found_inf = LateFlag(full({}, 1.0, i64, entry.found_inf.tensor().device()), true);
}

StepResult GradScaler::step(Optimizer& optimizer) {
  const Unscaled* before = find(optimizer);
  TENDRIL_CHECK(!before || !before->stepped,
                "[GradScaler::step] this optimizer has stepped already; call update() first");
  if (!before) unscale(optimizer);
  Unscaled& entry = *find(optimizer);
  entry.stepped = true;
  optimizer.step_unless(entry.found_inf);
  return StepResult(entry.found_inf);
}

void GradScaler::update() {
  TENDRIL_CHECK(!unscaled_.empty(),
                "[GradScaler::update] no gradients have been unscaled since the last update; call "
                "step() or unscale() first");
  const Tensor found_inf = zeros({}, i64, scale_.device());
  for (const Unscaled& entry : unscaled_) add_flag(found_inf, entry.found_inf.tensor());
  ops::update_loss_scale(scale_, growth_tracker_, found_inf,
                         {.growth_factor = options_.growth_factor,
                          .backoff_factor = options_.backoff_factor,
                          .growth_interval = options_.growth_interval});
  scale_.bump_version();
  unscaled_.clear();
}

Json GradScaler::state() const {
  Json state = Json::object();
  state.set("scale", scale());
  state.set("growth_factor", options_.growth_factor);
  state.set("backoff_factor", options_.backoff_factor);
  state.set("growth_interval", options_.growth_interval);
  state.set("_growth_tracker", growth_tracker_.item<int64_t>());
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
  ops::fill(scale_, static_cast<float>(options.init_scale));
  ops::fill(growth_tracker_, static_cast<double>(tracker));
  scale_.bump_version();
}

}  // namespace tendril::optim
