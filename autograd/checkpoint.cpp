#include <tendril/autograd/checkpoint.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

#include <tendril/autograd/autocast.h>
#include <tendril/autograd/node.h>
#include <tendril/core/random.h>

namespace tendril {
namespace {

using Block = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

// During the first, unrecorded run: which tensors that require grad does the block read?
class Reads : public detail::CaptureScope {
 public:
  explicit Reads(const std::vector<Tensor>& inputs) {
    for (const Tensor& input : inputs)
      if (input.defined() && input.requires_grad()) note(input);
  }
  void note(const Tensor& input) override {
    const auto same = [&](const Tensor& seen) {
      return seen.autograd_slot() == input.autograd_slot();
    };
    if (std::none_of(tensors.begin(), tensors.end(), same)) tensors.push_back(input);
  }
  const detail::Edge* boundary_edge(const AutogradMeta&) const override { return nullptr; }

  std::vector<Tensor> tensors;
};

// During the recorded second run: the block's graph must end at what it reads instead of growing
// into the graph around it, so those tensors are given fresh leaves.
class Boundary : public detail::CaptureScope {
 public:
  explicit Boundary(const std::vector<Tensor>& reads) {
    for (const Tensor& tensor : reads) {
      auto leaf = std::make_shared<detail::Node>();
      leaf->sequence = detail::kLeafSequence;
      leaf->outputs.push_back({tensor.shape(), tensor.dtype(), {}});
      edges_[tensor.autograd_slot().get()] = {leaf, 0};
    }
  }
  void note(const Tensor&) override {}
  const detail::Edge* boundary_edge(const AutogradMeta& meta) const override {
    const auto found = edges_.find(&meta);
    return found == edges_.end() ? nullptr : &found->second;
  }

 private:
  std::unordered_map<const AutogradMeta*, detail::Edge> edges_;
};

// The generator as it was at the first run, for the duration of the second.
class ReplayRandomness {
 public:
  explicit ReplayRandomness(Generator::State state) : outer_(default_generator().state()) {
    default_generator().set_state(state);
  }
  ~ReplayRandomness() { default_generator().set_state(outer_); }
  ReplayRandomness(const ReplayRandomness&) = delete;
  ReplayRandomness& operator=(const ReplayRandomness&) = delete;

 private:
  Generator::State outer_;
};

struct Recomputation {
  Block fn;
  std::vector<Tensor> inputs, reads;
  std::vector<Saved> unchanged;  // of `reads` and `inputs`: only to notice in-place changes
  Generator::State random;
  std::optional<DType> autocast;
  std::vector<Shape> output_shapes;

  void operator()(std::span<const Tensor> output_grads, Gradients& in) const {
    for (const Saved& saved : unchanged) saved.get();
    std::vector<detail::Edge> roots, captures;
    std::vector<Tensor> seeds, grads;
    {
      Boundary boundary(reads);
      const detail::ActivateScope active(boundary);
      const ReplayRandomness replay(random);
      const GradMode record_again(true);
      const AutocastGuard as_before(autocast);
      const std::vector<Tensor> outputs = fn(inputs);
      require_same_outputs(outputs);
      for (size_t i = 0; i < outputs.size(); ++i) {
        if (!output_grads[i].defined() || !outputs[i].requires_grad()) continue;
        roots.push_back(detail::edge_of(outputs[i]));
        seeds.push_back(output_grads[i]);
      }
      for (const Tensor& tensor : reads) captures.push_back(detail::edge_of(tensor));
    }
    if (roots.empty()) return;
    detail::run_backward(roots, std::move(seeds), false, captures, &grads);
    for (size_t i = 0; i < grads.size(); ++i)
      if (in.needs(i) && grads[i].defined()) in.set(i, std::move(grads[i]));
  }

  void require_same_outputs(const std::vector<Tensor>& outputs) const {
    bool same = outputs.size() == output_shapes.size();
    for (size_t i = 0; same && i < outputs.size(); ++i)
      same = outputs[i].shape() == output_shapes[i];
    TENDRIL_CHECK(same,
                  "[checkpoint] the recomputed block returned other outputs than the first time; "
                  "it must depend only on the tensors it reads and on random numbers");
  }
};

}  // namespace

std::vector<Tensor> checkpoint_many(Block fn, const std::vector<Tensor>& inputs) {
  if (!grad_enabled()) return fn(inputs);
  const OpTimer timer;
  const Generator::State random = default_generator().state();
  Reads reads(inputs);
  std::vector<Tensor> outputs;
  {
    const NoGradGuard no_grad;
    const detail::ActivateScope active(reads);
    outputs = fn(inputs);
  }
  for (Tensor& output : outputs)
    output = output.detach();  // the block may return an input as it is
  Recomputation again{std::move(fn), inputs, reads.tensors, {}, random, autocast_dtype(), {}};
  for (const Tensor& tensor : reads.tensors) again.unchanged.emplace_back(tensor);
  for (const Tensor& tensor : inputs) again.unchanged.emplace_back(tensor);
  for (const Tensor& output : outputs) again.output_shapes.push_back(output.shape());
  record_outputs(Op::checkpoint, outputs, reads.tensors, std::move(again));
  return outputs;
}

Tensor checkpoint(std::function<Tensor(const std::vector<Tensor>&)> fn,
                  const std::vector<Tensor>& inputs) {
  const auto as_list = [fn = std::move(fn)](const std::vector<Tensor>& in) {
    return std::vector<Tensor>{fn(in)};
  };
  return checkpoint_many(as_list, inputs)[0];
}

}  // namespace tendril
