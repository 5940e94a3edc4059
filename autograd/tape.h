// The tape. An operation that touches a tensor requiring grad appends a node that knows its inputs'
// nodes and a function from output gradient to input gradients; backward() walks the nodes from the
// newest to the oldest.
//
// Writing a rule (all of them live in autograd/rules/):
//
//   Tensor softmax(const Tensor& x, int64_t axis) {
//     const OpTimer timer;                                          // what the profiler measures
//     const Tensor y = ops::softmax(x, axis);                       // a plain core function
//     return record(Op::softmax, y, {x}, [y = Saved(y), axis](const Tensor& g, Gradients& in) {
//       in.set(0, ops::softmax_backward(g, y, axis));               // gradient of input 0
//     });
//   }
//
// Save inputs and outputs through Saved only: it holds the numbers off the tape (no reference
// cycles) and notices in-place changes. Backward functions run with recording off.
//
// Threads: every thread records and runs graphs of its own. Graphs that share a tensor requiring
// grad belong to one thread at a time; under NoGradGuard any number of threads may read the same
// tensors.
#pragma once

#include <array>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <vector>

#include <tendril/core/op_timer.h>
#include <tendril/core/ops/op_list.h>
#include <tendril/core/tensor.h>

namespace tendril {

// ---------------------------------------------------------------- for users

/// Whether operations record in this thread.
TENDRIL_API bool grad_enabled();

/// Switches recording off (or back on) in the calling thread while in scope.
class TENDRIL_API GradMode {
 public:
  explicit GradMode(bool enabled);
  ~GradMode();
  GradMode(const GradMode&) = delete;
  GradMode& operator=(const GradMode&) = delete;

 private:
  bool previous_;
};
struct TENDRIL_API NoGradGuard : GradMode {
  NoGradGuard() : GradMode(false) {}
};

struct BackwardOptions {
  bool retain_graph = false;  // keep saved tensors for another backward through the same graph
  bool create_graph = false;  // gradients of gradients: not supported, an Error that says so
};

/// Backward from several roots at once; an undefined gradient stands for 1 (scalar roots only).
TENDRIL_API void backward(const std::vector<Tensor>& roots,
                          const std::vector<Tensor>& gradients = {},
                          const BackwardOptions& options = {});

/// d(sum of outputs . gradients)/d(inputs) without touching any .grad(). Inputs may be leaves or
/// intermediate tensors. An input that the outputs do not depend on is an Error, or gets an
/// undefined gradient with allow_unused.
TENDRIL_API std::vector<Tensor> grad(const std::vector<Tensor>& outputs,
                                     const std::vector<Tensor>& inputs,
                                     const std::vector<Tensor>& gradients = {},
                                     const BackwardOptions& options = {},
                                     bool allow_unused = false);

/// Called with a tensor's complete gradient during backward; a defined result replaces it. The
/// graph keeps the hook, also when the tensor itself is gone; it must not hold tensors computed
/// from that one (a cycle).
using TensorHook = std::function<Tensor(const Tensor& grad)>;
/// Called when a leaf's .grad() has received its last contribution of this backward pass (for a
/// tied weight: after the last of its uses). The hook may read, use and clear it
/// (parameter.set_grad({})).
using GradCompleteHook = std::function<void(Tensor& parameter)>;

/// Removes the hook it stands for when remove() is called; letting it go does not.
class TENDRIL_API HookHandle {
 public:
  HookHandle() = default;
  explicit HookHandle(std::function<void()> remove) : remove_(std::move(remove)) {}
  void remove();

 private:
  std::function<void()> remove_;
};
TENDRIL_API HookHandle register_hook(const Tensor& tensor, TensorHook hook);
TENDRIL_API HookHandle register_grad_complete_hook(const Tensor& parameter, GradCompleteHook hook);
/// Calls these hooks of a leaf: for gradients that something else than backward() has completed.
TENDRIL_API void run_grad_complete_hooks(Tensor& parameter);

// ---------------------------------------------------------------- for rules

/// A tensor kept for the backward pass. Reading it after an in-place change is an Error.
class TENDRIL_API Saved {
 public:
  Saved() = default;
  explicit Saved(const Tensor& tensor);
  /// The tensor, off the tape (undefined if an undefined one was saved).
  const Tensor& get() const;
  operator const Tensor&() const { return get(); }

 private:
  Tensor tensor_;
  uint32_t version_ = 0;
};

/// Where a rule puts the gradients of its inputs.
class TENDRIL_API Gradients {
 public:
  Gradients(std::span<const bool> needed, std::span<Tensor> slots, std::span<const Tensor> sums)
      : needed_(needed), slots_(slots), sums_(sums) {}
  /// Whether anybody wants the gradient of input i; computing it otherwise is wasted work.
  bool needs(size_t i) const { return needed_[i]; }
  /// Shape and dtype of `gradient` must be those of input i. Unset inputs count as zero.
  void set(size_t i, Tensor gradient) { slots_[i] = std::move(gradient); }
  /// What other uses of input i have contributed so far, dense: a rule whose gradient is mostly
  /// zero may add to it in place instead of calling set(). Undefined when there is nothing to add
  /// to.
  const Tensor& sum(size_t i) const { return sums_[i]; }

 private:
  std::span<const bool> needed_;
  std::span<Tensor> slots_;
  std::span<const Tensor> sums_;
};

namespace detail {

using NodeFunction = std::function<void(std::span<const Tensor> output_grads, Gradients& in)>;

/// Whether an operation on these inputs must be recorded now.
TENDRIL_API bool should_record(std::span<const Tensor> inputs);
TENDRIL_API void attach_node(Op op, std::span<Tensor> outputs, std::span<const Tensor> inputs,
                             NodeFunction function);

template <class Inputs>
std::span<const Tensor> as_span(const Inputs& inputs) {
  return {std::data(inputs), std::size(inputs)};
}

}  // namespace detail

/// Puts `output` (a fresh raw tensor) on the tape if an input requires grad, and returns it.
/// `backward(const Tensor& g, Gradients& in)` receives the gradient of the output, dense or
/// strided.
template <class Inputs, class Backward>
Tensor record(Op op, const Tensor& output, const Inputs& inputs, Backward backward) {
  if (detail::profiling()) [[unlikely]]
    detail::note_op(op, detail::as_span(inputs), {&output, 1});
  if (!detail::should_record(detail::as_span(inputs))) return output;
  Tensor result =
      output.detach();  // the saved raw output and the recorded one are distinct handles
  detail::attach_node(op, {&result, 1}, detail::as_span(inputs),
                      [backward = std::move(backward)](std::span<const Tensor> g, Gradients& in) {
                        backward(g[0], in);
                      });
  return result;
}
template <class Backward>
Tensor record(Op op, const Tensor& output, std::initializer_list<Tensor> inputs,
              Backward backward) {
  return record<std::initializer_list<Tensor>, Backward>(op, output, inputs, std::move(backward));
}

/// The same for several outputs: `backward(std::span<const Tensor> g, Gradients& in)`; g[i] is
/// undefined when output i got no gradient.
template <class Inputs, class Backward>
void record_outputs(Op op, std::vector<Tensor>& outputs, const Inputs& inputs, Backward backward) {
  if (detail::profiling()) [[unlikely]]
    detail::note_op(op, detail::as_span(inputs), outputs);
  if (!detail::should_record(detail::as_span(inputs))) return;
  for (Tensor& output : outputs) output = output.detach();
  detail::attach_node(op, outputs, detail::as_span(inputs), std::move(backward));
}

/// For an op listed as NONDIFF: a gradient that reaches the result throws with the op's name.
TENDRIL_API Tensor record_nondiff(Op op, const Tensor& output,
                                  std::initializer_list<Tensor> inputs);

/// Error when `x` requires grad and recording is on: in-place operations cannot be undone by the
/// tape.
TENDRIL_API void require_in_place_allowed(const char* op, const Tensor& x);

/// Name of the operation that produced the tensor ("leaf" for a leaf, "" off the tape).
TENDRIL_API const char* producer(const Tensor& x);

}  // namespace tendril
