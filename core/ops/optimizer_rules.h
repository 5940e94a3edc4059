// Update rules of optimizers that treat every element alike: what a rule does to one element, and
// nothing else. A new one is a functor here and a row in optimizer_rules.def; its vectorised loop,
// threads, its kernels on a GPU, 16-bit parameters with f32 masters and strided gradients follow.
//
// A rule holds its coefficients in double; T is the dtype of the state, to which they are rounded.
// Parameters whose rules are equal share a launch on a GPU.
// operator()(p, g, s) gives the new parameter from parameter p and gradient g, and changes the
// element's states s[0], s[1] ... in place. kSigned says which states may be negative, in rules
// that can keep them in 8 bits (quantized_rules.def). Formulas that take more than the element are
// in optim/.
#pragma once

#include <cmath>

#include <tendril/core/cpu/vecmath.h>

namespace tendril::ops {

/// Adagrad (Duchi, Hazan, Singer 2011). s: the sum of squares.
struct AdagradRule {
  static constexpr const char* kName = "adagrad_step";
  static constexpr int kStates = 1;
  double sign;       // -1 when maximizing
  double l2;         // weight decay, added to the gradient
  double step_size;  // lr / (1 + (t - 1) lr_decay)
  double eps;
  friend bool operator==(const AdagradRule&, const AdagradRule&) = default;

  template <class T>
  VEC_INLINE T operator()(T p, T g, T* s) const {
    const T gradient = T(sign) * g + T(l2) * p;
    s[0] = s[0] + gradient * gradient;
    return p - T(step_size) * gradient / (std::sqrt(s[0]) + T(eps));
  }
};

/// RMSprop (Tieleman, Hinton 2012), as PyTorch has it. s: the mean square, then with kCentered the
/// mean, then with kMomentum the buffer.
template <bool kCentered, bool kMomentum>
struct RmsPropRule {
  static constexpr const char* kName = "rmsprop_step";
  static constexpr int kStates = 1 + kCentered + kMomentum;
  double sign;
  double l2;
  double alpha, new_weight;  // of the old and of the new square, together 1
  double eps;
  double momentum;
  double step_size;
  friend bool operator==(const RmsPropRule&, const RmsPropRule&) = default;

  template <class T>
  VEC_INLINE T operator()(T p, T g, T* s) const {
    const T gradient = T(sign) * g + T(l2) * p;
    s[0] = T(alpha) * s[0] + T(new_weight) * gradient * gradient;
    T variance = s[0];
    if constexpr (kCentered) {
      s[1] = s[1] + T(new_weight) * (gradient - s[1]);
      variance = variance - s[1] * s[1];
      variance = variance > T(0) ? variance : T(0);  // rounding may bring it below
    }
    const T direction = gradient / (std::sqrt(variance) + T(eps));
    if constexpr (!kMomentum) return p - T(step_size) * direction;
    T& buffer = s[kStates - 1];
    buffer = T(momentum) * buffer + direction;
    return p - T(step_size) * buffer;
  }
};

/// Lion (Chen et al. 2023). s: the mean.
struct LionRule {
  static constexpr const char* kName = "lion_step";
  static constexpr int kStates = 1;
  static constexpr bool kSigned[kStates] = {true};
  double decay;  // lr * weight_decay
  double beta1, new1;
  double beta2, new2;
  double step_size;
  friend bool operator==(const LionRule&, const LionRule&) = default;

  template <class T>
  VEC_INLINE T operator()(T p, T g, T* s) const {
    const T mixed = T(beta1) * s[0] + T(new1) * g;
    s[0] = T(beta2) * s[0] + T(new2) * g;
    const T sign = mixed > T(0) ? T(1) : mixed < T(0) ? T(-1) : T(0);
    return p - T(decay) * p - T(step_size) * sign;
  }
};

/// AdamW as 8-bit optimizers have it (Dettmers et al. 2022): the parameter decays after its step.
/// s: the mean, the mean square.
struct LateDecayAdamWRule {
  static constexpr const char* kName = "adamw_8bit_step";
  static constexpr int kStates = 2;
  static constexpr bool kSigned[kStates] = {true, false};
  double beta1, new1;
  double beta2, new2;
  double step_size;  // lr sqrt(1 - beta2^t) / (1 - beta1^t)
  double eps;        // times sqrt(1 - beta2^t)
  double decay;      // lr * weight_decay
  friend bool operator==(const LateDecayAdamWRule&, const LateDecayAdamWRule&) = default;

  template <class T>
  VEC_INLINE T operator()(T p, T g, T* s) const {
    s[0] = T(beta1) * s[0] + T(new1) * g;
    s[1] = T(beta2) * s[1] + T(new2) * g * g;
    const T stepped = p - T(step_size) * s[0] / (std::sqrt(s[1]) + T(eps));
    return stepped - T(decay) * stepped;
  }
};

/// AdEMAMix (Pagliardini, Ablin, Grangier 2024). s: the fast mean, the slow mean, the mean square.
struct AdEmaMixRule {
  static constexpr const char* kName = "ademamix_step";
  static constexpr int kStates = 3;
  double decay;
  double beta1, new1;
  double beta2, new2;
  double beta3, new3;
  double inverse_correction1;  // 1 / (1 - beta1^t)
  double inverse_root2;        // 1 / sqrt(1 - beta2^t)
  double alpha;
  double eps;
  double step_size;
  friend bool operator==(const AdEmaMixRule&, const AdEmaMixRule&) = default;

  template <class T>
  VEC_INLINE T operator()(T p, T g, T* s) const {
    s[0] = T(beta1) * s[0] + T(new1) * g;
    s[1] = T(beta3) * s[1] + T(new3) * g;
    s[2] = T(beta2) * s[2] + T(new2) * g * g;
    const T mean = s[0] * T(inverse_correction1) + T(alpha) * s[1];
    const T root = std::sqrt(s[2]) * T(inverse_root2) + T(eps);
    return p - T(decay) * p - T(step_size) * (mean / root);
  }
};

/// Schedule-free SGD and AdamW (Defazio et al. 2024). The parameter is y, where gradients are
/// taken; s: z, where plain descent is, and for AdamW the mean square.
template <bool kAdam>
struct ScheduleFreeRule {
  static constexpr const char* kName = "schedule_free_step";
  static constexpr int kStates = kAdam ? 2 : 1;
  double l2;  // weight decay, taken at y
  double beta2, new2;
  double inverse_root2;  // 1 / sqrt(1 - beta2^t)
  double eps;
  double average;  // the weight of the new z in the average x
  double y_step;   // lr * (1 - beta1 * (1 - average))
  double z_step;   // lr
  friend bool operator==(const ScheduleFreeRule&, const ScheduleFreeRule&) = default;

  template <class T>
  VEC_INLINE T operator()(T y, T g, T* s) const {
    T direction = g;
    if constexpr (kAdam) {
      s[1] = T(beta2) * s[1] + T(new2) * g * g;
      direction = g / (std::sqrt(s[1]) * T(inverse_root2) + T(eps));
    }
    direction = direction + T(l2) * y;
    const T next = y + T(average) * (s[0] - y) - T(y_step) * direction;
    s[0] = s[0] - T(z_step) * direction;
    return next;
  }
};

/// StableAdamW's moments (Wortsman et al. 2023). s: the mean, the mean square, and what one element
/// adds to the mean that decides about the rate, g^2 / max(v, eps^2). The parameter stays.
struct StableMomentsRule {
  static constexpr const char* kName = "stable_adamw_step";
  static constexpr int kStates = 3;
  double new1;  // 1 - the decay of the mean
  double beta2, new2;
  double least;  // eps^2
  friend bool operator==(const StableMomentsRule&, const StableMomentsRule&) = default;

  template <class T>
  VEC_INLINE T operator()(T p, T g, T* s) const {
    s[0] = s[0] + T(new1) * (g - s[0]);
    s[1] = T(beta2) * s[1] + T(new2) * g * g;
    s[2] = g * g / (s[1] > T(least) ? s[1] : T(least));
    return p;
  }
};

/// Its step. s: the mean, the mean square, and with kShared the share of the rates that this tensor
/// takes, in every element: a number that is on a GPU, which the host need not wait for.
template <bool kShared>
struct StableStepRule {
  static constexpr const char* kName = "stable_adamw_step";
  static constexpr int kStates = 2 + kShared;
  double decay;  // the share of the parameter that goes
  double eps;
  double step_size;
  friend bool operator==(const StableStepRule&, const StableStepRule&) = default;

  template <class T>
  VEC_INLINE T operator()(T p, T, T* s) const {
    const T root = std::sqrt(s[1]) + T(eps);
    if constexpr (kShared) return p - s[2] * (T(decay) * p + T(step_size) * s[0] / root);
    return p - T(decay) * p - T(step_size) * s[0] / root;
  }
};

}  // namespace tendril::ops
