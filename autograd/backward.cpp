// The engine: from root gradients to the gradients of leaves or captured tensors.

#include <algorithm>
#include <unordered_map>
#include <utility>

#include <tendril/autograd/after_backward.h>
#include <tendril/autograd/node.h>
#include <tendril/core/creation.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/flops.h>
#include <tendril/core/ops/pointwise.h>
#include <tendril/core/profiler.h>

namespace tendril {
namespace detail {
namespace {

// What one backward pass knows about a node.
struct Task {
  std::shared_ptr<Node> node;
  std::vector<Tensor> gradients;  // one per output, summed over its uses so far
  int64_t pending = 0;            // uses that have not contributed yet
  bool wanted = false;            // leads to a leaf or a captured tensor that is asked for
};

// In-place only when nobody else can see the memory: a rule may hand the same gradient to two
// inputs.
void add_gradient(Tensor& sum, Tensor gradient) {
  if (!sum.defined()) {
    sum = std::move(gradient);
    return;
  }
  const OpTimer timer(ProfileKind::backward, "accumulate");
  timer.touches(sum, gradient, sum);
  if (sum.is_unique() && sum.is_contiguous()) {
    ops::accumulate(sum, gradient);
  } else {
    sum = ops::add(sum, gradient);
  }
}

class BackwardPass {
 public:
  BackwardPass(const std::vector<Edge>& captures, bool retain_graph)
      : captures_(captures), capturing_(!captures.empty()), retain_graph_(retain_graph) {}

  void run(const std::vector<Edge>& roots, std::vector<Tensor>& gradients) {
    discover(roots);
    mark_wanted();
    for (const Edge& root : roots) ++task(root).pending;
    for (size_t i = 0; i < roots.size(); ++i) contribute(roots[i], std::move(gradients[i]));
    for (Task* current : newest_first_) execute(*current);
  }

  void collect(std::vector<Tensor>& captured) {
    captured.clear();
    for (const Edge& edge : captures_) {
      const auto found = tasks_.find(edge.node.get());
      captured.push_back(found == tasks_.end() ? Tensor()
                                               : found->second.gradients[edge.output_index]);
    }
  }

 private:
  Task& task(const Edge& edge) { return tasks_.at(edge.node.get()); }

  // All nodes that the roots reach, and how many uses each has within this pass.
  void discover(const std::vector<Edge>& roots) {
    std::vector<Node*> stack;
    const auto visit = [&](const Edge& edge) {
      if (!edge.node) return;
      const auto [entry, is_new] = tasks_.try_emplace(edge.node.get());
      if (!is_new) return;
      entry->second.node = edge.node;
      entry->second.gradients.resize(edge.node->outputs.size());
      stack.push_back(edge.node.get());
    };
    for (const Edge& root : roots) visit(root);
    while (!stack.empty()) {
      Node* node = stack.back();
      stack.pop_back();
      for (const Edge& input : node->inputs) visit(input);
    }
    for (auto& [node, task] : tasks_)
      if (!node->is_leaf()) newest_first_.push_back(&task);
    std::sort(newest_first_.begin(), newest_first_.end(),
              [](const Task* a, const Task* b) { return a->node->sequence > b->node->sequence; });
  }

  // An operation's inputs are always older than itself, so one sweep from the oldest decides.
  void mark_wanted() {
    for (auto& [node, task] : tasks_)
      if (node->is_leaf()) task.wanted = !capturing_ || is_captured(*node);
    for (auto current = newest_first_.rbegin(); current != newest_first_.rend(); ++current) {
      Task& consumer = **current;
      consumer.wanted = consumer.node->dead_end;
      for (const Edge& input : consumer.node->inputs)
        if (input.node && (task(input).wanted || is_captured(*input.node))) consumer.wanted = true;
      if (!consumer.wanted) continue;
      for (const Edge& input : consumer.node->inputs)
        if (input.node) ++task(input).pending;
    }
    for (Task* current :
         newest_first_)  // a freed node has lost its inputs: what lies behind it is unknown
      if (!is_captured(*current->node)) require_not_freed(*current->node);
  }

  static void require_not_freed(const Node& node) {
    TENDRIL_CHECK(!node.freed, "[backward] the graph behind ", name(node.op),
                  " was already used and its saved tensors were freed; pass retain_graph = true to "
                  "the earlier "
                  "backward, or compute the forward pass again");
  }

  bool is_captured(const Node& node) const {
    return std::any_of(captures_.begin(), captures_.end(),
                       [&](const Edge& edge) { return edge.node.get() == &node; });
  }

  void contribute(const Edge& target, Tensor gradient) {
    Task& receiver = task(target);
    if (gradient.defined())
      add_gradient(receiver.gradients[target.output_index], std::move(gradient));
    if (--receiver.pending == 0 && receiver.node->is_leaf()) finish_leaf(receiver);
  }

  void execute(Task& current) {
    Node& node = *current.node;
    run_output_hooks(current);
    if (!current.wanted) return;
    require_not_freed(node);  // a hook may have run backward through the same graph
    const std::unique_ptr<bool[]> needed(new bool[node.inputs.size()]);
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const Edge& input = node.inputs[i];
      needed[i] = input.node && (task(input).wanted || is_captured(*input.node));
    }
    std::vector<Tensor> input_gradients(node.inputs.size());
    const bool any = std::any_of(current.gradients.begin(), current.gradients.end(),
                                 [](const Tensor& g) { return g.defined(); });
    if (any) {
      const OpTimer timer(ProfileKind::backward, name(node.op));
      const std::vector<Tensor> sums = sums_of(node);
      Gradients sink({needed.get(), node.inputs.size()}, input_gradients, sums);
      node.function(current.gradients, sink);
      timer.gradients(current.gradients, input_gradients);
      timer.flops([&] {
        const bool second = node.inputs.size() > 1 && needed[1];
        return ops::backward_flops(node.op, node.flops, needed[0], second);
      });
    }
    const std::vector<Edge> inputs = node.inputs;
    if (!is_captured(node)) current.gradients.assign(current.gradients.size(), Tensor());
    if (!retain_graph_) release(node);
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!inputs[i].node) continue;
      Tensor& gradient = input_gradients[i];
      if (!needed[i]) gradient = {};
      if (gradient.defined()) check_gradient(node, i, inputs[i], gradient);
      contribute(inputs[i], std::move(gradient));
    }
  }

  // For each input the sum that a rule may add to in place: nobody else sees its memory.
  std::vector<Tensor> sums_of(const Node& node) {
    std::vector<Tensor> sums(node.inputs.size());
    for (size_t i = 0; i < sums.size(); ++i) {
      const Edge& input = node.inputs[i];
      if (!input.node) continue;
      const Tensor& sum = task(input).gradients[input.output_index];
      if (sum.defined() && sum.is_unique() && sum.is_contiguous()) sums[i] = sum;
    }
    return sums;
  }

  static void release(Node& node) {
    node.function = nullptr;
    node.inputs.clear();
    for (Node::Output& output : node.outputs) output.hooks = nullptr;
    node.freed = true;
  }

  static void check_gradient(const Node& node, size_t i, const Edge& edge, const Tensor& gradient) {
    const Node::Output& expected = edge.node->outputs[edge.output_index];
    TENDRIL_CHECK(gradient.shape() == expected.shape && gradient.dtype() == expected.dtype, "[",
                  name(node.op), "] its backward gave input ", i, " a gradient of ",
                  gradient.shape(), " ", gradient.dtype(), "; the input is ", expected.shape, " ",
                  expected.dtype);
  }

  static void run_output_hooks(Task& current) {
    for (size_t i = 0; i < current.gradients.size(); ++i) {
      Tensor& gradient = current.gradients[i];
      const Node::Output& output = current.node->outputs[i];
      const auto leaf = output.leaf.lock();
      const auto& list = leaf ? leaf->hooks : output.hooks;
      if (!list || !gradient.defined()) continue;
      const auto hooks = list->entries;  // a hook may remove itself
      for (const auto& [id, hook] : hooks) {
        const Tensor replacement = hook(gradient);
        if (!replacement.defined()) continue;
        TENDRIL_CHECK(
            replacement.shape() == gradient.shape() && replacement.dtype() == gradient.dtype(),
            "[register_hook] a hook must keep shape and dtype; got ", replacement.shape(), " ",
            replacement.dtype(), " for ", gradient.shape(), " ", gradient.dtype());
        gradient = replacement;
      }
    }
  }

  void finish_leaf(Task& current) {
    run_output_hooks(current);
    Tensor& gradient = current.gradients[0];
    Tensor leaf = current.node->leaf.lock();
    if (capturing_ || !leaf.defined() || !gradient.defined()) return;
    AutogradMeta& meta = *leaf.autograd_slot();
    if (!meta.requires_grad) return;  // frozen since the graph was recorded
    if (!meta.grad.defined()) {
      meta.grad = gradient.is_unique() && gradient.is_contiguous() ? std::move(gradient)
                                                                   : ops::clone(gradient);
    } else {
      const OpTimer timer(ProfileKind::backward, "accumulate");
      timer.touches(meta.grad, gradient, meta.grad);
      ops::accumulate(meta.grad, gradient);
    }
    gradient = {};
    run_grad_complete_hooks(leaf);
  }

  const std::vector<Edge>& captures_;
  bool capturing_;
  bool retain_graph_;
  std::unordered_map<Node*, Task> tasks_;
  std::vector<Task*> newest_first_;
};

// What after_backward() was given during the outermost pass of this thread; null outside of one.
thread_local std::vector<std::function<void()>>* after_pass = nullptr;

class AfterPass {
 public:
  AfterPass() : outermost_(!after_pass) {
    if (outermost_) after_pass = &actions_;
  }
  ~AfterPass() {
    if (outermost_) after_pass = nullptr;
  }
  AfterPass(const AfterPass&) = delete;
  AfterPass& operator=(const AfterPass&) = delete;
  void run() {
    if (outermost_) after_pass = nullptr;
    for (const auto& action : std::exchange(actions_, {})) action();
  }

 private:
  bool outermost_;
  std::vector<std::function<void()>> actions_;
};

}  // namespace

void run_backward(const std::vector<Edge>& roots, std::vector<Tensor> root_gradients,
                  bool retain_graph, const std::vector<Edge>& captures,
                  std::vector<Tensor>* captured) {
  const NoGradGuard no_grad;
  const ProfileRange range("backward");
  AfterPass after;
  BackwardPass pass(captures, retain_graph);
  pass.run(roots, root_gradients);
  if (captured) pass.collect(*captured);
  after.run();
}

}  // namespace detail

namespace {

void prepare_roots(const char* op, const std::vector<Tensor>& roots,
                   const std::vector<Tensor>& gradients, const BackwardOptions& options,
                   std::vector<detail::Edge>& edges, std::vector<Tensor>& seeds) {
  TENDRIL_CHECK(!options.create_graph, "[", op,
                "] gradients of gradients (create_graph) are not supported; "
                "compute second derivatives by finite differences of grad()");
  TENDRIL_CHECK(!roots.empty(), "[", op, "] needs at least one root");
  TENDRIL_CHECK(gradients.empty() || gradients.size() == roots.size(), "[", op, "] got ",
                roots.size(), " roots but ", gradients.size(),
                " gradients; give one for each root, or none");
  for (size_t i = 0; i < roots.size(); ++i) {
    const Tensor& root = roots[i];
    TENDRIL_CHECK(
        root.defined() && root.requires_grad(), "[", op, "] root ", i,
        " does not require grad: no input of its computation was marked with requires_grad_(), "
        "or recording was off");
    Tensor seed = gradients.empty() ? Tensor() : gradients[i];
    if (!seed.defined()) {
      TENDRIL_CHECK(root.numel() == 1, "[", op,
                    "] a root with more than one element needs a gradient; got shape ",
                    root.shape(), "; reduce it with sum() or mean(), or pass the gradient");
      seed = full(root.shape(), 1.0, root.dtype(), root.device());
    }
    TENDRIL_CHECK(seed.shape() == root.shape() && seed.dtype() == root.dtype() &&
                      seed.device() == root.device(),
                  "[", op, "] the gradient of root ", i, " must match it; got ", seed.shape(), " ",
                  seed.dtype(), " on ", seed.device(), " for ", root.shape(), " ", root.dtype(),
                  " on ", root.device());
    edges.push_back(detail::edge_of(root));
    seeds.push_back(seed.detach());
  }
}

}  // namespace

void after_backward(std::function<void()> action) {
  if (detail::after_pass)
    detail::after_pass->push_back(std::move(action));
  else
    action();
}

bool in_backward() { return detail::after_pass != nullptr; }

void backward(const std::vector<Tensor>& roots, const std::vector<Tensor>& gradients,
              const BackwardOptions& options) {
  std::vector<detail::Edge> edges;
  std::vector<Tensor> seeds;
  prepare_roots("backward", roots, gradients, options, edges, seeds);
  detail::run_backward(edges, std::move(seeds), options.retain_graph, {}, nullptr);
}

std::vector<Tensor> grad(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
                         const std::vector<Tensor>& gradients, const BackwardOptions& options,
                         bool allow_unused) {
  std::vector<detail::Edge> edges, captures;
  std::vector<Tensor> seeds, result;
  prepare_roots("grad", outputs, gradients, options, edges, seeds);
  for (const Tensor& input : inputs) {
    TENDRIL_CHECK(input.defined() && input.requires_grad(), "[grad] input ", captures.size(),
                  " does not require grad; mark it with requires_grad_() before the computation");
    captures.push_back(detail::edge_of(input));
  }
  if (captures.empty()) return {};
  detail::run_backward(edges, std::move(seeds), options.retain_graph, captures, &result);
  for (size_t i = 0; i < result.size(); ++i)
    TENDRIL_CHECK(allow_unused || result[i].defined(), "[grad] the outputs do not depend on input ",
                  i, "; pass allow_unused = true to get an undefined gradient for it");
  return result;
}

}  // namespace tendril
