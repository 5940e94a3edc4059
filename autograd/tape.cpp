#include <tendril/autograd/tape.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include <tendril/autograd/node.h>
#include <tendril/core/creation.h>

namespace tendril {
namespace {

thread_local bool recording = true;
thread_local detail::CaptureScope* capture_scope = nullptr;

// Nodes are numbered in the order of recording; backward visits larger numbers first.
std::atomic<uint64_t> next_sequence{1};

AutogradMeta& ensure_meta(Tensor& tensor) {
  if (!tensor.autograd_slot()) tensor.set_autograd_slot(std::make_shared<AutogradMeta>());
  return *tensor.autograd_slot();
}

}  // namespace

// ---------------------------------------------------------------- grad mode

bool grad_enabled() { return recording; }
GradMode::GradMode(bool enabled) : previous_(std::exchange(recording, enabled)) {}
GradMode::~GradMode() { recording = previous_; }

// ---------------------------------------------------------------- saved tensors

Saved::Saved(const Tensor& tensor) {
  if (!tensor.defined()) return;
  tensor_ = tensor.detach();
  version_ = tensor.storage()->version();
}

const Tensor& Saved::get() const {
  if (detail::profiling()) [[unlikely]]
    detail::note_bytes(tensor_);
  if (tensor_.defined())
    TENDRIL_CHECK(tensor_.storage()->version() == version_, "[backward] a tensor of shape ",
                  tensor_.shape(),
                  " that the backward pass needs was changed in place after it was used (version ",
                  tensor_.storage()->version(), ", saved at ", version_,
                  "); change a clone() of it, or run backward() before the change");
  return tensor_;
}

// ---------------------------------------------------------------- nodes

namespace detail {

Node::~Node() {
  // Releasing a long chain recursively would overflow the stack: take over the inputs' last owners
  // and release them one by one.
  std::vector<std::shared_ptr<Node>> pending;
  const auto collect = [&](std::vector<Edge>& edges) {
    for (Edge& edge : edges)
      if (edge.node && edge.node.use_count() == 1) pending.push_back(std::move(edge.node));
    edges.clear();
  };
  function =
      nullptr;  // it may hold tensors (those of a checkpoint) and through them the nodes before
  collect(inputs);
  while (!pending.empty()) {
    const std::shared_ptr<Node> node = std::move(pending.back());
    pending.pop_back();
    if (node.use_count() != 1) continue;
    node->function = nullptr;
    collect(node->inputs);
  }
}

Edge edge_of(const Tensor& tensor) {
  if (!tensor.defined() || !tensor.autograd_slot()) return {};
  AutogradMeta& meta = *tensor.autograd_slot();
  if (capture_scope)
    if (const Edge* boundary = capture_scope->boundary_edge(meta)) return *boundary;
  if (meta.node) return {meta.node, meta.output_index};
  if (!meta.requires_grad) return {};
  // The leaf's own node: created at its first use, shared by all later ones, so that the engine can
  // tell when the last use has contributed.
  std::shared_ptr<Node> leaf = meta.leaf_node.lock();
  // set_data() may have given the tensor another dtype or shape since an older graph used it.
  const auto fits = [&](const Node::Output& output) {
    return output.shape == tensor.shape() && output.dtype == tensor.dtype();
  };
  if (!leaf || !fits(leaf->outputs[0])) {
    leaf = std::make_shared<Node>();
    leaf->sequence = kLeafSequence;
    leaf->leaf = tensor;
    leaf->outputs.push_back({tensor.shape(), tensor.dtype(), tensor.autograd_slot()});
    meta.leaf_node = leaf;
  }
  return {leaf, 0};
}

bool should_record(std::span<const Tensor> inputs) {
  if (!recording && !capture_scope) return false;
  bool any = false;
  for (const Tensor& input : inputs) {
    if (!input.defined() || !input.requires_grad()) continue;
    any = true;
    if (capture_scope) capture_scope->note(input);
  }
  return any && recording;
}

void attach_node(Op op, std::span<Tensor> outputs, std::span<const Tensor> inputs,
                 NodeFunction function) {
  auto node = std::make_shared<Node>();
  node->op = op;
  if (profiling()) [[unlikely]]
    node->flops = noted_flops();
  node->sequence = next_sequence.fetch_add(1, std::memory_order_relaxed);
  node->function = std::move(function);
  node->inputs.reserve(inputs.size());
  for (const Tensor& input : inputs) node->inputs.push_back(edge_of(input));
  for (uint32_t i = 0; i < outputs.size(); ++i) {
    auto meta = std::make_shared<AutogradMeta>();
    meta->requires_grad = true;
    meta->node = node;
    meta->output_index = i;
    node->outputs.push_back({outputs[i].shape(), outputs[i].dtype(), {}});
    outputs[i].set_autograd_slot(std::move(meta));
  }
}

ActivateScope::ActivateScope(CaptureScope& scope)
    : previous_(std::exchange(capture_scope, &scope)) {}
ActivateScope::~ActivateScope() { capture_scope = previous_; }

}  // namespace detail

Tensor record_nondiff(Op op, const Tensor& output, std::initializer_list<Tensor> inputs) {
  if (detail::profiling()) [[unlikely]]
    detail::note_op(op, detail::as_span(inputs), {&output, 1});
  if (!detail::should_record(detail::as_span(inputs))) return output;
  Tensor result = output.detach();
  const auto refuse = [op](std::span<const Tensor>, Gradients&) {
    const char* why = info(op).why_not_differentiable;  // null: only with this result dtype (to)
    fail("[", name(op), "] is not differentiable (", why ? why : "its result is not floating-point",
         "), but a gradient reached it; use detach() on its input or its result");
  };
  // No edges to the inputs: an index or a mask that somebody keeps must not keep the graph behind
  // it.
  detail::attach_node(op, {&result, 1}, {}, refuse);
  result.autograd_slot()->node->dead_end = true;
  return result;
}

void require_in_place_allowed(const char* op, const Tensor& x) {
  TENDRIL_CHECK(!(recording && x.requires_grad()), "[", op,
                "] changes a tensor that requires grad in place; got shape ", x.shape(),
                "; put it under a NoGradGuard, or use the operation that returns a new tensor");
}

const char* producer(const Tensor& x) {
  if (!x.requires_grad()) return "";
  const AutogradMeta& meta = *x.autograd_slot();
  return meta.node ? name(meta.node->op) : "leaf";
}

// ---------------------------------------------------------------- hooks

void HookHandle::remove() {
  if (remove_) remove_();
  remove_ = nullptr;
}

namespace {

template <class Hook>
HookHandle add_hook(std::shared_ptr<detail::HookList<Hook>>& list, Hook hook) {
  if (!list) list = std::make_shared<detail::HookList<Hook>>();
  const uint64_t id = ++list->next_id;
  list->entries.emplace_back(id, std::move(hook));
  return HookHandle([weak = std::weak_ptr(list), id] {
    if (const auto hooks = weak.lock())
      std::erase_if(hooks->entries, [id](const auto& entry) { return entry.first == id; });
  });
}

}  // namespace

HookHandle register_hook(const Tensor& tensor, TensorHook hook) {
  TENDRIL_CHECK(tensor.defined() && tensor.requires_grad(),
                "[register_hook] needs a tensor that requires grad");
  AutogradMeta& meta = *tensor.autograd_slot();
  return add_hook(meta.node ? meta.node->outputs[meta.output_index].hooks : meta.hooks,
                  std::move(hook));
}

HookHandle register_grad_complete_hook(const Tensor& parameter, GradCompleteHook hook) {
  TENDRIL_CHECK(parameter.defined() && parameter.requires_grad() && parameter.is_leaf(),
                "[register_grad_complete_hook] needs a leaf that requires grad");
  return add_hook(parameter.autograd_slot()->complete_hooks, std::move(hook));
}

void run_grad_complete_hooks(Tensor& parameter) {
  const auto& meta = parameter.autograd_slot();
  if (!meta || !meta->complete_hooks) return;
  const auto hooks = meta->complete_hooks->entries;  // a hook may remove itself
  for (const auto& [id, hook] : hooks) hook(parameter);
}

// ---------------------------------------------------------------- Tensor's members

bool Tensor::requires_grad() const { return autograd_slot() && autograd_slot()->requires_grad; }

bool Tensor::is_leaf() const { return !autograd_slot() || !autograd_slot()->node; }

Tensor& Tensor::requires_grad_(bool value) {
  TENDRIL_CHECK(is_leaf(), "[requires_grad_] only leaves can be changed; this tensor comes from ",
                producer(*this), "; use detach() to get a leaf");
  TENDRIL_CHECK(!value || is_floating(dtype()),
                "[requires_grad_] needs a floating-point tensor; got ", dtype(),
                "; cast it with to(x, f32)");
  if (value || autograd_slot()) ensure_meta(*this).requires_grad = value;
  return *this;
}

Tensor Tensor::grad() const { return autograd_slot() ? autograd_slot()->grad : Tensor(); }

void Tensor::set_grad(const Tensor& grad) {
  if (grad.defined())
    TENDRIL_CHECK(grad.shape() == shape() && grad.dtype() == dtype() && grad.device() == device(),
                  "[set_grad] the gradient must match its tensor; got ", grad.shape(), " ",
                  grad.dtype(), " for ", shape(), " ", dtype());
  if (grad.defined() || autograd_slot()) ensure_meta(*this).grad = grad;
}

void Tensor::backward(const Tensor& gradient, bool retain_graph) const {
  tendril::backward({*this}, {gradient}, {.retain_graph = retain_graph});
}

}  // namespace tendril
