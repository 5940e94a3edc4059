// Private to autograd: what the opaque slot of a Tensor holds, and the nodes of the tape.
#pragma once

#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include <tendril/autograd/tape.h>

namespace tendril {

namespace detail {

struct Node;

template <class Hook>
struct HookList {
  std::vector<std::pair<uint64_t, Hook>> entries;
  uint64_t next_id = 0;
};

/// Where a gradient flows to: an output of a node. An empty edge leads nowhere.
struct Edge {
  std::shared_ptr<Node> node;
  uint32_t output_index = 0;
};

}  // namespace detail

struct AutogradMeta {
  bool requires_grad = false;
  uint32_t output_index = 0;
  std::shared_ptr<detail::Node> node;     // what produced the tensor; null for a leaf
  std::weak_ptr<detail::Node> leaf_node;  // a leaf's own node, alive while some graph uses it
  Tensor grad;                            // leaves only
  std::shared_ptr<detail::HookList<TensorHook>> hooks;  // of a leaf; else the node has them
  std::shared_ptr<detail::HookList<GradCompleteHook>> complete_hooks;
};

namespace detail {

// Leaves run as soon as their last use has contributed, before any older operation: gradients can
// be consumed and freed early.
inline constexpr uint64_t kLeafSequence = std::numeric_limits<uint64_t>::max();

struct Node {
  struct Output {
    Shape shape;
    DType dtype = f32;
    std::weak_ptr<AutogradMeta> leaf;                       // for the hooks of a leaf
    std::shared_ptr<HookList<TensorHook>> hooks = nullptr;  // of a result; they outlive its handles
  };

  ~Node();
  bool is_leaf() const { return sequence == kLeafSequence; }

  Op op = Op::count;
  int64_t flops = 0;  // of the forward pass, when somebody profiles
  uint64_t sequence = 0;
  bool dead_end = false;  // not differentiable: running it throws
  bool freed = false;     // its saved tensors were released by an earlier backward
  NodeFunction function;  // null for a leaf
  std::vector<Edge> inputs;
  std::vector<Output> outputs;
  WeakTensor leaf;  // the tensor itself, for a leaf that is not a checkpoint's boundary
};

/// The edge along which a tensor's gradient leaves the operation that uses it.
Edge edge_of(const Tensor& tensor);

/// Told about every tensor requiring grad that operations in this thread read while it is active,
/// and may give them other edges. checkpoint() stands on this: see checkpoint.cpp.
class CaptureScope {
 public:
  virtual ~CaptureScope() = default;
  virtual void note(const Tensor& input) = 0;
  virtual const Edge* boundary_edge(const AutogradMeta& meta) const = 0;
};

class ActivateScope {
 public:
  explicit ActivateScope(CaptureScope& scope);
  ~ActivateScope();
  ActivateScope(const ActivateScope&) = delete;
  ActivateScope& operator=(const ActivateScope&) = delete;

 private:
  CaptureScope* previous_;
};

/// Runs the graph backward. `captures` receive gradients at the named edges instead of .grad
/// fields; without captures, leaves accumulate and their hooks run.
void run_backward(const std::vector<Edge>& roots, std::vector<Tensor> root_gradients,
                  bool retain_graph, const std::vector<Edge>& captures,
                  std::vector<Tensor>* captured);

}  // namespace detail
}  // namespace tendril
