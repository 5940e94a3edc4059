// Stacks that one OS thread switches between: what fibers.cpp runs the threads of a block on.
#pragma once

#include <cstddef>

namespace emulated {

/// A stack and where its code goes on. Switching saves the registers that calls preserve and
/// nothing else (no signal masks, no rounding modes), and tells AddressSanitizer.
class Context {
 public:
  /// The OS thread's own stack.
  Context() = default;
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  /// Gives it a stack of its own, on which the next switch to it calls `entry`, which never
  /// returns. What the stack held before is forgotten; nothing on it is destroyed. Stacks of
  /// different `number` begin in different parts of the processor's caches.
  void prepare(void (*entry)(), size_t number);

  /// Leaves `from`, the running one, for `to`; returns when something switches back to `from`.
  static void switch_to(Context& from, Context& to);

  /// To be called first by every `entry`.
  static void entered();

 private:
  void* stack_pointer_ = nullptr;
  unsigned char* stack_ = nullptr;  // below it lies a page that must not be touched
  const void* bottom_ = nullptr;    // as AddressSanitizer knows it
  size_t size_ = 0;
  void* fake_stack_ = nullptr;  // AddressSanitizer's
};

}  // namespace emulated
