// Where the profiler hooks in. An OpTimer stands at the top of every rule; record() tells it what
// ran. Users see <tendril/core/profiler.h>.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string_view>

#include <tendril/core/ops/op_list.h>
#include <tendril/core/tensor.h>

namespace tendril {

enum class ProfileKind : uint8_t { forward, backward, range };

namespace detail {

// Bits of profile_state. 0 is off: relaxed loads of it are all that an operation pays then.
inline constexpr int kProfileOn = 1, kProfileShapes = 2, kProfileTrace = 4;
inline constexpr int kProfileUnread = 8;  // nobody has looked at TENDRIL_PROFILE yet
TENDRIL_API extern std::atomic<int> profile_state;

inline bool profiling() { return profile_state.load(std::memory_order_relaxed) != 0; }

// One measured stretch of this thread's time; stretches nest. They live on a stack of the thread,
// so that an object in scope is one flag.
TENDRIL_API bool begin_frame(ProfileKind kind, std::string_view label);
TENDRIL_API void end_frame();

// What the innermost frame of this thread did. No effect without one.
TENDRIL_API void note_op(Op op, std::span<const Tensor> inputs, std::span<const Tensor> outputs);
TENDRIL_API void note_gradients(std::span<const Tensor> output_grads,
                                std::span<const Tensor> input_grads);
TENDRIL_API void note_bytes(const Tensor& tensor);
TENDRIL_API void note_flops(int64_t count);
TENDRIL_API int64_t noted_flops();

// Counts this thread's OpTimers, so that two moments can be told to lie in one operation.
TENDRIL_API extern constinit thread_local uint64_t operations_begun;

}  // namespace detail

/// Measures its own scope for the profiler, and costs one relaxed load when nobody profiles. A rule
/// opens with `const OpTimer timer;`, and record() names the operation; a scope that records
/// nothing counts as part of what is around it.
class OpTimer {
 public:
  OpTimer() : OpTimer(ProfileKind::forward, {}) {}
  /// With a name of its own, for work that is not recorded.
  OpTimer(ProfileKind kind, std::string_view label)
      : on_(detail::profiling() && detail::begin_frame(kind, label)) {
    ++detail::operations_begun;
  }
  ~OpTimer() {
    if (on_) [[unlikely]]
      detail::end_frame();
  }
  OpTimer(const OpTimer&) = delete;
  OpTimer& operator=(const OpTimer&) = delete;

  /// Floating-point operations of dense algebra; `count()` is called only when somebody profiles.
  /// The backward pass derives its own number from it (see ops/flops.h). Before record().
  template <class Count>
  void flops(Count count) const {
    if (on_) [[unlikely]]
      detail::note_flops(count());
  }
  /// Memory that is read or written, where no record() says it.
  template <class... Tensors>
  void touches(const Tensors&... tensors) const {
    if (on_) [[unlikely]]
      (detail::note_bytes(tensors), ...);
  }
  /// The same for a backward function.
  void gradients(std::span<const Tensor> of_outputs, std::span<const Tensor> of_inputs) const {
    if (on_) [[unlikely]]
      detail::note_gradients(of_outputs, of_inputs);
  }

 private:
  const bool on_;
};

}  // namespace tendril
